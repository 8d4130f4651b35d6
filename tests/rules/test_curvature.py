"""Meta-Curvature, against mode products written out as loops, against MAML, and against finite differences."""

import itertools

import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Adam, Clip, CrossEntropy, Momentum, Task
from fastadapt.errors import ConfigError, SelectionError
from fastadapt.rules.curvature import LARGEST, MetaCurvature, curvature, curved
from fastadapt.rules.meta_lstm import MetaLSTM
from fastadapt.rules.rates import learned_rates
from fastadapt.rules.rules import rule_name, rule_tensors, with_lr

pytestmark = pytest.mark.usefixtures("double")

LAYERS = {
    "linear": lambda: nn.Linear(3, 2),
    "signal": lambda: nn.Conv1d(2, 3, 4),
    "image": lambda: nn.Conv2d(2, 3, (2, 3)),
    "volume": lambda: nn.Conv3d(1, 2, 2),
    "grouped": lambda: nn.Conv2d(4, 6, 3, groups=2),
    "depthwise": lambda: nn.Conv2d(3, 3, 2, groups=3, bias=False),
    "transposed": lambda: nn.ConvTranspose2d(2, 3, 2),
    "grouped transposed": lambda: nn.ConvTranspose1d(4, 6, 3, groups=2),
    "attention": lambda: nn.MultiheadAttention(4, 2),
    "embedding": lambda: nn.Embedding(5, 3),
    "norm": lambda: nn.BatchNorm1d(3),
}


def random_matrices(matrices):
    """The same matrices away from the identity."""
    for row in matrices.values():
        for m in row:
            with torch.no_grad():
                m.add_(0.3 * torch.randn_like(m))
    return matrices


def by_loops(grad, matrices):
    """Return `sum_bcd M_o[a,b] M_i[x,c] M_f[y,d] g[b,c,d]`, one number after another."""
    if grad.dim() < 2:
        pairs = zip(matrices[0].reshape(-1), grad.reshape(-1), strict=True)
        return torch.stack([m * g for m, g in pairs]).view(grad.shape)
    block = grad.reshape(*grad.shape[:2], -1)
    outer, inner = matrices[:2]
    places = matrices[2] if grad.dim() > 2 else torch.eye(1)
    out = torch.zeros_like(block)
    for a, x, y in itertools.product(*map(range, block.shape)):
        for b, c, d in itertools.product(*map(range, block.shape)):
            out[a, x, y] += outer[a, b] * inner[x, c] * places[y, d] * block[b, c, d]
    return out.view(grad.shape)


@pytest.mark.parametrize("layer", LAYERS)
def test_each_mode_of_a_gradient_is_multiplied_by_its_matrix(layer):
    module = LAYERS[layer]()
    matrices = random_matrices(curvature(module))
    assert list(matrices) == [name for name, _ in module.named_parameters()]
    for name, p in module.named_parameters():
        assert all(m.requires_grad for m in matrices[name])
        grad = torch.randn_like(p)
        with torch.no_grad():
            torch.testing.assert_close(curved(grad, matrices[name]), by_loops(grad, matrices[name]))


@pytest.mark.parametrize("layer", LAYERS)
def test_the_identity_leaves_a_gradient_as_it_is_to_the_last_bit(layer):
    module = LAYERS[layer]().float()
    for name, p in module.named_parameters():
        grad = torch.randn_like(p)
        assert torch.equal(curved(grad, curvature(module)[name]), grad)


def test_a_single_number_and_a_complex_kernel_have_them_too():
    module = nn.Module()
    module.one = nn.Parameter(torch.tensor(2.0))
    module.kernel = nn.Parameter(torch.randn(2, 1, 3, dtype=torch.complex128))
    matrices = random_matrices(curvature(module))
    assert {m.dtype for row in matrices.values() for m in row} == {torch.float64}
    rule, params = MetaCurvature(SGD(1.0), matrices), dict(module.named_parameters())
    got, _ = rule.update(params, params, rule.init(params))
    kernel = params["kernel"]
    want = torch.complex(by_loops(kernel.real, matrices["kernel"]), by_loops(kernel.imag, matrices["kernel"]))
    torch.testing.assert_close(got["kernel"], kernel - want)
    torch.testing.assert_close(got["one"], 2 - matrices["one"][0] * 2)


def images():
    def batch(n):
        return torch.randn(n, 2, 4, 4), torch.arange(n) % 2

    return [Task(batch(4), batch(6)) for _ in range(2)]


def network():
    convolutions = nn.Conv2d(2, 2, 2), nn.Tanh(), nn.ConvTranspose2d(2, 2, 2, groups=2), nn.BatchNorm2d(2)
    return nn.Sequential(*convolutions, nn.Tanh(), nn.Flatten(), nn.Linear(32, 2))


OTHERS = [pytest.param(rule, marks=pytest.mark.long) for rule in (Momentum(0.1), Clip(Adam(0.01, beta1=0.9), 1.0))]


