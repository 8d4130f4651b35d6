"""FOML: the last inner displacement by hand, its relation to Reptile, and which samples make up the last minibatch."""

import pytest
import torch
import tyro
from torch import nn

from fastadapt import MLP, MSE, SGD, Adam, CrossEntropy, Execution, Momentum, Reptile, Task, Tasks
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import FOML
from fastadapt.methods.foml import separate_tail
from fastadapt.methods.minibatches import minibatch_order
from fastadapt.methods.settings import FOMLMethod, ReptileMethod
from fastadapt.runs.config import RunConfig
from fastadapt.tasks import Collector
from reference import adam, adapted, difference, grads_of, sgd

pytestmark = pytest.mark.usefixtures("double")
both_routes = pytest.mark.parametrize("route", ["vmap", "loop"])


def net(outputs=1):
    return MLP(2, (5,), outputs, activation="tanh", init_std=None)


def regressions(count=3, shots=6):
    batches = [(torch.randn(shots, 2), torch.randn(shots, 1)) for _ in range(count)]
    return [Task(batch, batch) for batch in batches]


def classification(labels):
    batch = (torch.randn(len(labels), 2), torch.tensor(labels))
    return Task(batch, batch)


def pseudo_gradient(learner, batch):
    """Return the gradients of a call from seed 5, which decides on the minibatches."""
    learner.zero_grad()
    torch.manual_seed(5)
    learner(batch).loss.backward()
    if learner.engine.route == "vmap":
        assert {plan.route for plan in learner.engine.plans.values()} == {"vmap"}
    return {n: g.clone() for n, g in grads_of(learner.model).items()}


def walked(model, loss, batches, step):
    """Return the weights before and after the last of the inner steps on these batches, by plain autograd."""
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    path, memory = [theta], {n: {} for n in theta}
    for batch in batches:
        at = path[-1]
        value = loss(lambda x, at=at: torch.func.functional_call(model, at, (x,)), batch)
        grads = torch.autograd.grad(value, list(at.values()))
        moved = {n: step(at[n], g, memory[n]) for n, g in zip(at, grads, strict=True)}
        path.append({n: p.detach().requires_grad_() for n, p in moved.items()})
    return path[-2], path[-1]


# ---- the update ----------------------------------------------------------------------------------


@both_routes
@pytest.mark.parametrize(("ours", "theirs"), [(SGD(0.1), sgd(0.1)), (Adam(0.01), adam(0.01, 0.0))])
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_pseudo_gradient_is_the_mean_of_the_last_inner_displacements(ours, theirs, steps, route):
    model, batch = net(), regressions()
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    want = {n: torch.zeros_like(p) for n, p in theta.items()}
    for task in batch:
        before, end = (
            adapted(model, MSE(), theta, task.support, theirs, k, first_order=True) for k in (steps - 1, steps)
        )
        want = {n: want[n] + (before[n] - end[n]).detach() / len(batch) for n in want}
    got = pseudo_gradient(FOML(model, rule=ours, steps=steps, route=route), batch)
    assert difference(got, want) < 1e-12


@both_routes
@pytest.mark.parametrize("state", ["reset", "serial", "mean"])
def test_one_step_is_reptile(state, route):
    model, batch = net(), regressions()
    settings = {"rule": Adam(0.01), "steps": 1, "batch": 2, "inner_state": state, "route": route}
    want = pseudo_gradient(Reptile(model, **settings), batch)
    assert difference(pseudo_gradient(FOML(model, **settings), batch), want) == 0


@both_routes
def test_it_is_what_the_last_step_adds_to_reptile(route):
    model, batch = net(), regressions()
    long, short = (pseudo_gradient(Reptile(model, rule=SGD(0.1), steps=k, route=route), batch) for k in (3, 2))
    got = pseudo_gradient(FOML(model, rule=SGD(0.1), steps=3, route=route), batch)
    assert difference(got, {n: long[n] - short[n] for n in long}) < 1e-12


@pytest.mark.parametrize("state", ["reset", "serial", "mean"])
@pytest.mark.parametrize("rule", [Adam(0.01, beta1=0.5), Momentum(0.1)])
def test_path_and_kept_state_are_those_of_reptile_and_only_what_is_made_of_them_differs(rule, state):
    model, batch = net(), regressions()
    learners = [kind(model, rule=rule, steps=3, batch=2, inner_state=state) for kind in (Reptile, FOML)]
    for _ in range(2):
        full, last = (pseudo_gradient(learner, batch) for learner in learners)
        assert difference(last, full) > 0.1
        for (name, kept), other in zip(
            learners[0].state_dict().items(), learners[1].state_dict().values(), strict=True
        ):
            assert torch.equal(kept, other), name
    assert torch.equal(learners[1].trace(batch).losses, learners[0].trace(batch).losses)


