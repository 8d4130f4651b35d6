"""The losses against values and gradients that were computed elsewhere, by hand or in closed form, in float64."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from fastadapt.errors import ConfigError
from fastadapt.faces.cross_domain import distance, metrics_of, scatter, triplet
from fastadapt.faces.margin import margin_logits, margin_softmax
from fastadapt.faces.pair_losses import domain_alignment, hard_pairs, soft_classification

pytestmark = pytest.mark.usefixtures("double")

RAW = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
CLOSE = {"rtol": 0, "atol": 1e-6}


@pytest.fixture
def gallery():
    return torch.tensor(RAW, requires_grad=True)


@pytest.fixture
def probe():
    return normalize(torch.tensor([[1.0, 0.2], [1.0, 1.0], [-1.0, 1.0]]), dim=1)


def near(value, wanted):
    torch.testing.assert_close(torch.as_tensor(value).detach(), torch.tensor(wanted), **CLOSE)


def test_hard_pairs_have_the_golden_value_sets_and_gradient(gallery, probe):
    found = hard_pairs(normalize(gallery, dim=1), probe, 0.9, 0.5)
    near(found.loss, 0.4580126)
    assert (int(found.positives), int(found.negatives)) == (2, 4)
    found.loss.backward()
    near(gallery.grad, [[0, 0.1767767], [-0.5303301, 0], [0.3193375, -0.3193375]])


@pytest.mark.parametrize(
    ("detach", "wanted"),
    [
        (False, [[0, 0.1684124], [-0.0034309, 0], [0.1050280, -0.1050280]]),
        (True, [[0, 0.0852107], [-0.0464094, 0], [0.0918996, -0.0918996]]),
    ],
)
def test_soft_classification_has_the_golden_value_and_gradient(gallery, probe, detach, wanted):
    loss = soft_classification(normalize(gallery, dim=1), probe, 2.0, detach)
    near(loss, 0.7225743)
    loss.backward()
    near(gallery.grad, wanted)


@pytest.mark.parametrize(("scale", "wanted"), [(1.0, 0.3432677), (64.0, 1406.0244579)])
def test_domain_alignment_has_the_golden_value(gallery, probe, scale, wanted):
    first = torch.cat((normalize(gallery, dim=1), probe))
    second = normalize(torch.tensor([[0.5, -1.0], [1.0, -0.3]]), dim=1)
    near(domain_alignment(torch.stack((first.mean(0), second.mean(0))), scale), wanted)


@pytest.mark.parametrize(("kind", "margin", "wanted"), [("cosface", 0.35, 0.5578488), ("arcface", 0.5, 0.5836136)])
def test_margin_softmax_has_the_golden_value(kind, margin, wanted):
    x = torch.tensor([[3.0, 4.0], [1.0, 0.0]], requires_grad=True)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], requires_grad=True)
    loss = margin_softmax(x, weights, torch.tensor([1, 0]), kind=kind, scale=4.0, margin=margin)
    near(loss, wanted)
    loss.backward()
    assert x.grad.isfinite().all() and weights.grad.isfinite().all()


def test_arcface_adds_the_margin_to_the_angle_and_stays_monotone_beyond_pi():
    angles = torch.linspace(0.01, math.pi - 0.01, 200)
    x = torch.stack((angles.cos(), angles.sin()), 1)
    logits = margin_logits(
        x, torch.tensor([[1.0, 0.0]]), torch.zeros(200, dtype=torch.long), kind="arcface", scale=1.0, margin=0.5
    )[:, 0]
    inside = angles + 0.5 < math.pi
    torch.testing.assert_close(logits[inside], (angles[inside] + 0.5).cos())
    torch.testing.assert_close(logits[~inside], angles[~inside].cos() - 0.5 * math.sin(0.5))
    assert (logits.diff() < 0).all()


def sigma_of_the_example(**settings):
    positive = torch.tensor([[0.1, 0.0], [0.0, 0.2], [0.1, 0.2]])
    return metrics_of(positive, torch.tensor([[1.0, 0.5], [-0.5, 1.0]]), **settings)


def golden_triplet(margin, a=None, **settings):
    a = torch.zeros(1, 2) if a is None else a
    return triplet(a, torch.tensor([[0.3, 0.1]]), torch.tensor([[0.5, 0.5]]), sigma_of_the_example(**settings), margin)


def test_the_scatter_of_pairs_has_the_golden_values():
    plus, minus = sigma_of_the_example(shrinkage=0.0, unit_trace=False)
    near(plus, [[0.0066667, 0.0066667], [0.0066667, 0.0266667]])
    near(minus, [[0.625, 0], [0, 0.625]])
    near(golden_triplet(0.3, shrinkage=0.0, unit_trace=False), 0.0)
    near(golden_triplet(0.5, shrinkage=0.0, unit_trace=False), 0.1887667)


def test_the_cross_domain_triplet_has_the_golden_value_and_gradient():
    plus, minus = sigma_of_the_example()
    near(plus, [[0.46, 0.36], [0.36, 1.54]])
    near(minus, [[1.0, 0], [0, 1.0]])
    a = torch.zeros(1, 2, requires_grad=True)
    loss = golden_triplet(0.5, a)
    near(loss, 0.0784)
    loss.backward()
    near(a.grad, [[0.652, 0.476]])


@pytest.mark.parametrize(
    ("settings", "wanted"), [({"kind": "euclid"}, 0.1), ({"kind": "precision"}, 0.1216)], ids=["euclid", "precision"]
)
def test_other_metrics_have_their_golden_values(settings, wanted):
    near(golden_triplet(0.5, **settings), wanted)


def test_raw_precision_and_kissme_have_their_golden_values():
    plus, minus = sigma_of_the_example(kind="precision", unit_trace=False)
    p, n = torch.tensor([[0.3, 0.1]]), torch.tensor([[0.5, 0.5]])
    near(distance(torch.zeros(1, 2), p, plus), [12.6053905])
    near(distance(torch.zeros(1, 2), n, minus), [0.8])
    plus, minus = sigma_of_the_example(kind="kissme", unit_trace=False)
    near(plus, [[158.0406358, -37.3185902], [-37.3185902, 46.0848652]])
    assert torch.equal(plus, minus)


# ---- what must hold besides -----------------------------------------------------------------------


def units(*shape):
    return normalize(torch.randn(*shape), dim=-1)


@pytest.mark.parametrize(
    "loss",
    [
        lambda g, p: hard_pairs(normalize(g, dim=1), normalize(p, dim=1), 0.3, 0.1).loss,
        lambda g, p: soft_classification(normalize(g, dim=1), normalize(p, dim=1), 3.0),
        lambda g, p: domain_alignment(torch.stack((g.mean(0), p.mean(0))), 2.0),
        lambda g, p: margin_softmax(g, p, torch.tensor([0, 2, 1, 3]), scale=4.0, margin=0.35),
        lambda g, p: margin_softmax(g, p, torch.tensor([0, 2, 1, 3]), kind="arcface", scale=4.0, margin=0.5),
        lambda g, p: triplet(g, p, p.roll(1, 0), metrics_of(g - p, g - p.roll(1, 0)), 2.0),
        lambda g, p: triplet(g, p, p.roll(1, 0), metrics_of(g - p, g - p.roll(1, 0), kind="precision"), 2.0),
    ],
    ids=["hard", "soft", "alignment", "cosface", "arcface", "covariance", "precision"],
)
def test_gradients_are_those_of_finite_differences(loss):
    g, p = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    assert torch.autograd.gradcheck(loss, (g, p))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_hard_pairs_the_loss_and_its_gradient_are_zero(dtype):
    g = torch.eye(3, dtype=dtype, requires_grad=True)
    found = hard_pairs(g, g, 0.9, 0.5)
    found.loss.backward()
    assert float(found.loss.detach()) == 0 and float(found.positives + found.negatives) == 0
    assert torch.equal(g.grad, torch.zeros(3, 3, dtype=dtype))


def test_soft_classification_of_equal_embeddings_is_log_n_and_of_clusters_vanishes():
    same = units(1, 4).expand(5, 4)
    near(soft_classification(same, same, 8.0), math.log(5))
    apart = torch.eye(5)
    assert float(soft_classification(apart, apart, 200.0)) < 1e-12
    g, p, order = units(5, 4), units(5, 4), [3, 0, 4, 1, 2]
    torch.testing.assert_close(soft_classification(g, p, 4.0), soft_classification(g[order], p[order], 4.0))


def test_alignment_is_of_the_distances_between_centres_alone():
    centres = torch.randn(3, 4)
    near(domain_alignment(centres[:1].expand(3, 4)), 0.0)
    torch.testing.assert_close(domain_alignment(centres), domain_alignment(centres + 5.0))
    torch.testing.assert_close(domain_alignment(centres), domain_alignment(centres[[2, 0, 1]]))


@pytest.mark.parametrize("kind", ["covariance", "precision", "kissme"])
def test_metrics_of_few_pairs_are_not_negative_and_isotropic_ones_are_euclids(kind):
    few = metrics_of(torch.randn(2, 6), torch.randn(3, 6), kind=kind)
    for metric in few:
        torch.testing.assert_close(metric, metric.T)
        assert torch.linalg.eigvalsh(metric).min() > -1e-9
    isotropic = torch.cat((torch.eye(6), -torch.eye(6)))
    for metric in metrics_of(isotropic, 3 * isotropic, kind=kind):
        torch.testing.assert_close(metric, torch.eye(6))


def test_the_scatter_is_the_mean_of_outer_products():
    pairs = torch.randn(5, 3)
    torch.testing.assert_close(scatter(pairs), torch.stack([torch.outer(d, d) for d in pairs]).mean(0))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: metrics_of(torch.eye(2), torch.eye(2), kind="cosine"), "got 'cosine'"),
        (lambda: metrics_of(torch.eye(2), torch.eye(2), shrinkage=2.0), "0..1, got 2.0"),
        (lambda: margin_softmax(torch.eye(2), torch.eye(2), torch.arange(2), scale=0.0, margin=0.1), "> 0, got 0.0"),
        (lambda: margin_softmax(torch.eye(2), torch.eye(2), torch.arange(2), scale=1.0, margin=2.0), "got 2.0"),
        (lambda: margin_softmax(torch.eye(2), torch.eye(2), torch.arange(2), kind="x", scale=1.0, margin=0.1), "'x'"),
    ],
)
def test_settings_outside_their_range_are_refused(make, words):
    with pytest.raises(ConfigError, match=words.replace("..", r"\.\.")):
        make()
