"""MAML++: each switch against MAML, finite differences and a twin by hand; what is annealed follows the outer step."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, CrossEntropy, Momentum, Protocol, Task, Training, evaluate, meta_train
from fastadapt.errors import ConfigError
from fastadapt.methods import MAMLPlusPlus
from fastadapt.methods.mamlpp import multi_step_weights
from fastadapt.rules.rates import Stepwise, learned_rates

pytestmark = pytest.mark.usefixtures("double")
OFF = {"multi_step_epochs": 0, "step_affine": False, "norm": "transductive"}
LOOP = {**OFF, "route": "loop"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.first(x))))


def classes(n):
    return torch.randn(n, 3), torch.arange(n) % 2


def tasks(count=3):
    return [Task(classes(6), classes(4)) for _ in range(count)]


def gradients(learner, batch):
    learner.zero_grad()
    outcome = learner(batch)
    outcome.loss.backward()
    return outcome.loss.detach(), {name: p.grad for name, p in learner.named_parameters() if p.grad is not None}


def same(got, want):
    torch.testing.assert_close(got[0], want[0], rtol=1e-12, atol=1e-14)
    for name in want[1]:
        torch.testing.assert_close(got[1][name], want[1][name], rtol=1e-10, atol=1e-13, msg=name)


@pytest.mark.parametrize(
    ("epoch", "others", "last"),
    [(0, 0.2, 0.2), (5, 0.13333, 0.46667), (14, 0.01333, 0.94667), (15, 0.0, 1.0)],
)
def test_the_weights_of_the_steps_are_those_of_the_public_code(epoch, others, last):
    assert [round(w, 5) for w in multi_step_weights(5, epoch, 15)] == [others] * 4 + [last]


@pytest.mark.parametrize(("steps", "epochs"), [(5, 15), (5, 10), (1, 15), (3, 100)])
def test_the_weights_sum_to_one_and_move_to_the_last_step(steps, epochs):
    rows = [multi_step_weights(steps, epoch, epochs) for epoch in range(epochs + 2)]
    assert all(abs(sum(row) - 1) < 1e-12 for row in rows)
    for before, after in pairwise(rows):
        assert all(b <= a for a, b in zip(before[:-1], after[:-1], strict=True)) and after[-1] >= before[-1]


@pytest.mark.parametrize("route", ["loop", pytest.param("vmap", marks=pytest.mark.long)])
def test_with_all_switches_off_it_is_maml(route):
    net, batch = Net(), tasks()
    settings = {"rule": SGD(0.1), "steps": 3, "route": route}
    same(gradients(MAMLPlusPlus(net, CrossEntropy(), **OFF, **settings), batch),
         gradients(MAML(net, CrossEntropy(), **settings), batch))  # fmt: skip


def test_equal_rates_for_all_steps_are_one_rate():
    net, batch = Net(), tasks()
    stepwise = Stepwise(SGD(learned_rates(net, 0.1, per="tensor", steps=3)))
    learner = MAMLPlusPlus(net, CrossEntropy(), rule=stepwise, steps=3, **LOOP)
    same(gradients(learner, batch), gradients(MAML(net, CrossEntropy(), rule=SGD(0.1), steps=3, route="loop"), batch))


@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_when_the_loss_is_annealed_the_last_step_counts_alone(order):
    net, batch = Net(), tasks()
    learner = MAMLPlusPlus(net, CrossEntropy(), rule=SGD(0.1), steps=3, epoch=2, **{**LOOP, "multi_step_epochs": 4})
    learner.differentiation = MAML(net, meta_gradient=order).differentiation
    learner.in_the_end = learner.differentiation
    plain = {"rule": SGD(0.1), "steps": 3, "meta_gradient": order, "route": "loop"}
    learner.at_step(3)
    same(gradients(learner, batch),
         gradients(MAML(net, CrossEntropy(), step_weights=multi_step_weights(3, 1, 4), **plain), batch))  # fmt: skip
    learner.at_step(8)
    same(gradients(learner, batch), gradients(MAML(net, CrossEntropy(), **plain), batch))


def test_the_first_epochs_take_inner_gradients_as_constants():
    net, batch = Net(), tasks()
    learner = MAMLPlusPlus(net, CrossEntropy(), rule=SGD(0.1), steps=2, first_order_epochs=2, epoch=3, **LOOP)
    plain = {"rule": SGD(0.1), "steps": 2, "route": "loop"}
    for step, order in ((0, "first_order"), (5, "first_order"), (6, "exact")):
        learner.at_step(step)
        same(gradients(learner, batch), gradients(MAML(net, CrossEntropy(), meta_gradient=order, **plain), batch))
    assert learner.signature()["meta_gradient"] == "exact"  # of the whole training, whatever step comes next


@pytest.mark.long
@pytest.mark.parametrize(("route", "norm"), [("loop", "transductive"), ("vmap", "support")])
def test_every_gradient_is_that_of_finite_differences(route, norm):
    net, batch = Net(), tasks(2)
    rule = Stepwise(SGD(learned_rates(net, (0.05, 0.3), per="tensor", steps=3)))
    learner = MAMLPlusPlus(net, CrossEntropy(), rule=rule, steps=3, multi_step_epochs=3, norm=norm, route=route)
    with torch.no_grad():
        for p in learner.step_affine.parameters():
            p.add_(0.3 * torch.randn_like(p))
    _, grads = gradients(learner, batch)
    kinds = {name.split(".")[0] for name, g in grads.items() if g.abs().max() > 1e-6}
    assert kinds == {"model", "rates", "step_affine"}
    for name, p in learner.named_parameters():
        if name not in grads:  # the rate of what never adapts
            continue
        for i in sorted({0, p.numel() - 1}):
            ends = []
            for move in (1e-5, -1e-5):
                p.data.view(-1)[i] += move
                ends.append(float(learner(batch).loss.detach()))
                p.data.view(-1)[i] -= move
            assert abs((ends[0] - ends[1]) / 2e-5 - float(grads[name].view(-1)[i])) < 1e-8, name


def by_hand(learner, task):
    """Return the query loss after each step, written out: batch norm by its formula, the values of each step."""
    own = {name: p.detach() for name, p in learner.model.named_parameters()}
    weight, bias = (torch.cat((own[f"norm.{n}"][None], v)) for n, v in
                    zip(("weight", "bias"), learner.step_affine.values, strict=True))  # fmt: skip

    def loss(phi, batch, j):
        h = F.linear(batch[0], phi["first.weight"], phi["first.bias"])
        z = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        z = torch.tanh(z * weight[j] + bias[j])
        return F.cross_entropy(F.linear(z, phi["head.weight"], phi["head.bias"]), batch[1])

    phi = {name: p.requires_grad_() for name, p in own.items() if not name.startswith("norm")}
    losses = []
    for j in range(2):
        grads = torch.autograd.grad(loss(phi, task.support, j), list(phi.values()))
        phi = {n: (p - 0.2 * (j + 1) * g).detach().requires_grad_() for (n, p), g in zip(phi.items(), grads)}  # noqa: B905
        losses.append(float(loss(phi, task.query, j + 1).detach()))
    return losses


def test_scale_and_shift_are_those_of_the_step():
    net, [task] = Net(), tasks(1)
    rows = {name: torch.tensor([0.2, 0.4]) for name, _ in net.named_parameters()}
    learner = MAMLPlusPlus(net, CrossEntropy(), rule=Stepwise(SGD(rows)), steps=2, norm="transductive")
    with torch.no_grad():
        for p in learner.step_affine.parameters():
            p.add_(0.5 * torch.randn_like(p))
    assert learner.adapted == ("first.weight", "first.bias", "head.weight", "head.bias")
    want = by_hand(learner, task)
    torch.testing.assert_close(learner.trace(task).losses[0, 1:].tolist(), want)
    torch.testing.assert_close(float(learner(task).loss.detach()), sum(want) / 2)
    predict = learner.adapt(task.support)
    torch.testing.assert_close(float(F.cross_entropy(predict(task.query[0]), task.query[1]).detach()), want[1])
    longer = learner.trace(task, steps=3).losses  # the values and rates of the last step go on
    assert longer.shape == (1, 4) and longer.isfinite().all()


def test_rows_of_rates_go_with_any_rule():
    net, batch = Net(), tasks()
    rows = {name: torch.tensor([0.1, 0.1, 0.1]) for name, _ in net.named_parameters()}
    settings = {"steps": 3, "route": "loop"}
    same(gradients(MAML(net, CrossEntropy(), rule=Stepwise(Momentum(rows)), **settings), batch),
         gradients(MAML(net, CrossEntropy(), rule=Momentum(0.1), **settings), batch))  # fmt: skip
    wrong = {**rows, "head.bias": torch.zeros(3, 5)}
    with pytest.raises(ConfigError, match=r"the rate of 'head.bias' has shape \(3, 5\)"):
        MAML(net, CrossEntropy(), rule=Stepwise(SGD(wrong)), **settings)(batch)


def source(rng):
    x = torch.as_tensor(rng.normal(size=(10, 3)))
    return Task((x[:6], torch.arange(6) % 2), (x[6:], torch.arange(4) % 2))


def annealed(**more):
    torch.manual_seed(3)
    settings = {"multi_step_epochs": 2, "first_order_epochs": 1, "epoch": 2, "route": "loop", **more}
    return MAMLPlusPlus(Net().double(), CrossEntropy(), steps=2, **settings)


@pytest.mark.long
def test_a_training_that_is_resumed_anneals_as_one_that_never_stopped(tmp_path):
    training = Training(steps=6, meta_batch=2, lr=0.01, checkpoint_every=3, schedule="cosine", final_lr=1e-5)
    whole = annealed()
    meta_train(whole, source, training, folder=tmp_path / "whole", quiet=True)
    assert int(whole.outer_step) == 5
    (tmp_path / "whole" / "checkpoints" / "step-00000006").rename(tmp_path / "gone")
    again = annealed()
    meta_train(again, source, training, folder=tmp_path / "whole", quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_weights_that_are_loaded_bring_the_place_in_the_annealing():
    learner, other = annealed(), annealed()
    learner.at_step(2)
    batch = tasks()
    assert not torch.equal(learner(batch).loss, other(batch).loss)
    other.load_state_dict(learner.state_dict())
    same(gradients(other, batch), gradients(learner, batch))
    same(gradients(copy.deepcopy(learner), batch), gradients(learner, batch))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["trace"])
def test_programs_take_the_weights_as_inputs(kind):
    from fastadapt import Execution

    torch.manual_seed(3)
    net, batch = Net(), tasks()
    programs, plain = (
        MAMLPlusPlus(net, CrossEntropy(), rule=SGD(0.1), steps=2, epoch=1, multi_step_epochs=9, route=route)
        for route in (Execution("programs", compile=kind), "loop")
    )
    for step in range(6):
        for learner in (programs, plain):
            learner.at_step(step)
        torch.testing.assert_close(programs(batch).loss, plain(batch).loss, rtol=1e-9, atol=0)
    assert {plan.strategy for plan in programs.engine._in_state.values()} == {"programs"}
    assert len(programs.engine._in_state) == 1  # one program for all the weights


def test_what_does_not_fit_is_refused():
    for name, value in (("epoch", 0), ("steps", 0), ("multi_step_epochs", -1), ("first_order_epochs", 1.5)):
        with pytest.raises(ConfigError, match=f"{name} must be a whole number"):
            MAMLPlusPlus(Net(), **{name: value})
    with pytest.raises(ConfigError, match="exact or first order"):
        MAMLPlusPlus(Net(), meta_gradient="implicit")


def test_it_is_measured_by_the_last_step_alone():
    learner = annealed()
    result = evaluate(learner, source, Protocol(tasks=4))
    assert len(result.mean) == 3 and result.norm == "per_step" and not result.transductive
