"""Blocks that are computed again for both derivatives, held to plain unrolled twins in first and second order."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastadapt import MAML, SGD, Adam, Exact, Momentum, Task
from fastadapt.engine.memory import PeakBytes
from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner import attention
from fastadapt.inner.recomputed import Recomputable
from reference import difference, grads_of

pytestmark = pytest.mark.usefixtures("double")


@pytest.fixture
def gpt2(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import gpt2

    yield gpt2
    sys.modules.pop("gpt2")


def texts(count=2, sequences=2, length=9):
    def tokens():
        return (torch.randint(50, (sequences, length)),)

    return [Task(tokens(), tokens()) for _ in range(count)]


def unrolled(net, loss, tasks, steps, rate):
    """Return the mean query loss after SGD steps in plain autograd, with torch's own modules."""
    own = {name: p for name, p in net.named_parameters() if p.requires_grad}
    total = 0.0
    for task in tasks:
        phi = own
        for _ in range(steps):
            value = loss(lambda *x, p=phi: functional_call(net, p, x), task.support)
            grads = torch.autograd.grad(value, list(phi.values()), create_graph=True)
            phi = {name: p - rate * g for (name, p), g in zip(phi.items(), grads, strict=True)}
        total = total + loss(lambda *x, p=phi: functional_call(net, p, x), task.query)
    mean = total / len(tasks)
    return mean, dict(zip(own, torch.autograd.grad(mean, list(own.values())), strict=True))


def gradient(net, loss, tasks, **settings):
    learner = MAML(net, loss, **settings)
    learner.zero_grad()
    outcome = learner(tasks)
    outcome.loss.backward()
    return outcome.loss.detach(), {name.removeprefix("model."): g.clone() for name, g in grads_of(learner).items()}


@pytest.mark.long
@pytest.mark.parametrize("adapted", ["adapters", "all"])
@pytest.mark.parametrize("recompute", ["blocks", ("h.0", "h.2", "ln_f")], ids=str)
@pytest.mark.parametrize("segment, steps", [(None, 3), (2, 3)])
def test_a_transformer_has_the_gradient_of_its_unrolled_twin(gpt2, adapted, recompute, segment, steps, monkeypatch):
    monkeypatch.setattr(attention, "AT_ONCE", 200)  # two heads in two chunks
    net, tasks = gpt2.GPT2(layers=3, width=16, heads=2, words=50, length=12, rank=2), texts()
    if adapted == "all":
        net.requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):
        loss, want = unrolled(net, gpt2.next_token, tasks, steps, 0.3)
    exact = Exact(segment, recompute)
    value, got = gradient(net, gpt2.next_token, tasks, rule=SGD(0.3), steps=steps, meta_gradient=exact)
    assert abs(value - loss) < 1e-12 and difference(got, want) < 1e-10
    assert not any("forward" in vars(part) for part in net.modules())


