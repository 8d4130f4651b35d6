"""MLDG, MFR and CDT: whole steps against values that were computed elsewhere, and identities of their gradients."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from fastadapt import MAML, SGD, Task
from fastadapt.errors import ConfigError, TaskError
from fastadapt.faces.cdt import CDT, pair_differences
from fastadapt.faces.mfr import MFR
from fastadapt.faces.objectives import MarginLoss, PairLoss
from fastadapt.methods.mldg import MLDG
from fastadapt.nets.face import FaceNet, WithIdentities

pytestmark = pytest.mark.usefixtures("double")
ORDERS = ["exact", "first_order"]


class Point(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, x):
        return self.theta


def bowl(model, batch):
    matrix, centre = batch
    apart = model(None) - centre
    return apart @ matrix @ apart / 2


BOWLS = Task(
    (torch.tensor([[2.0, 0], [0, 1.0]]).double(), torch.tensor([0.0, 1.0]).double()),
    (torch.tensor([[1.0, 0.5], [0.5, 2.0]]).double(), torch.tensor([2.0, 0.0]).double()),
)


def step(learner, tasks):
    for p in learner.parameters():
        p.grad = None
    outcome = learner(tasks)
    outcome.loss.backward()
    return outcome, {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def near(value, wanted):
    torch.testing.assert_close(torch.as_tensor(value).detach(), torch.tensor(wanted), rtol=0, atol=1e-6)


@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize(
    ("learner", "order", "wanted"),
    [
        (MLDG, "exact", [1.8, 3.88]),
        (MLDG, "first_order", [1.75, 4.2]),
        (MFR, "exact", [0.9, 1.94]),
        (MFR, "first_order", [0.875, 2.1]),
    ],
)
def test_quadratic_bowls_have_the_golden_meta_gradient(learner, order, wanted, route):
    made = learner(Point(), bowl, rule=SGD(0.1), meta_gradient=order, route=route)
    outcome, grads = step(made, [BOWLS, BOWLS])
    near(grads["model.theta"], wanted)
    near(outcome.metrics["support loss"], [1.5, 1.5])
    near(outcome.metrics["query loss"], [3.19, 3.19])


FIRST = torch.tensor([[1.0, 0.5, -0.2], [0.3, -1.0, 0.8]])
FACES = [
    ([[1, 0, 0], [0, 1, 0]], [[1, 0.2, 0.1], [0.1, 1, -0.2]]),
    ([[0, 0, 1], [1, 1, 0]], [[0.1, 0.1, 1], [1, 0.8, 0.2]]),
    ([[1, -1, 0], [0, 1, 1]], [[1, -0.7, 0.2], [0.2, 1, 0.9]]),
]
LOSS = PairLoss(positive=0.99, negative=0.5, scale=2.0, alignment=1.0)


def linear():
    net = torch.nn.Linear(3, 2, bias=False)
    net.weight.data = FIRST.double().clone()
    return net


def domain(number):
    x = torch.tensor([*FACES[number][0], *FACES[number][1]], dtype=torch.float64)
    return x, torch.tensor([2 * number, 2 * number + 1] * 2), 2


def split(out):
    x, y, _ = zip(*(domain(number) for number in range(3) if number != out), strict=True)
    return Task((torch.cat(x), torch.cat(y), 2), domain(out))


SPLITS = [split(out) for out in range(3)]


@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("exact", [[0.1213818, 0.1952185, 0.1633751], [-0.1286975, 0.2559447, 0.1368935]]),
        ("first_order", [[0.1199950, 0.1910998, 0.1547786], [-0.1255466, 0.2472982, 0.1262644]]),
    ],
)
def test_a_whole_step_of_mfr_has_the_golden_losses_sets_and_gradient(order, wanted, route):
    learner = MFR(linear(), LOSS, rule=SGD(0.1), meta_gradient=order, route=route)
    outcome, grads = step(learner, SPLITS)
    near(outcome.metrics["support loss"], [0.6438250, 0.5444236, 0.5482846])
    near(outcome.metrics["query loss"], [0.1990863, 0.0652629, 0.1303078])
    near(outcome.loss, 0.3551984)
    assert outcome.metrics["positives"].tolist() == [0, 2, 1] and outcome.metrics["negatives"].tolist() == [0, 0, 0]
    near(grads["model.weight"], wanted)
    sets = [LOSS(linear(), task.support) for task in SPLITS]
    assert [(int(s["positives"]), int(s["negatives"])) for s in sets] == [(3, 4), (1, 6), (2, 4)]


def test_the_order_of_domains_and_of_splits_does_not_matter():
    _, want = step(MFR(linear(), LOSS, rule=SGD(0.1)), SPLITS)
    turned = []
    for task in reversed(SPLITS):
        x, y, _ = task.support
        turned.append(Task((torch.cat((x[4:], x[:4])), torch.cat((y[4:], y[:4])), 2), task.query))
    _, got = step(MFR(linear(), LOSS, rule=SGD(0.1)), turned)
    torch.testing.assert_close(got["model.weight"], want["model.weight"])


def test_gamma_one_is_pooled_training_on_the_means_of_the_splits():
    _, got = step(MFR(linear(), LOSS, gamma=1.0), SPLITS)
    net = linear()
    torch.stack([LOSS(net, task.support)["loss"] for task in SPLITS]).mean().backward()
    torch.testing.assert_close(got["model.weight"], net.weight.grad)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_without_an_inner_rate_it_is_pooled_training(order, gamma):
    net = linear()
    losses = [gamma * LOSS(net, t.support)["loss"] + (1 - gamma) * LOSS(net, t.query)["loss"] for t in SPLITS]
    torch.stack(losses).mean().backward()
    for settings in ({"rule": SGD(0.0)}, {"steps": 0}):
        _, got = step(MFR(linear(), LOSS, gamma=gamma, meta_gradient=order, **settings), SPLITS)
        torch.testing.assert_close(got["model.weight"], net.weight.grad)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_the_gradient_is_that_of_a_step_written_by_hand(order, steps):
    learner = MFR(linear(), LOSS, rule=SGD(0.2), gamma=0.3, steps=steps, meta_gradient=order)
    _, got = step(learner, SPLITS[:1])
    weight = linear().weight.detach().requires_grad_()
    support, query = SPLITS[0].support, SPLITS[0].query
    at = weight
    for _ in range(steps):
        inner = LOSS(lambda x, w=at: x @ w.T, support)["loss"]
        [grad] = torch.autograd.grad(inner, at, create_graph=True)
        at = at - 0.2 * (grad if order == "exact" else grad.detach())
    total = 0.3 * LOSS(lambda x: x @ weight.T, support)["loss"] + 0.7 * LOSS(lambda x: x @ at.T, query)["loss"]
    [want] = torch.autograd.grad(total, weight)
    torch.testing.assert_close(got["model.weight"], want)


def test_first_order_reaches_frozen_selections_and_learned_rates():
    """What does not adapt still learns from both losses, and so does an inner rate from the query's."""
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    rate = torch.nn.Parameter(torch.tensor(0.2))
    learner = MFR(net, LOSS, rule=SGD(rate), adapt=["2.*"], meta_gradient="first_order")
    _, got = step(learner, SPLITS[:1])
    theta = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
    alpha = rate.detach().clone().requires_grad_()
    call = lambda params: lambda x: torch.func.functional_call(net, params, (x,))  # noqa: E731
    before = LOSS(call(theta), SPLITS[0].support)["loss"]
    head = [n for n in theta if n.startswith("2.")]
    grads = torch.autograd.grad(before, [theta[n] for n in head], retain_graph=True)
    moved = {**theta, **{n: theta[n] - alpha * g for n, g in zip(head, grads, strict=True)}}
    total = 0.5 * before + 0.5 * LOSS(call(moved), SPLITS[0].query)["loss"]
    total.backward()
    for name, p in theta.items():
        torch.testing.assert_close(got[f"model.{name}"], p.grad, msg=name)
    assert got[next(n for n in got if "rate" in n)] == pytest.approx(float(alpha.grad))