def test_serial_moments_scale_the_last_step_of_the_next_task():
    model, batch = net(), regressions(2)
    memory = {n: {} for n, _ in model.named_parameters()}
    step = adam(0.01, 0.5)
    learner = FOML(model, rule=Adam(0.01, beta1=0.5), steps=2, inner_state="serial")
    want = []
    for task in batch:
        theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
        for _ in range(2):
            value = MSE()(lambda x, at=theta: torch.func.functional_call(model, at, (x,)), task.support)
            grads = torch.autograd.grad(value, list(theta.values()))
            before = theta
            moved = {n: step(theta[n], g, memory[n]) for n, g in zip(theta, grads, strict=True)}
            theta = {n: p.detach().requires_grad_() for n, p in moved.items()}
        want.append({n: before[n] - theta[n] for n in theta})
    got = pseudo_gradient(learner, batch)
    assert difference(got, {n: (want[0][n] + want[1][n]) / 2 for n in got}) < 1e-12


def test_parameters_that_do_not_adapt_stay_where_they_are():
    grads = pseudo_gradient(FOML(net(), rule=SGD(0.1), steps=2, adapt="head"), regressions())
    assert not grads["body.0.weight"].any() and grads["head.weight"].any()


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.phi = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self):
        return self.phi


def bowl(model, batch):
    a, c = batch
    away = model() - c[0]
    return 0.5 * away @ a[0] @ away


@both_routes
def test_three_bowls_give_the_golden_directions(route):
    """A minibatch of one bowl at each step: the directions of the leading-order analysis at alpha = 0.01."""
    a = torch.tensor([[[2.0, 0.5], [0.5, 1.0]], [[1.0, 0.0], [0.0, 3.0]], [[1.5, -0.5], [-0.5, 1.0]]])
    c = torch.tensor([[0.0, 1.0], [2.0, 0.0], [-1.0, 1.0]])
    torch.manual_seed(5)
    place = minibatch_order(3, 1, 3).flatten().argsort()  # such that the stream comes by bowls 1, 2, 3
    task = Task((a[place], c[place]), (a, c))
    for kind, golden in ((FOML, [2.51515, -0.067175]), (Reptile, [3.99015, 7.387825])):
        learner = kind(Point(), bowl, rule=SGD(0.01), steps=3, batch=1, route=route)
        got = pseudo_gradient(learner, task)["phi"] / 0.01
        torch.testing.assert_close(got, torch.tensor(golden), rtol=0, atol=1e-12)


# ---- which samples make up the last minibatch ----------------------------------------------------


def flat(rows):
    return [i for row in rows for i in row]


def seen(learner_of, labels, calls=1):
    """Return the sample numbers of every inner step, from a loss that writes down which samples it was given."""
    steps = []

    def loss(model, batch):
        x, _ = batch
        steps.append(x[:, 0].long().tolist())
        return model(x).square().mean()

    numbers = torch.arange(len(labels), dtype=torch.get_default_dtype())
    batch = (torch.stack([numbers, numbers], 1), torch.tensor(labels))
    learner = learner_of(net(), loss, rule=SGD(0.0), route="loop")
    for _ in range(calls):
        learner([Task(batch, batch)])
    return steps


def test_the_shared_tail_is_the_next_of_the_stream_and_repeats_when_the_samples_are_used_up():
    five = seen(lambda *a, **k: FOML(*a, steps=5, batch=25, **k), [0] * 100)
    assert sorted(flat(five[:4])) == list(range(100))
    assert len(set(five[4])) == 25 and set(five[4]) < set(flat(five[:4]))
    once = seen(lambda *a, **k: FOML(*a, steps=5, batch=10, **k), [0] * 50)
    assert sorted(flat(once)) == list(range(50))
    afresh = seen(lambda *a, **k: FOML(*a, steps=4, batch=25, replacement=True, **k), [0] * 100)
    assert all(len(set(rows)) == 25 for rows in afresh) and len(set(flat(afresh))) < 100


@pytest.mark.parametrize("replacement", [False, True])
def test_the_separate_tail_has_so_many_of_each_class_and_nothing_that_was_seen_before(replacement):
    labels = [4, 1, 9] * 6
    steps = seen(lambda *a, **k: FOML(*a, steps=5, batch=4, tail=2, replacement=replacement, **k), labels, calls=10)
    tails = []
    for call in range(10):
        *before, last = steps[5 * call : 5 * call + 5]
        assert sorted(labels[i] for i in last) == [1, 1, 4, 4, 9, 9] and len(set(last)) == 6
        assert [len(set(rows)) for rows in before] == ([4] * 4 if replacement else [len(set(r)) for r in before])
        assert all(len(rows) == 4 for rows in before) and not set(flat(before)) & set(last)
        if not replacement:  # 12 others, 4 at a time: one pass, and one more minibatch of the next
            assert set(flat(before[:3])) == set(range(18)) - set(last)
        tails.append(frozenset(last))
    assert len(set(tails)) > 5  # chosen anew for every task


