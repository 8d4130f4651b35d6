"""What is asked of every member of the zoo: the library's numbers beside the written-out ones."""

import copy
import re
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from fastadapt import MAML, SGD, Adam, Execution, FastadaptError, Reptile, Task
from zoo import reference

TOLERANCE = 1e-10
RULES = {
    "sgd": (SGD(0.2), reference.sgd(0.2)),
    "adam": (Adam(0.05, beta1=0.9, beta2=0.99), reference.adam(0.05, 0.9, 0.99)),
}
ROUTES = {"loop": "loop", "vmap": "vmap", "trace": Execution(route="loop", compile="trace")}
ORDERS = ("exact", "first_order")
STEPS = (1, 3, 7)
RECORDED = 24


@dataclass(frozen=True)
class Setting:
    steps: int
    rule: str
    order: str
    route: str

    def __str__(self):
        return f"{self.rule}{self.steps}-{self.order}-{self.route}"


EVERY = [Setting(k, rule, order, route) for k in STEPS for rule in RULES for order in ORDERS for route in ROUTES]
LOOP, VMAP = Setting(3, "sgd", "exact", "loop"), Setting(3, "sgd", "exact", "vmap")


def settings_of(specimen):
    return [s for s in EVERY if getattr(specimen, s.order) is not None]


