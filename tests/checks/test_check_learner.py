"""A learner that breaks the contract is found, a line for each promise; those that keep it pass."""

import pytest
import torch
from torch import nn

import fastadapt as fa
from conformance.kinds import KINDS, LEARNERS
from fastadapt.errors import FastadaptError, LearnerError
from fastadapt.learner import Outcome, Trace


def classification():
    return KINDS["classification"].tasks()


def net():
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2))


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNERS)
def test_every_method_of_ours_passes(name):
    kinds = LEARNERS[name].kinds
    kind = KINDS["classification" if kinds is None else kinds[0]]
    fa.check_learner(LEARNERS[name].build(kind.model(), kind.loss), kind.tasks())


def test_it_takes_a_source_and_leaves_the_learner_as_it_was():
    learner = fa.MAML(fa.MLP(1, (8,), 1), rule=fa.SGD(0.1), norm="running").eval()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    state = torch.get_rng_state()
    fa.check_learner(learner, fa.Sinusoid())
    assert torch.equal(torch.get_rng_state(), state) and not learner.training
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    assert all(p.grad is None for p in learner.parameters())


class Sums(fa.MAML):
    def forward(self, tasks):
        outcome = super().forward(tasks)
        return Outcome(outcome.loss * len(outcome.losses), outcome.losses)


class OneLoss(fa.MAML):
    def forward(self, tasks):
        outcome = super().forward(tasks)
        return Outcome(outcome.loss, outcome.losses.mean().reshape(1))


class JustTheLoss(fa.MAML):
    def forward(self, tasks):
        return super().forward(tasks).loss


class Detached(fa.MAML):
    def forward(self, tasks):
        outcome = super().forward(tasks)
        return Outcome(outcome.loss.detach(), outcome.losses.detach())


class Unreached(fa.MAML):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.temperature = nn.Parameter(torch.ones(()))


class Sorted(fa.MAML):
    def forward(self, tasks):
        outcome = super().forward(tasks)
        return Outcome(outcome.loss, outcome.losses.sort().values)


class Unseeded(fa.MAML):
    calls = [0.0]  # noqa: RUF012 - shared on purpose: what no seed and no copy brings back

    def forward(self, tasks):
        self.calls[0] += 1
        outcome = super().forward(tasks)
        noise = 0.01 * self.calls[0]
        return Outcome(outcome.loss + noise, outcome.losses + noise)


class Forgetful(fa.MAML):
    def adapt(self, support, steps=None, norm=None):
        predictor = super().adapt(support, steps, norm)
        self.model.load_state_dict(predictor.model.state_dict())
        return predictor


class Itself(fa.MAML):
    def adapt(self, support, steps=None, norm=None):
        return self.model


class Parameters(fa.MAML):
    def adapt(self, support, steps=None, norm=None):
        return dict(super().adapt(support, steps, norm).named_parameters())


class Greedy(fa.MAML):
    def adapt(self, support, steps=None, norm=None):
        support[0].mul_(2)
        return super().adapt(support, steps, norm)


class Unadapted(fa.MAML):
    def trace(self, tasks, steps=None, norm=None, after=None):
        trace = super().trace(tasks, 0, norm)
        return Trace(trace.losses, trace.metrics, trace.outputs)


class Flat(fa.MAML):
    def trace(self, tasks, steps=None, norm=None, after=None):
        trace = super().trace(tasks, steps, norm, after)
        return Trace(trace.losses.flatten(), trace.metrics, trace.outputs)


class Deaf(fa.MAML):
    def trace(self, tasks, steps=None, norm=None):
        return super().trace(tasks, steps, norm)


class Kept(fa.MAML):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        self.shift = [torch.zeros(())]

    def adapt(self, support, steps=None, norm=None):
        predictor = super().adapt(support, steps, norm)
        with torch.no_grad():
            list(predictor.parameters())[-1].add_(float(torch.stack([p.sum() for p in self.first]).sum()))
        return predictor

    @property
    def first(self):
        if len(self.shift) == 1:
            self.shift.append(torch.stack([p.detach().sum() for p in self.parameters()]))
        return self.shift[1:]


class Sets(fa.MAML):
    def signature(self):
        return {**super().signature(), "names": {"a", "b"}}


BROKEN = {
    Sums: "forward: its loss .* is not the mean of its losses",
    OneLoss: r"forward: its losses are a tensor of shape \(1,\) for 4 tasks",
    JustTheLoss: "forward: returns a Tensor; return fastadapt.Outcome",
    Detached: r"forward, backward\(\): loss has no gradient",
    Unreached: r"forward, backward\(\): 1 of 5 trainable parameters get no gradient, the first is 'temperature'",
    Sorted: "order of the tasks: the losses of the tasks in reverse",
    Unseeded: "the same seed: the same seed gives",
    Forgetful: "adapt: changes the learner itself",
    Itself: "adapt: the predictor shares '0.weight' with the learner",
    Parameters: "adapt: returns a dict; return a module",
    Greedy: "adapt: changes its support set",
    Unadapted: "trace: its last outputs are not what the predictor of adapt answers",
    Flat: r"trace: its losses are a tensor of shape \(12,\)",
    Deaf: "trace: raises TypeError",
    Kept: "adapt",
    Sets: "signature: Object of type set is not JSON serializable",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_broken_promise_is_named(kind):
    learner = kind(net(), fa.cross_entropy, rule=fa.SGD(0.1), steps=2, route="loop")
    with pytest.raises(LearnerError, match=BROKEN[kind]) as caught:
        fa.check_learner(learner, classification())
    assert all(line.startswith(f"{kind.__name__}.") for line in str(caught.value).splitlines())


def test_what_is_no_learner_or_no_tasks_is_told():
    with pytest.raises(LearnerError, match="a Linear is no learner"):
        fa.check_learner(nn.Linear(3, 2), classification())
    with pytest.raises(LearnerError, match="at least 2 tasks, got 1"):
        fa.check_learner(fa.MAML(net(), fa.cross_entropy), classification()[:1])
    with pytest.raises(FastadaptError):
        fa.check_learner(fa.MAML(net(), fa.cross_entropy), [1, 2])