@pytest.mark.parametrize("rule", [SGD(0.1), *OTHERS], ids=["sgd", "momentum", "clipped adam"])
def test_with_the_identity_it_is_maml(rule):
    model, batch, found = network(), images(), []
    for each in (rule, MetaCurvature(rule, curvature(model))):
        model.zero_grad()
        learner = MAML(model, CrossEntropy(), rule=each, steps=2)
        outcome = learner(batch)
        outcome.loss.backward()
        found.append((outcome.losses, [p.grad.clone() for p in model.parameters()], learner.trace(batch).losses))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][2], found[1][2])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("route", [pytest.param("vmap", marks=pytest.mark.long), "loop"])
def test_matrices_and_rates_have_their_gradient(route):
    model, batch = network(), images()
    matrices, rates = random_matrices(curvature(model)), learned_rates(model, 0.2, per="tensor")
    learner = MAML(model, CrossEntropy(), rule=MetaCurvature(SGD(rates), matrices), steps=2, route=route)
    learner(batch).loss.backward()
    looked = [m for row in matrices.values() for m in row] + list(rates.values()) + [model[0].weight]
    own = {id(p) for p in learner.parameters()}
    for p in looked:
        assert id(p) in own
        ends, index = [], p.numel() // 2
        for by in (1e-5, -1e-5):
            with torch.no_grad():
                p.view(-1)[index] += by
                ends.append(learner(batch).loss)
                p.view(-1)[index] -= by
        torch.testing.assert_close(p.grad.view(-1)[index], (ends[0] - ends[1]) / 2e-5, rtol=1e-6, atol=1e-9)


def test_first_order_learns_them_too():
    model, batch = network(), images()
    rule = MetaCurvature(SGD(0.2), curvature(model))
    MAML(model, CrossEntropy(), rule=rule, steps=1, meta_gradient="first_order")(batch).loss.backward()
    assert all(m.grad.abs().max() > 0 for m in rule.matrices["0.weight"])


def test_what_does_not_adapt_has_no_matrices_in_the_learner():
    model = network()
    rule = Clip(MetaCurvature(SGD(learned_rates(model, 0.1)), curvature(model)), 10.0)
    learner = MAML(model, CrossEntropy(), rule=rule, adapt="head")
    assert set(learner.rate_names) == {
        "rule.rule.lr.6.weight", "rule.rule.lr.6.bias", "rule.matrices.6.weight.0", "rule.matrices.6.weight.1",
        "rule.matrices.6.bias.0",
    }  # fmt: skip
    assert len(rule_tensors(rule)) == 8 + 2 * (3 + 1) + 2 * 1 + 2 + 1
    few = curvature(model, adapt="head", leave_out="*bias")
    assert few.keys() == {"6.weight", "6.bias"} and few["6.bias"] == ()
    MAML(model, CrossEntropy(), rule=MetaCurvature(SGD(0.1), few), adapt="head")(images()).loss.backward()
    with pytest.raises(ConfigError, match=r"the rule's matrices has no entry for \['0.bias'"):
        MAML(model, CrossEntropy(), rule=MetaCurvature(SGD(0.1), few))


def test_it_goes_around_other_rules():
    model = nn.Linear(2, 1)
    rule = MetaCurvature(MetaLSTM(), curvature(model))
    assert with_lr(rule, 0.5).lr == 0.5 and with_lr(rule, 0.5).matrices is rule.matrices
    x = torch.ones(3, 2)
    learner = MAML(model, rule=rule, steps=2, meta_gradient="first_order")
    learner(Task((x, x[:, :1]), (x, x[:, :1]))).loss.backward()
    assert all(p.grad is not None for p in learner.parameters())
    assert rule_name(MetaCurvature(SGD(0.1), curvature(model))) == "MetaCurvature(rule=SGD(lr=0.1), matrices=learned)"
    assert repr(MetaCurvature(SGD(0.1), {"w": ()})) == "MetaCurvature(rule=SGD(lr=0.1), matrices=none)"


def test_what_has_no_matrices_or_wrong_ones_is_said():
    with pytest.raises(ConfigError, match=rf"'weight' of shape \(1, {LARGEST + 1}\) would need .*leave_out='weight'"):
        curvature(nn.Linear(LARGEST + 1, 1))
    assert curvature(nn.Linear(LARGEST + 1, 1), leave_out="weight")["weight"] == ()
    with pytest.raises(SelectionError, match="matches no parameter"):
        curvature(nn.Linear(2, 1), leave_out="heads.*")
    one = {"w": torch.ones(2, 3)}
    with pytest.raises(ConfigError, match="no matrices for 'w'"):
        MetaCurvature(SGD(1.0), {}).update(one, one, ())
    with pytest.raises(ConfigError, match=r"of 'w' have the shapes \[\(2, 2\)\], and .* takes \[\(2, 2\), \(3, 3\)\]"):
        MetaCurvature(SGD(1.0), {"w": (torch.eye(2),)}).update(one, one, ())