# ---- the triplet ---------------------------------------------------------------------------------


def by_hand(a, p, n, plus, minus, margin):
    rows = [(u - v) @ plus @ (u - v) - (u - w) @ minus @ (u - w) + margin for u, v, w in zip(a, p, n, strict=True)]
    return torch.stack(rows).clamp(min=0).mean()


def cdt(**settings):
    return CDT(linear(), PairLoss(scale=2.0), rule=SGD(0.1), margin=0.9, **settings)


def test_the_euclidean_triplet_is_the_ordinary_one():
    learner = cdt(metric="euclid")
    features = normalize(torch.randn(2, 5, 3), dim=-1)
    got = learner.between(features, features.flip(0))
    anchor, positive = features
    want = torch.nn.TripletMarginWithDistanceLoss(
        distance_function=lambda u, v: (u - v).square().sum(-1), margin=learner.margin
    )(anchor, positive, positive.roll(1, 0))
    torch.testing.assert_close(got, want)


def test_metrics_come_from_the_other_domain_and_are_constants_unless_asked():
    features, other = (normalize(torch.randn(2, 4, 3), dim=-1).requires_grad_() for _ in range(2))
    value = cdt().between(features, other)
    own, theirs = torch.autograd.grad(value, (features, other), allow_unused=True)
    assert own.abs().max() > 0 and theirs is None
    _, theirs = torch.autograd.grad(cdt(through=True).between(features, other), (features, other))
    assert theirs.abs().max() > 0
    pairs = [(other[0, i] - other[1, i]).detach() for i in range(4)]
    plus = torch.stack([torch.outer(d, d) for d in pairs]).mean(0)
    plus = 0.9 * plus + 0.1 * plus.trace() / 3 * torch.eye(3)
    plus = plus * 3 / plus.trace()
    pairs = [(other[0, i] - other[1, k]).detach() for i in range(4) for k in range(4) if i != k]
    minus = torch.stack([torch.outer(d, d) for d in pairs]).mean(0)
    minus = 0.9 * minus + 0.1 * minus.trace() / 3 * torch.eye(3)
    minus = minus * 3 / minus.trace()
    anchor, probe = features.detach()
    torch.testing.assert_close(value.detach(), by_hand(anchor, probe, probe.roll(1, 0), plus, minus, 0.9))


