"""The neural statistician, against bounds and likelihoods that are written out."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, kl_divergence
from torch.distributions import Normal as Known

from fastadapt import Task, Training, meta_train
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import NeuralStatistician
from fastadapt.nets import Generator, Statistic, StatisticianEncoder
from fastadapt.nets.normals import Normal

pytestmark = pytest.mark.usefixtures("double")
A, B, S = 0.8, 1.3, 0.6  # z = A c + S e, x = B z + e'


def normals(*shape):
    return Normal(torch.randn(shape), torch.randn(shape))


def small(**more):
    return NeuralStatistician(
        nn.Linear(3, 4), generator=Generator((4,), (3,), hidden=6, context=5, latent=2), features=(4,), hidden=6,
        context=5, **more,
    )  # fmt: skip


def task(ways=3, shots=2, queries=2):
    side = [(torch.rand(ways * n, 3), torch.arange(ways * n) % ways) for n in (shots, queries)]
    return Task(*side)


def test_divergences_are_those_of_the_distributions_and_never_negative():
    p, q = normals(50, 4), normals(50, 4)
    known, other = (Known(n.mean, (n.log / 2).exp()) for n in (p, q))
    torch.testing.assert_close(p.divergence(q), kl_divergence(known, other).sum(1))
    torch.testing.assert_close(p.from_standard(), kl_divergence(known, Known(0.0, 1.0)).sum(1))
    x = torch.randn(50, 4)
    torch.testing.assert_close(p.log_likelihood(x), known.log_prob(x).sum(1))
    assert (p.divergence(q) > 0).all() and (p.from_standard() > 0).all()
    torch.testing.assert_close(p.divergence(p), torch.zeros(50))


def test_samples_have_their_moments_and_are_the_same_in_every_type():
    p = Normal(torch.tensor([2.0, -1.0]), torch.tensor([0.5, -1.0]))
    drawn = Normal(p.mean.expand(20_000, 2), p.log.expand(20_000, 2)).sample()
    torch.testing.assert_close(drawn.mean(0), p.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(drawn.var(0).log(), p.log, atol=0.05, rtol=0)
    torch.manual_seed(1)
    wide = p.sample()
    torch.manual_seed(1)
    torch.testing.assert_close(Normal(p.mean.float(), p.log.float()).sample(), wide.float())


def test_the_context_of_a_class_does_not_depend_on_the_order_of_its_samples():
    learner = small().eval()
    x, y = torch.randn(12, 3), torch.arange(12) % 3
    order = torch.randperm(12)
    first, second = (learner.adapt(support).model.memory for support in ((x, y), (x[order], y[order])))
    torch.testing.assert_close(first.means, second.means)
    torch.testing.assert_close(first.logs, second.logs)
    assert not torch.allclose(first.means[0], first.means[1])


@pytest.mark.parametrize("divergence", ["class", "query"])
def test_a_query_is_given_the_class_whose_context_is_nearest(divergence):
    learner = small(divergence=divergence).eval()
    (x, y), (xq, _) = task().support, task().query
    statistic = learner.comparison.statistic

    def context(samples):
        q = statistic.of(statistic.each(learner.model(samples)).mean(0, keepdim=True))
        return Known(q.mean[0], (q.log[0] / 2).exp())

    with torch.no_grad():
        outputs = learner.adapt((x, y))(xq)
        for i, row in enumerate(outputs):
            for k, score in enumerate(row):
                pair = context(x[y == k]), context(xq[i : i + 1])
                torch.testing.assert_close(score, -kl_divergence(*pair[:: 1 if divergence == "class" else -1]).sum())


class Linear(nn.Module):
    """What sums up a set of numbers, `q(c | D) = N(w mean(x), exp(log))`, and generates one as A, B and S say."""

    def __init__(self, weight, log, guess):
        super().__init__()
        self.weight, self.log, self.guess = (nn.Parameter(torch.tensor(v)) for v in (weight, log, guess))

    def each(self, h):
        return h

    def of(self, pooled):
        return Normal(self.weight * pooled, self.log.expand_as(pooled))

    def guessed(self, h, c):
        mean = self.guess[0] * h + self.guess[1] * c
        return Normal(mean, self.guess[2].expand_as(mean))

    def expected(self, c):
        return Normal(A * c, torch.full_like(c, 2 * math.log(S)))

    def forward(self, z, c):
        return B * z


def evidence(x):
    """Return `log p(D)` of the numbers of a class: jointly normal, as all are sums of normal ones."""
    n = len(x)
    covariance = (1 + B**2 * S**2) * torch.eye(n) + (A * B) ** 2 * torch.ones(n, n)
    return MultivariateNormal(torch.zeros(n), covariance).log_prob(x)


def exact(n):
    """Return the weight, logarithm and guess of the true posteriors of n samples."""
    level = 1 + B**2 * S**2  # x = A B c + noise of this variance
    precision = 1 + n * (A * B) ** 2 / level
    own = 1 / S**2 + B**2
    return n * A * B / level / precision, -math.log(precision), [B / own, A / S**2 / own, -math.log(own)]


def bound(network, x, draws=500):
    """Return the mean of the bound over draws of c and z: those of many classes with the same numbers, in ten tasks."""
    learner = NeuralStatistician(
        nn.Identity(), generator=network, statistic=network, likelihood="normal", alpha=0.0
    ).eval()
    samples, y = x.repeat_interleave(draws).unsqueeze(1), torch.arange(draws).repeat(len(x))
    with torch.no_grad():
        return -learner([Task((samples[:-2], y[:-2]), (samples[-2:], y[-2:]))] * 10).loss * len(x)


@pytest.mark.parametrize("weight, log", [(0.2, -0.5), (0.0, 0.0), (0.4, 0.3)])
def test_the_bound_lies_below_the_evidence_of_a_linear_model_by_the_divergence_of_the_guess(weight, log):
    x = torch.tensor([0.3, -1.2, 2.0, 0.9])
    true, (right, narrow, guess) = evidence(x), exact(4)
    torch.testing.assert_close(bound(Linear(right, narrow, guess), x), true, atol=0.06, rtol=0)
    posterior, q = (Known(w * x.mean(), math.exp(v / 2)) for w, v in ((right, narrow), (weight, log)))
    below = true - kl_divergence(q, posterior)
    torch.testing.assert_close(bound(Linear(weight, log, guess), x), below, atol=0.06, rtol=0)
    assert bound(Linear(weight, log, [0.2, 0.1, -1.0]), x) < below - 0.1  # where z is guessed badly too


def test_loss_and_gradient_are_those_written_out():
    learner = small(alpha=0.7, halved_every=2)
    learner.steps += 5
    t = task()
    torch.manual_seed(3)
    outcome = learner(t)
    params = list(learner.parameters())
    got = torch.autograd.grad(outcome.loss, params, allow_unused=True)

    torch.manual_seed(3)
    (x, y), (xq, yq) = t.support, t.query
    x, y = torch.cat((x, xq)), torch.cat((y, yq))
    net, statistic, generator = learner.model, learner.comparison.statistic, learner.generator
    for part in (statistic, generator):
        part.train()
    h = net(x)
    e = statistic.each(h)
    mean, log = statistic.of(torch.stack([e[y == k].mean(0) for k in range(3)]))
    c = mean + (log / 2).exp() * torch.randn(3, 5)
    expected = Known(*(v if i == 0 else (v / 2).exp() for i, v in enumerate(generator.expected(c))))
    z_mean, z_log = generator.guessed(h, c[y])
    z = z_mean + (z_log / 2).exp() * torch.randn(12, 2)
    p = generator(z, c[y]).sigmoid()
    fits = (x * p.log() + (1 - x) * (1 - p).log()).sum()
    apart = kl_divergence(Known(mean, (log / 2).exp()), Known(0.0, 1.0)).sum()
    apart = apart + kl_divergence(Known(z_mean, (z_log / 2).exp()), Known(expected.mean[y], expected.stddev[y])).sum()
    a = 0.7 / 4
    want = (-(1 + a) * fits + apart / (1 + a)) / 12
    torch.testing.assert_close(outcome.loss, want)
    for g, expect in zip(got, torch.autograd.grad(want, params, allow_unused=True), strict=True):
        torch.testing.assert_close(g, expect)


def test_gradients_are_those_of_finite_differences():
    learner, t = small(), task()

    def loss():
        torch.manual_seed(0)
        return learner(t).loss

    learner.alpha = 0.0  # a changes with each step
    names = ["model.weight", "statistic.last.layer.weight", "generator.draw.1.weight", "generator.latent.bias"]
    chosen = [p for name, p in learner.named_parameters() if name.endswith(tuple(names))]
    assert len(chosen) >= 3
    grads = torch.autograd.grad(loss(), chosen)
    for p, grad in zip(chosen, grads, strict=True):
        direction, h = torch.randn_like(p), 1e-6
        with torch.no_grad():
            p += h * direction
            above = loss()
            p -= 2 * h * direction
            below = loss()
            p += h * direction
        torch.testing.assert_close((grad * direction).sum(), (above - below) / (2 * h), rtol=1e-5, atol=1e-7)


def test_annealing_halves_after_so_many_steps_of_training_alone():
    learner, t = small(alpha=1.0, halved_every=2), task()
    for _ in range(5):
        learner(t)
    with torch.no_grad():
        learner(t)
    learner.eval()(t)
    learner.trace(t)
    assert int(learner.steps) == 5
    steps = {name: value for name, value in learner.state_dict().items() if name == "steps"}
    assert int(steps["steps"]) == 5  # and a resume goes on from there


@pytest.mark.long
def test_training_goes_on_bit_for_bit_after_a_stop(tmp_path):
    torch.set_default_dtype(torch.float32)

    def source(rng):
        x = torch.from_numpy(rng.random((12, 3))).float()
        y = torch.arange(12) % 3
        return Task((x[:6], y[:6]), (x[6:], y[6:]))

    weights = []
    for folder, stops in ((tmp_path / "whole", [4]), (tmp_path / "parts", [2, 4])):
        for steps in stops:
            torch.manual_seed(5)
            learner = small(halved_every=1)
            settings = Training(steps=steps, meta_batch=2, checkpoint_every=2, clip_value=0.5)
            meta_train(learner, source, settings, folder=folder, quiet=True)
        weights.append(learner.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert int(weights[0]["steps"]) == 4


@pytest.mark.long
def test_it_learns_to_tell_classes_apart_from_what_their_samples_share_alone():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    sizes = {"hidden": 24, "context": 4}
    learner = NeuralStatistician(
        nn.Sequential(nn.Linear(6, 24), nn.ELU()), generator=Generator((24,), (6,), latent=2, **sizes), features=(24,),
        **sizes, likelihood="normal", halved_every=20,
    )  # fmt: skip
    optimizer = torch.optim.Adam(learner.parameters(), 3e-3)

    def task(ways, shots, queries):  # a class is a place of two numbers, the others tell samples of a class apart
        places, y = 3 * torch.randn(ways, 2), torch.arange(ways * (shots + queries)) % ways
        x = torch.cat((places[y] + 0.1 * torch.randn(len(y), 2), 2 * torch.randn(len(y), 4)), 1)
        return Task((x[: ways * shots], y[: ways * shots]), (x[ways * shots :], y[ways * shots :]))

    tests = [task(5, 1, 5) for _ in range(40)]
    before = float(learner.eval().trace(tests).metrics["accuracy"].mean())
    learner.train()
    for _ in range(150):
        optimizer.zero_grad()
        learner(task(16, 4, 1)).loss.backward()
        optimizer.step()
    after = float(learner.trace(tests).metrics["accuracy"].mean())
    assert after > 0.6 and after > before + 0.15, (before, after)


@pytest.mark.parametrize("size", [28, 30, 32, 84])
def test_an_image_of_any_size_is_generated(size):
    torch.set_default_dtype(torch.float32)
    encoder = StatisticianEncoder(1, width=2)
    features = tuple(encoder(torch.zeros(2, 1, size, size)).shape[1:])
    generator = Generator(features, (1, size, size), width=2, hidden=5, context=4, latent=3)
    assert generator(torch.zeros(2, 3), torch.zeros(2, 4)).shape == (2, 1, size, size)
    assert any(layer.padding == (0, 0) for layer in generator.modules() if isinstance(layer, nn.Conv2d)
               and layer.kernel_size == (3, 3)) == (size in (28, 84))  # fmt: skip


def test_the_networks_have_the_published_sizes():
    torch.set_default_dtype(torch.float32)
    encoder = StatisticianEncoder(1)
    with torch.no_grad():
        assert encoder(torch.zeros(2, 1, 28, 28)).shape == (2, 256, 4, 4)
    shapes = [(layer.out_channels, layer.stride[0]) for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert shapes == [(w, s) for w in (64, 128, 256) for s in (1, 1, 2)]
    statistic, generator = Statistic((256, 4, 4)), Generator((256, 4, 4), (1, 28, 28))
    assert statistic.last.layer.out_features == 2 * 512 and statistic.each[1].in_features == 4096
    assert (
        generator.latent.in_features == 16 and statistic.last.norm.eps == 1e-3 and statistic.last.norm.momentum == 0.01
    )


def test_what_does_not_fit_is_refused():
    for settings, says in (
        ({"divergence": "both"}, "'class' or 'query'"),
        ({"likelihood": "poisson"}, "likelihood must be 'bernoulli' or 'normal'"),
        ({"alpha": -1.0}, "got 'bernoulli', -1.0"),
        ({"halved_every": 0}, "halved_every >= 1"),
        ({"norm": "support"}, "norm='support' keeps them apart; choose norm='running'"),
    ):
        with pytest.raises(ConfigError, match=says):
            small(**settings)
    with pytest.raises(ConfigError, match="square images"):
        Generator((3,), (1, 28, 27))
    with pytest.raises(ConfigError, match="or a statistic="):
        NeuralStatistician(nn.Identity(), generator=nn.Identity())
    far = Task((torch.rand(4, 3) * 3, torch.arange(4) % 2), (torch.rand(2, 3), torch.arange(2)))
    with pytest.raises(TaskError, match=r"takes samples in 0\.\.1, and these reach from .*likelihood='normal'"):
        small()(far)
    assert small(likelihood="normal")(far).loss.isfinite()
    learner = NeuralStatistician(nn.Linear(3, 4), generator=Generator((4,), (2,)), features=(4,))
    with pytest.raises(TaskError, match=r"built for samples of shape \(2,\), and those of the task have \(3,\)"):
        learner(task())