def cases(zoo, closely=()):
    """Return the settings of the default suite, as many as a minute allows, and those that are long.

    By default they are one for all, vmap for every second specimen and those that are looked at `closely`, the
    specimen's own, and for a few a recorded program, which takes seconds to make. Another one in turn for the rest and
    for those is long.
    """
    eager = [s for s in EVERY if s not in (LOOP, VMAP) and s.route != "trace"]
    recorded = [s for s in EVERY if s.route == "trace" and s.steps < max(STEPS)]
    out = []
    for i, (name, specimen) in enumerate(zoo.items()):
        chosen = [LOOP, *(Setting(*s) for s in specimen.also)]
        chosen += [VMAP] if i % 2 == 0 or name in closely else []
        rest = [eager[7 * (i // 2) % len(eager)]] if i % 2 or name in closely else []
        chosen += [recorded[3 * (i // RECORDED) % len(recorded)]] if i % RECORDED == 0 else []
        for s in settings_of(specimen):
            if s in chosen or s in rest:
                out.append(pytest.param(name, s, id=f"{name}-{s}", marks=() if s in chosen else pytest.mark.long))
    return out


def in_turn(zoo, *choices):
    """Give each specimen one of the choices."""
    chosen = [(name, *choices[i % len(choices)]) for i, name in enumerate(zoo)]
    return [pytest.param(*values, id="-".join(map(str, values))) for values in chosen]


def tasks_of(specimen, count=2):
    def batch(n):
        return specimen.inputs(n), specimen.targets(n)

    return [Task(batch(4), batch(3)) for _ in range(count)]


class Written:
    """The specimen's parameters as the reference sees them: copies, frozen where they are frozen now."""

    def __init__(self, specimen, model, loss):
        self.specimen = specimen
        extras = specimen.extras(loss)
        found = {**dict(model.named_parameters()), **extras}
        leaves = {n: p.detach().clone().requires_grad_(p.requires_grad) for n, p in found.items()}
        self.wrt = {n: p for n, p in leaves.items() if p.requires_grad}
        self.names = [n for n in self.wrt if n not in extras and specimen.moves(n)]
        self.theta = {**leaves, **{n: b.detach().clone() for n, b in model.named_buffers()}}


def made(specimen, kind, **settings):
    model = specimen.build()
    loss = specimen.loss if specimen.loss_of is None else specimen.loss_of(model)
    learner = kind(model, loss, **settings, **specimen.settings)
    specimen.after(model)
    return learner, model, loss, Written(specimen, model, loss)


def assert_equal(got, want):
    far = reference.error(got, want)
    assert far < TOLERANCE, f"{', '.join(want)}: relative error {far:.1e}"


def kept(model):
    state = {n: v.clone() if isinstance(v, Tensor) else copy.deepcopy(v) for n, v in model.state_dict().items()}
    return state, {n: id(p) for n, p in model.named_parameters(remove_duplicate=False)}


def assert_untouched(model, before):
    state, places = before
    for name, value in model.state_dict().items():
        same = torch.equal(value, state[name]) if isinstance(value, Tensor) else value == state[name]
        assert same, f"{name} of the learner's own module was changed"
    now = {n: id(p) for n, p in model.named_parameters(remove_duplicate=False)}
    assert now == places, f"other objects than before: {[n for n in places if now.get(n) != places[n]]}"
    assert all(type(p) is nn.Parameter for p in model.parameters()), "a parameter is none any more"


def meta_gradients(specimen, setting):
    """Return losses and gradients of the library and of the reference, the last call of the learner."""
    rule, step = RULES[setting.rule]
    learner, model, loss, written = made(
        specimen, MAML, rule=rule, steps=setting.steps, meta_gradient=setting.order, route=ROUTES[setting.route]
    )
    tasks, before = tasks_of(specimen), kept(model)
    want = reference.maml(
        specimen.written_out,
        written.theta,
        written.names,
        written.wrt,
        tasks,
        step,
        setting.steps,
        first_order=setting.order == "first_order",
    )
    leaves = {**dict(model.named_parameters()), **specimen.extras(loss)}
    for _ in range(1 if setting.route == "vmap" else 2):  # vmap is tried several times before it is chosen
        for p in leaves.values():
            p.grad = None
        outcome = learner(tasks)
        outcome.loss.backward()
    assert_untouched(model, before)
    assert all(p.grad is None for p in leaves.values() if not p.requires_grad)
    return (outcome.losses, {n: p.grad for n, p in leaves.items() if p.requires_grad}), want


def refusable(check, specimen, expected):
    """Run a check of what may be refused, or has to be, in a sentence that says what to do."""
    try:
        check()
    except FastadaptError as error:
        if expected == "right":
            raise
        assert re.search(specimen.says, str(error)), error
    else:
        assert expected != "refused", "it was not refused"


def check_meta_gradient(specimen, setting):
    def compare():
        (losses, got), (want_losses, want) = meta_gradients(specimen, setting)
        assert_equal({"losses": losses}, {"losses": want_losses})
        assert_equal(got, want)

    refusable(compare, specimen, getattr(specimen, setting.order))


def check_adapt(specimen, rule, steps):
    """Compare the adapted parameters, the predictor's answer, and that the learner stays as it was."""
    given, step = RULES[rule]
    learner, model, _, written = made(specimen, MAML, rule=given, steps=steps)
    [task], before = tasks_of(specimen, 1), kept(model)
    objective = specimen.written_out_in_evaluation
    end = reference.descend(objective, written.theta, written.names, task.support, step, steps, first_order=True)[-1]
    for _ in range(2):
        predict = learner.adapt(task.support)
    adapted = dict(predict.model.named_parameters())
    assert_equal(adapted, {n: end[n] for n, _ in model.named_parameters()})
    if specimen.answers:
        with torch.no_grad():
            answer, want = predict(task.query[0]), specimen.twin(end, task.query[0])
        assert_equal({"answer": answer}, {"answer": want})
    assert_untouched(model, before)


def check_trace(specimen, rule, steps, route):
    given, step = RULES[rule]
    learner, model, _, written = made(specimen, MAML, rule=given, steps=steps, route=ROUTES[route])
    tasks, before = tasks_of(specimen), kept(model)
    want = reference.traced(specimen.written_out_in_evaluation, written.theta, written.names, tasks, step, steps)
    got = learner.trace(tasks).losses
    assert_equal({"losses": got}, {"losses": want})
    assert_untouched(model, before)


def check_reptile(specimen, rule, steps, route):
    """Compare the displacement; it is no derivative, so what would get none has to be refused by name."""
    if specimen.displaced:
        _check_displacement(specimen, rule, steps, route)
        return
    with pytest.raises(FastadaptError, match=r"requires a gradient, and"):
        _check_displacement(specimen, rule, steps, route)


def _check_displacement(specimen, rule, steps, route):
    given, step = RULES[rule]
    learner, model, _, written = made(specimen, Reptile, rule=given, steps=steps, route=ROUTES[route])
    tasks, before = tasks_of(specimen), kept(model)
    want = reference.reptile(specimen.written_out, written.theta, written.names, tasks, step, steps)
    learner(tasks).loss.backward()
    got = {n: p.grad for n, p in model.named_parameters() if n in want}
    assert_equal(got, want)
    assert_untouched(model, before)


def check(what, specimen, *settings):
    """Run a check that takes first derivatives alone."""
    refusable(lambda: what(specimen, *settings), specimen, specimen.first_order)


def check_twin(specimen):
    """Compare the module itself and its twin in torch alone: what fails here is a fault of the zoo."""
    model = specimen.build()
    loss = specimen.loss if specimen.loss_of is None else specimen.loss_of(model)
    specimen.after(model)
    written = Written(specimen, model, loss)
    task = tasks_of(specimen, 1)[0]
    value = loss(model, task.support)
    value.backward()
    leaves = {**dict(model.named_parameters()), **specimen.extras(loss)}
    got = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in leaves.items() if p.requires_grad}
    want = specimen.written_out(written.theta, task.support)
    assert_equal({"loss": value}, {"loss": want})
    assert_equal(got, reference.gradients(want, written.wrt, create_graph=False))


def check_everything(specimen):
    """Run every check in every setting, and tell all of those that failed."""
    ways = [(check_meta_gradient, (s,)) for s in settings_of(specimen)]
    for rule in RULES:
        for steps in STEPS:
            ways.append((check_adapt, (rule, steps)))
            ways += [(kind, (rule, steps, route)) for kind in (check_trace, check_reptile) for route in ROUTES]
    failed = []
    for kind, settings in ways:
        torch.manual_seed(0)
        try:
            kind(specimen, *settings) if kind is check_meta_gradient else check(kind, specimen, *settings)
        except Exception as error:
            words = str(error).strip().splitlines() or [""]
            failed.append(f"{kind.__name__} {' '.join(map(str, settings))}: {type(error).__name__} {words[0][:120]}")
    assert not failed, f"{len(failed)} of {len(ways)}:\n" + "\n".join(failed)