def test_without_a_batch_size_the_other_steps_take_all_other_samples():
    first, second, last = seen(lambda *a, **k: FOML(*a, steps=3, tail=1, **k), [0, 0, 0, 1, 1])
    assert sorted(first) == sorted(second) and len(first) == 3 and len(last) == 2
    assert sorted(first + last) == list(range(5))


def test_a_single_step_takes_the_tail_alone_which_may_be_everything():
    [last] = seen(lambda *a, **k: FOML(*a, steps=1, tail=3, **k), [0, 0, 0, 1, 1, 1])
    assert sorted(last) == list(range(6))


@pytest.mark.parametrize("labels", [[0.0] * 6, [[0, 1]] * 6])
def test_what_has_no_classes_counts_samples(labels):
    *before, last = seen(lambda *a, **k: FOML(*a, steps=3, batch=2, tail=2, **k), labels)
    assert len(last) == 2 and sorted(flat([*before, last])) == list(range(6))


@both_routes
def test_a_separate_tail_is_the_last_displacement_by_hand_also_for_mixed_numbers_of_classes(route):
    """Four tasks of six samples, of which the tails of two have two classes and of two have three."""
    model = net(3)
    labels = [[0, 1, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2], [2, 2, 2, 0, 0, 0], [2, 1, 0, 0, 1, 2]]
    batch = [classification(own) for own in labels]
    learner = FOML(model, CrossEntropy(), rule=SGD(0.1), steps=3, batch=2, tail=1, route=route)
    got = pseudo_gradient(learner, batch)
    torch.manual_seed(5)
    want, last_losses = {n: torch.zeros_like(p) for n, p in model.named_parameters()}, []
    for task in batch:
        x, y = task.support
        others, last = separate_tail(y, 1)
        rows = [*others[minibatch_order(len(others), 2, 2)], last]
        before, end = walked(model, CrossEntropy(), [(x[r], y[r]) for r in rows], sgd(0.1))
        at_last = torch.func.functional_call(model, before, (x[last],))
        last_losses.append(torch.nn.functional.cross_entropy(at_last, y[last]).detach())
        want = {n: want[n] + (before[n] - end[n]).detach() / 4 for n in want}
    assert difference(got, want) < 1e-12
    torch.manual_seed(5)
    losses = learner(batch).losses
    torch.testing.assert_close(losses, torch.stack(last_losses))  # and they come in the order of the tasks


@pytest.mark.parametrize(("kind", "more"), [(ReptileMethod, {}), (FOMLMethod, {"tail": 2})])
def test_with_a_sum_the_rate_is_per_sample_whatever_the_minibatch(kind, more):
    # three steps of 2, 2 and, in a tail, 4 samples
    model, task = net(2), classification([0, 0, 0, 0, 1, 1, 1, 1])
    settings = {"inner_rule": "sgd", "inner_lr": 0.05, "steps": 3, "batch": 2, "inner_state": "reset", **more}
    summed = kind(loss_reduction="sum", **settings).build(model, CrossEntropy())
    got = pseudo_gradient(summed, [task])
    plain = FOML if more else Reptile

    def by_hand(module, batch):
        return nn.functional.cross_entropy(module(batch[0]), batch[1], reduction="sum")

    want = pseudo_gradient(plain(model, by_hand, rule=SGD(0.05), steps=3, batch=2, **more), [task])
    assert difference(got, want) < 1e-12
    mean = pseudo_gradient(kind(**{**settings, "inner_lr": 0.1}).build(model, CrossEntropy()), [task])
    assert (difference(got, mean) < 1e-12) == (kind is ReptileMethod)  # alike for minibatches of one size only


def test_test_tasks_have_no_tail():
    model, [task] = net(2), [classification([0, 0, 1, 1])]
    settings = {"rule": SGD(0.1), "steps": 2, "test_steps": 3, "test_batch": 2}
    plain, apart = (FOML(model, CrossEntropy(), tail=tail, **settings) for tail in (None, 2))
    assert torch.equal(plain.trace(task).losses, apart.trace(task).losses)
    x = torch.randn(3, 2)
    assert torch.equal(plain.adapt(task.support)(x), apart.adapt(task.support)(x))