def test_the_query_loss_of_cdt_is_the_identity_loss_and_both_triplets():
    for settings, count in (({}, 2), ({"both": False}, 1), ({"within": True}, 2)):
        learner = cdt(triplets=0.5, **settings)
        outcome = learner(SPLITS[:1])
        moved = CDT(linear(), PairLoss(scale=2.0), rule=SGD(0.1), test_steps=1).adapt(SPLITS[0].support)
        features = {}
        for name, (x, _, _) in (("out", SPLITS[0].query), ("other", domain(1))):
            features[name] = normalize(moved(x), dim=1).reshape(2, 2, 2)
        out, other = features["out"], features["other"]
        terms = [(out, out if learner.within else other), (other, other if learner.within else out)][:count]
        want = PairLoss(scale=2.0)(moved, SPLITS[0].query)["loss"]
        want = want + 0.5 * sum(learner.between(*pair) for pair in terms)
        torch.testing.assert_close(outcome.metrics["query loss"][0], want.detach())


def test_semi_hard_negatives_are_the_nearest_beyond_the_positive():
    anchor, probe = normalize(torch.randn(6, 3), dim=-1), normalize(torch.randn(6, 3), dim=-1)
    chosen = CDT._semi_hard(anchor, probe)
    cosines = anchor @ probe.T
    for i in range(6):
        others = [j for j in range(6) if j != i]
        beyond = [j for j in others if cosines[i, j] < cosines[i, i]]
        best = max(beyond, key=lambda j: cosines[i, j]) if beyond else min(others, key=lambda j: cosines[i, j])
        assert torch.equal(chosen[i], probe[best])


def test_differences_are_within_pairs_of_one_and_of_two():
    features = torch.randn(2, 4, 3)
    positive, negative = pair_differences(features)
    want = [features[0, i] - features[1, k] for k in range(4) for i in range(4) if i != k]
    assert sorted(map(tuple, negative.tolist())) == sorted(tuple(d.tolist()) for d in want)
    torch.testing.assert_close(positive, features[0] - features[1])


# ---- identities, controls, refusals ----------------------------------------------------------------


def test_cosface_moves_weights_of_identities_in_the_inner_step_unless_they_are_left_out():
    def learner(adapt):
        torch.manual_seed(0)
        return MLDG(WithIdentities(linear(), 6, 2), MarginLoss(scale=4.0), rule=SGD(0.3), adapt=adapt)

    (a, _), (b, _) = (step(learner(adapt), SPLITS) for adapt in ("all", ["*", "!identities"]))
    torch.testing.assert_close(a.metrics["support loss"], b.metrics["support loss"])
    assert not torch.allclose(a.metrics["query loss"], b.metrics["query loss"])
    net = learner("all").model
    x, y, _ = SPLITS[0].support
    cosines = normalize(net(x), dim=1) @ normalize(net.identities, dim=1).T
    margin = 0.2 * torch.nn.functional.one_hot(y, 6)
    torch.testing.assert_close(a.metrics["support loss"][0], cross_entropy(4 * (cosines - margin), y).detach())