class Tower(nn.Module):
    """Keep in its blocks what makes trouble: dropout, a batch norm, arguments by name, several outputs, a constant."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.first, self.last = nn.Linear(2, 6), nn.Linear(6, 1)
        self.blocks = nn.ModuleList(Storey(dropout) for _ in range(3))

    def forward(self, x):
        x, side = self.first(x), None
        for block in self.blocks:
            x, side, _ = block(x, side=side)
        return self.last(x) + side.mean()


class Storey(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.layer, self.norm, self.dropout = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(dropout)

    def forward(self, x, side=None):
        y = self.dropout(self.norm(self.layer(x)).tanh())
        return x + y, y.exp() if side is None else side * y, "constant"


def regression(count=2):
    def batch(n):
        return torch.randn(n, 2), torch.randn(n, 1)

    return [Task(batch(5), batch(7)) for _ in range(count)]


@pytest.mark.parametrize("rule", [SGD(0.2), Momentum(0.1, 0.8), Adam(0.05)], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("norm", ["transductive", "support", "running"])
def test_blocks_of_any_kind_have_the_gradient_of_the_whole_graph(rule, norm):
    net, tasks = Tower(), regression()
    settings = {"rule": rule, "steps": 3, "norm": norm, "route": "loop"}
    _, want = gradient(net, squared, tasks, **settings)
    _, got = gradient(net, squared, tasks, **settings, meta_gradient=Exact(recompute="blocks"))
    assert difference(got, want) < 1e-10


def squared(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def test_dropout_in_a_block_is_drawn_once():
    net, tasks, results = Tower(0.5), regression(), []
    for exact in (Exact(segment=7), Exact(recompute="blocks"), Exact(segment=7, recompute="blocks")):
        torch.manual_seed(3)
        results.append(gradient(net, squared, tasks, rule=SGD(0.01), steps=7, route="loop", meta_gradient=exact)[1])
    assert all(difference(each, results[0]) < 1e-10 for each in results)


def test_memory_holds_one_block_at_a_time(gpt2):
    def peak(recompute, layers):
        net = gpt2.GPT2(layers=layers, width=32, heads=4, words=50, length=32, rank=2)
        learner = MAML(net, gpt2.next_token, rule=SGD(0.1), steps=2, route="loop", meta_gradient=Exact(1, recompute))
        memory = PeakBytes()
        with memory:
            learner(texts(1, 2, 33)).loss.backward()
        return memory.peak - sum(p.nbytes for p in net.parameters())

    kept, recomputed = ([peak(how, layers) for layers in (2, 5)] for how in (None, "blocks"))
    assert recomputed[1] - recomputed[0] < (kept[1] - kept[0]) / 6  # a further block adds what enters it


@pytest.mark.parametrize("mask", [None, (5, 6), (2, 3, 5, 6), (2, 1, 5, 6)], ids=str)
def test_attention_in_chunks_has_the_derivatives_of_torchs(mask, monkeypatch):
    monkeypatch.setattr(attention, "AT_ONCE", 70)
    q, k, v = (torch.randn(2, 3, n, 4, requires_grad=True) for n in (5, 6, 6))
    bias = None if mask is None else torch.randn(mask, requires_grad=True)
    leaves = [q, k, v] if bias is None else [q, k, v, bias]

    def derivatives(f):
        y = f(q, k, v, bias, is_causal=mask is None, scale=0.7)
        first = torch.autograd.grad(y.sin().sum(), leaves, create_graph=True)
        return [y, *first, *torch.autograd.grad(sum((g**3).sum() for g in first), leaves)]

    with sdpa_kernel(SDPBackend.MATH):
        want = derivatives(F.scaled_dot_product_attention)
    for ours, theirs in zip(derivatives(attention.attention), want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_recomputed_function_has_both_derivatives_by_finite_differences():
    def function(tensors):
        return [(tensors[0] @ tensors[1]).tanh(), tensors[1].exp()]

    def slope(weight, x):
        first, second = Recomputable(function, "f")([weight, x])
        value = (first**3).sum() + (second * x).sum()
        return value, *torch.autograd.grad(value, [weight, x], create_graph=True)

    weight, x, along = (torch.randn(3, 3, requires_grad=True) for _ in range(3))
    _, of_weight, of_x = slope(weight, x)
    second = torch.autograd.grad((of_weight * along).sum() + of_x.sum(), [weight, x])
    for which, got in enumerate(second):
        ends = []
        for step in (1e-5, -1e-5):
            at = [t.detach() + step * (t is (weight, x)[which]) for t in (weight, x)]
            _, a, b = slope(*[t.requires_grad_() for t in at])
            ends.append(float(((a * along).sum() + b.sum()).detach()))
        torch.testing.assert_close(got.sum(), torch.tensor((ends[0] - ends[1]) / 2e-5), rtol=1e-6, atol=1e-6)


def test_what_a_block_depends_on_beside_its_own_is_refused():
    outside = nn.Parameter(torch.ones(()))

    class Leaning(nn.Linear):
        def forward(self, x):
            return super().forward(x) * outside

    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Leaning(2, 2), Leaning(2, 2)), nn.Linear(2, 1))
    with pytest.raises(TaskError, match="neither given to it nor its own"):
        gradient(net, squared, regression(), rule=SGD(0.1), steps=1, meta_gradient=Exact(recompute="blocks"))


def test_a_block_that_gives_something_else_the_second_time_is_refused():
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x):
            type(self).calls += 1
            return super().forward(x) * self.calls

    net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(Counting(2, 2), Counting(2, 2)), nn.Linear(2, 1))
    with pytest.raises(TaskError, match="something else when it is computed again"):
        gradient(
            net, squared, regression(), rule=SGD(0.1), steps=1, route="loop", meta_gradient=Exact(recompute="blocks")
        )


@pytest.mark.parametrize(
    "recompute, message", [("blocks", "no part of Linear repeats"), (("x",), "no part of that name")]
)
def test_a_network_without_such_blocks_is_told(recompute, message):
    with pytest.raises(ConfigError, match=message):
        gradient(
            nn.Linear(2, 1),
            squared,
            regression(),
            rule=SGD(0.1),
            steps=1,
            route="loop",
            meta_gradient=Exact(None, recompute),
        )


@pytest.mark.parametrize("recompute", ["layers", (), (1,), True])
def test_other_settings_are_refused(recompute):
    with pytest.raises(ConfigError, match="recompute must be"):
        Exact(recompute=recompute)