@pytest.mark.parametrize("state", ["serial", "mean"])
def test_a_tail_goes_with_every_kept_state(state):
    model, batch = net(2), [classification([0, 0, 0, 1, 1, 1]) for _ in range(3)]
    one, other = (
        FOML(model, CrossEntropy(), rule=Momentum(0.1), steps=3, batch=2, tail=1, inner_state=state, route=route)
        for route in ("vmap", "loop")
    )
    for _ in range(2):
        assert difference(pseudo_gradient(one, batch), pseudo_gradient(other, batch)) < 1e-12
    assert max(float(leaf.abs().max()) for leaf in one.rule_state.buffers()) > 0


@both_routes
@pytest.mark.parametrize("adapt", ["all", "head"])
@pytest.mark.parametrize("longest", [0, 3000])  # step by step, and as one program
def test_recorded_programs_give_the_eager_numbers(longest, adapt, route, monkeypatch):
    monkeypatch.setattr("fastadapt.engine.programs.LONGEST", longest)
    model, batch = net(2), [classification([0, 1] * 4) for _ in range(3)]
    settings = {"rule": SGD(0.1), "steps": 3, "batch": 4, "tail": 1, "adapt": adapt}
    want = pseudo_gradient(FOML(model, CrossEntropy(), route="loop", **settings), batch)
    learner = FOML(model, CrossEntropy(), route=Execution(route=route, compile="trace", threads=2), **settings)
    for _ in range(2):  # the first time checks, the second runs
        assert difference(pseudo_gradient(learner, batch), want) < 1e-12
    assert {plan.compile for plan in learner.engine.plans.values()} == {"trace"}


def test_stacked_tasks_and_collectors_are_taken_as_well():
    x, y = torch.randn(3, 6, 2), torch.arange(6).remainder(2).repeat(3, 1)
    learner = FOML(net(2), CrossEntropy(), rule=SGD(0.1), steps=2, tail=1)
    listed = pseudo_gradient(learner, [Task((x[i], y[i]), (x[i], y[i])) for i in range(3)])
    assert difference(pseudo_gradient(learner, Tasks((x, y), (x, y))), listed) == 0
    collected = Task(Collector(lambda model: (x[0], y[0])), Collector(lambda model: (x[0], y[0])))
    whole = FOML(learner.model, CrossEntropy(), rule=SGD(0.1), steps=2)
    want = pseudo_gradient(whole, Task((x[0], y[0]), (x[0], y[0])))
    assert difference(pseudo_gradient(learner, collected), want) < 1e-12


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "tail", "says"),
    [
        ([0, 0, 0, 1], 2, "tail=2 keeps 2 samples of each class apart, and a class of a task has 1 "),
        ([0.0, 1.0], 3, "tail=3 .* has 2 .*draw more shots, or take a smaller tail$"),
        ([0, 0, 1, 1], 2, "tail=2 keeps all samples .* leaves none for the 2 before it; draw more shots"),
    ],
)
def test_a_tail_that_the_samples_do_not_fill_is_refused_in_a_sentence(labels, tail, says):
    with pytest.raises(TaskError, match=says):
        FOML(net(2), CrossEntropy(), rule=SGD(0.1), steps=3, tail=tail)(classification(labels))


@pytest.mark.parametrize("setting", [{"tail": 0}, {"tail": -1}, {"batch": 0}, {"inner_state": "keep"}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError):
        FOML(net(), **setting)


def test_the_tail_tells_one_learner_from_another():
    signatures = [FOML(net(), tail=tail).signature() for tail in (None, 1)]
    assert [s["tail"] for s in signatures] == [None, 1] and signatures[0]["learner"] == "FOML"
    assert signatures[0]["batch"] is None and signatures[0]["inner_state"] == "reset"


def test_it_is_the_method_of_a_run():
    config = RunConfig(method=FOMLMethod(inner_rule="sgd", steps=4, batch=25, tail=5, inner_state="reset"))
    again = RunConfig.from_json(config.to_json())
    assert again == config and '"kind": "FOMLMethod"' in config.to_json()
    learner = again.build()
    assert type(learner) is FOML and (learner.tail, learner.batch, learner.steps) == (5, 25, 4)
    assert type(RunConfig(method=ReptileMethod()).build()) is Reptile


def test_the_command_line_takes_it_for_what_it_is():
    presets = {"foml": ("", RunConfig(method=FOMLMethod(steps=4))), "reptile": ("", RunConfig(method=ReptileMethod()))}
    found = tyro.extras.overridable_config_cli(presets, args=["foml", "--method.tail", "5"])
    assert found.method == FOMLMethod(steps=4, tail=5)
    assert type(tyro.extras.overridable_config_cli(presets, args=["reptile"]).method) is ReptileMethod