def test_identities_that_did_not_train_have_no_share_in_a_softmax_over_those_that_did():
    net = WithIdentities(linear(), 4, 2)
    x, y, count = SPLITS[0].support
    some = torch.tensor([0, -1, 0, -1, 2, 3, 2, 3])
    got = MarginLoss(scale=4.0)(net, (x, some, count))
    rows = some >= 0
    cosines = normalize(net(x), dim=1) @ normalize(net.identities, dim=1).T
    logits = 4 * (cosines - 0.2 * torch.nn.functional.one_hot(some.clamp(min=0), 4))
    torch.testing.assert_close(got, cross_entropy(logits[rows], some[rows]))
    assert float(MarginLoss()(net, (x, torch.full_like(y, -1), count)).detach()) == 0
    with pytest.raises(TaskError, match="5"):
        MarginLoss()(net, (x, torch.full_like(y, 5), count))


def test_thresholds_follow_from_the_outer_step_alone():
    learner = MFR(linear(), PairLoss(positive=0.3, negative=0.04), thresholds_every=1000)
    seen = []
    for number in (0, 999, 1000, 2500, 0):
        learner.at_step(number)
        seen.append((round(learner.loss.positive, 9), round(learner.inner_loss.negative, 9)))
    assert seen == [(0.3, 0.04), (0.3, 0.04), (0.4, 0.08), (0.5, 0.16), (0.3, 0.04)]


def test_adapt_returns_the_embedding_as_it_is_unless_steps_are_asked_for():
    learner = MFR(linear(), LOSS, rule=SGD(0.1))
    x = domain(2)[0]
    assert torch.equal(learner.adapt(SPLITS[0].support)(x), learner.model(x))
    tuned = learner.adapt(SPLITS[0].support, steps=2)
    maml = MAML(linear(), LOSS, rule=SGD(0.1), test_steps=2, norm="running").adapt(SPLITS[0].support)
    torch.testing.assert_close(tuned(x), maml(x))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: MLDG(linear(), beta=-1.0), ConfigError, "got -1.0"),
        (lambda: MLDG(linear(), meta_gradient="implicit"), ConfigError, "exact or first order in MLDG, got 'implicit'"),
        (lambda: MFR(linear(), gamma=1.5), ConfigError, "got 1.5"),
        (lambda: MFR(linear(), thresholds_every=0), ConfigError, "got 0"),
        (lambda: CDT(linear(), metric="cosine"), ConfigError, "got 'cosine'"),
        (lambda: CDT(linear(), margin=-0.1), ConfigError, "got 1.0 and -0.1"),
        (lambda: PairLoss(scale=0.0), ConfigError, "got 0.0"),
        (lambda: PairLoss(alignment=-1.0), ConfigError, "got -1.0"),
        (lambda: MFR(linear())(Task((torch.ones(4, 3), torch.zeros(4)), domain(0))), TaskError, "got 2 things"),
        (lambda: MFR(linear())(Task((torch.ones(3, 3), *domain(0)[1:]), domain(0))), TaskError, "got 3 samples and 4"),
        (lambda: MLDG(linear(), MarginLoss())(SPLITS), TaskError, "WithIdentities"),
    ],
)
def test_what_can_not_be_used_is_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_splits_of_images_run_at_once_and_one_by_one_alike():
    x = torch.randn(3, 8, 1, 8, 8)
    y = torch.tensor([0, 1, 2, 3] * 2)
    sides = [(each, y, 4) for each in x]
    both = lambda a, b: (torch.cat((a[0], b[0])), torch.cat((a[1], b[1])), 4)  # noqa: E731
    tasks = [Task(both(sides[i - 1], sides[i - 2]), sides[i]) for i in range(3)]
    found = {}
    for route in ("loop", "vmap"):
        torch.manual_seed(1)
        learner = MFR(FaceNet(8, (4,), 3), PairLoss(scale=4.0), rule=SGD(0.1), route=route)
        found[route] = step(learner, tasks)
    torch.testing.assert_close(found["vmap"][0].losses, found["loop"][0].losses)
    for name, want in found["loop"][1].items():
        torch.testing.assert_close(found["vmap"][1][name], want, msg=lambda m, name=name: f"{name}: {m}")
