import copy

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, MSE, SGD, Adam, Clip, CrossEntropy, Momentum, Task
from fastadapt.errors import ConfigError, SelectionError, TaskError
from fastadapt.rules.rules import DecayedSGD
from reference import adam, clipped, decayed, difference, grads_of, maml, momentum, sgd

pytestmark = pytest.mark.usefixtures("double")
both_routes = pytest.mark.parametrize("route", ["vmap", "loop"])
both_orders = pytest.mark.parametrize("order", ["exact", "first_order"])


class Point(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(values))

    def forward(self):
        return self.theta


def bowl(model, batch):
    a, c = batch
    away = model() - c
    return 0.5 * away @ a @ away


def column(*values):
    return torch.tensor(values).unsqueeze(1)


def regression(count=3, shots=5, queries=7):
    def batch(n):
        x = torch.randn(n, 2)
        return x, torch.randn(n, 1)

    return [Task(batch(shots), batch(queries)) for _ in range(count)]


def classification(count=3, shots=6, queries=9, ways=3):
    def batch(n):
        return torch.randn(n, 4), torch.arange(n) % ways

    return [Task(batch(shots), batch(queries)) for _ in range(count)]


def smooth_net():
    return MLP(2, (5, 4), 1, activation="tanh", init_std=None)


def meta_gradient(learner, tasks, **options):
    learner.zero_grad()
    outcome = learner(tasks, **options)
    outcome.loss.backward()
    if learner.engine.route == "vmap":  # and not the loop that stands in where the two disagree
        assert {plan.route for plan in learner.engine.plans.values()} == {"vmap"}
    return outcome, grads_of(learner.model)


@both_routes
@pytest.mark.parametrize(("order", "expected"), [("exact", -3.375), ("first_order", -4.5)])
def test_scalar_linear_regression_has_the_gradient_found_by_hand(route, order, expected):
    net = nn.Linear(1, 1, bias=False)
    nn.init.ones_(net.weight)
    task = Task((column(1.0, 2.0), column(2.0, 3.0)), (column(1.0, 3.0), column(1.0, 5.0)))
    learner = MAML(net, rule=SGD(0.05), steps=1, meta_gradient=order, route=route)
    outcome, grads = meta_gradient(learner, task)
    assert outcome.loss.item() == pytest.approx(1.2125, abs=1e-12)
    assert float(grads["weight"]) == pytest.approx(expected, abs=1e-12)
    assert learner.adapt(task.support).model.weight.item() == pytest.approx(1.15, abs=1e-12)


@both_routes
@both_orders
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_quadratic_bowl_matches_the_closed_form(route, order, steps):
    a, c, alpha = torch.diag(torch.tensor([1.0, 3.0])), torch.tensor([0.5, -1.0]), 0.1
    point = Point(1.0, 1.0)
    _, grads = meta_gradient(
        MAML(point, bowl, rule=SGD(alpha), steps=steps, meta_gradient=order, route=route), Task((a, c), (a, c))
    )
    shrink = torch.linalg.matrix_power(torch.eye(2) - alpha * a, steps)
    expected = a @ shrink @ (point.theta.detach() - c)
    if order == "exact":
        expected = shrink @ expected
    torch.testing.assert_close(grads["theta"], expected, rtol=0, atol=1e-14)
    if steps == 1:
        golden = (0.405, 2.94) if order == "exact" else (0.45, 4.2)
        torch.testing.assert_close(grads["theta"], torch.tensor(golden), rtol=0, atol=1e-12)


RULES = {
    "sgd": (SGD(0.1), sgd(0.1), {}),
    "decayed_sgd": (DecayedSGD(0.1, 0.5), decayed(0.1, 0.5), {}),
    "momentum": (Momentum(0.05, 0.9), momentum(0.05, 0.9), {}),
    "nesterov": (Momentum(0.05, 0.9, nesterov=True), momentum(0.05, 0.9, nesterov=True), {}),
    "adam0": (Adam(0.02, beta1=0.0), adam(0.02, 0.0), {}),
    "adam9": (Adam(0.02, beta1=0.9), adam(0.02, 0.9), {}),
    "clip": (Clip(SGD(0.1), max_norm=0.4), sgd(0.1), {"max_norm": 0.4}),
    "clip_loose": (Clip(SGD(0.1), max_norm=1e6), sgd(0.1), {}),
}


@both_routes
@both_orders
@pytest.mark.parametrize("steps", [1, pytest.param(2, marks=pytest.mark.long), 5])
@pytest.mark.parametrize("rule", RULES)
def test_meta_gradient_equals_plain_autograd(rule, steps, order, route):
    ours, theirs, options = RULES[rule]
    net, tasks = smooth_net(), regression()
    losses, want = maml(net, MSE(), tasks, theirs, steps, first_order=order == "first_order", **options)
    outcome, got = meta_gradient(MAML(net, rule=ours, steps=steps, meta_gradient=order, route=route), tasks)
    torch.testing.assert_close(outcome.losses, losses, rtol=1e-10, atol=1e-12)
    assert difference(got, want) < 1e-9


def test_the_clip_of_the_comparison_really_clips():
    grads = [torch.tensor([3.0]), torch.tensor([4.0])]
    assert torch.cat(clipped(grads, 0.4)).norm() == pytest.approx(0.4)


@both_routes
@pytest.mark.parametrize("steps", [1, 2, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam0", "adam9", "clip"])
def test_exact_gradient_equals_central_finite_differences(rule, steps, route):
    net, tasks = MLP(2, (3,), 1, activation="softplus", init_std=None), regression(2, 4, 4)
    learner = MAML(net, rule=RULES[rule][0], steps=steps, route=route)
    _, got = meta_gradient(learner, tasks)
    want = {}
    for name, p in net.named_parameters():
        want[name] = torch.zeros_like(p)
        for i in range(p.numel()):
            for step, weight in ((2, -1 / 12), (1, 2 / 3), (-1, -2 / 3), (-2, 1 / 12)):  # fourth-order central
                with torch.no_grad():
                    p.view(-1)[i] += step * 1e-5
                    want[name].view(-1)[i] += weight * learner(tasks).loss / 1e-5
                    p.view(-1)[i] -= step * 1e-5
    assert difference(got, want) < 1e-6


@both_routes
@both_orders
def test_each_task_may_have_its_own_inner_rate(route, order):
    net, tasks, rates = smooth_net(), regression(4), torch.tensor([0.0, 0.05, 0.1, 0.3])
    _, want = maml(net, MSE(), tasks, sgd, 2, rates=rates, first_order=order == "first_order")
    learner = MAML(net, rule=SGD(99.0), steps=2, meta_gradient=order, route=route)
    outcome, got = meta_gradient(learner, tasks, inner_lr=rates)
    assert difference(got, want) < 1e-9
    _, same = meta_gradient(MAML(net, rule=SGD(0.1), steps=2, route=route, meta_gradient=order), tasks)
    _, equal = meta_gradient(learner, tasks, inner_lr=torch.full((4,), 0.1))
    assert difference(equal, same) < 1e-12
    assert outcome.losses.shape == (4,)


def test_per_task_rates_follow_the_task_when_shapes_are_mixed():
    net = smooth_net()
    short, long = regression(2, 3, 3), regression(2, 6, 4)
    tasks, rates = [short[0], long[0], short[1], long[1]], torch.tensor([0.0, 0.1, 0.2, 0.3])
    losses, want = maml(net, MSE(), tasks, sgd, 1, rates=rates)
    outcome, got = meta_gradient(MAML(net, steps=1), tasks, inner_lr=rates)
    torch.testing.assert_close(outcome.losses, losses)
    assert difference(got, want) < 1e-9


def test_wrong_number_of_rates_is_refused():
    with pytest.raises(TaskError, match="3 tasks"):
        MAML(smooth_net())(regression(3), inner_lr=torch.ones(2))


@both_routes
@pytest.mark.parametrize("rule", [Adam(0.01), Adam(0.01, beta1=0.9), Clip(SGD(0.1), 0.1), Momentum(0.1)])
def test_a_dead_unit_leaves_the_meta_gradient_finite(rule, route):
    net = MLP(2, (4,), 1, init_std=None)
    with torch.no_grad():
        net.body[0].bias[0] = -1e3
    _, grads = meta_gradient(MAML(net, rule=rule, steps=3, route=route), regression())
    assert all(g.isfinite().all() for g in grads.values())
    assert grads["body.0.bias"][0] == 0
    assert grads["body.0.bias"][1:].abs().max() > 0


@both_routes
def test_a_vanishing_inner_rate_gives_the_joint_gradient(route):
    net, tasks = smooth_net(), regression()
    joint = {n: p.clone().zero_() for n, p in net.named_parameters()}
    for task in tasks:
        grads = torch.autograd.grad(MSE()(net, task.query), list(net.parameters()))
        for name, g in zip(joint, grads, strict=True):
            joint[name] = joint[name] + g / len(tasks)
    _, without_steps = meta_gradient(MAML(net, steps=0, route=route), tasks)
    assert difference(without_steps, joint) < 1e-14
    gaps = [
        difference(meta_gradient(MAML(net, rule=SGD(lr), steps=2, route=route), tasks)[1], joint)
        for lr in (1e-3, 1e-5, 0.0)
    ]
    assert gaps[0] > 50 * gaps[1] > 0
    assert gaps[2] < 1e-14


@both_routes
def test_first_order_equals_exact_only_where_the_support_loss_is_linear(route):
    def linear(model, batch):
        x, y = batch
        return (model(x) * y).mean()

    net, tasks = nn.Linear(2, 1), regression()

    def gap(inner_loss):
        exact, first = (
            meta_gradient(
                MAML(net, rule=SGD(0.1), steps=2, inner_loss=inner_loss, route=route, meta_gradient=order), tasks
            )[1]
            for order in ("exact", "first_order")
        )
        return difference(first, exact)

    assert gap(linear) < 1e-14
    assert gap(MSE()) > 1e-2


@both_routes
def test_exact_gradient_is_the_product_of_explicit_hessians(route):
    alpha, steps, task = 0.1, 3, regression(1)[0]
    net = MLP(2, (2,), 1, activation="tanh", init_std=None)  # 9 parameters
    shapes = {n: p.shape for n, p in net.named_parameters()}
    sizes = [s.numel() for s in shapes.values()]

    def loss_at(flat, batch):
        parts = {n: v.view(shapes[n]) for n, v in zip(shapes, flat.split(sizes), strict=True)}
        return MSE()(lambda x: torch.func.functional_call(net, parts, (x,)), batch)

    theta = torch.cat([p.detach().flatten() for p in net.parameters()])
    product = torch.eye(len(theta))
    for _ in range(steps):
        hessian = torch.autograd.functional.hessian(lambda v: loss_at(v, task.support), theta)
        product = product @ (torch.eye(len(theta)) - alpha * hessian)
        theta = theta - alpha * torch.func.grad(loss_at)(theta, task.support)
    expected = product @ torch.func.grad(loss_at)(theta, task.query)
    _, grads = meta_gradient(MAML(net, rule=SGD(alpha), steps=steps, route=route), task)
    torch.testing.assert_close(torch.cat([g.flatten() for g in grads.values()]), expected, rtol=1e-10, atol=1e-12)


@both_routes
def test_order_of_examples_does_not_matter(route):
    net, tasks = smooth_net(), regression()
    learner = MAML(net, rule=SGD(0.1), steps=2, route=route)
    _, want = meta_gradient(learner, tasks)
    s, q = torch.randperm(5), torch.randperm(7)
    mixed = [Task(tuple(v[s] for v in t.support), tuple(v[q] for v in t.query)) for t in tasks]
    assert difference(meta_gradient(learner, mixed)[1], want) < 1e-12


@both_routes
def test_relabelling_classes_together_with_head_rows_relabels_the_gradient(route):
    net, tasks = MLP(4, (5,), 3, activation="tanh", init_std=None), classification()
    outcome, want = meta_gradient(MAML(net, CrossEntropy(), rule=SGD(0.3), steps=2, route=route), tasks)
    order = torch.tensor([2, 0, 1])  # the new label of each class
    renamed = [Task((t.support[0], order[t.support[1]]), (t.query[0], order[t.query[1]])) for t in tasks]
    twin = copy.deepcopy(net)
    with torch.no_grad():
        twin.head.weight[order] = net.head.weight.clone()
        twin.head.bias[order] = net.head.bias.clone()
    again, got = meta_gradient(MAML(twin, CrossEntropy(), rule=SGD(0.3), steps=2, route=route), renamed)
    torch.testing.assert_close(again.losses, outcome.losses)
    got["head.weight"], got["head.bias"] = got["head.weight"][order], got["head.bias"][order]
    assert difference(got, want) < 1e-12


@both_routes
def test_accumulating_micro_batches_equals_one_meta_batch(route):
    net, tasks = smooth_net(), regression(4)
    learner = MAML(net, rule=SGD(0.1), steps=2, route=route)
    _, want = meta_gradient(learner, tasks)
    want = {n: g.clone() for n, g in want.items()}
    learner.zero_grad()
    for part in (tasks[:1], tasks[1:]):
        (learner(part).loss * len(part) / len(tasks)).backward()
    assert difference(grads_of(net), want) < 1e-12


@pytest.mark.parametrize(("reduction", "factor"), [("sum_over_classes", 3), ("sum", 6)])
def test_a_reduction_is_the_mean_with_another_inner_rate(reduction, factor):
    net, tasks = MLP(4, (5,), 3, init_std=None), classification()
    scaled = MAML(net, CrossEntropy(), inner_loss=CrossEntropy(reduction), rule=SGD(0.05), steps=3)
    plain = MAML(net, CrossEntropy(), rule=SGD(0.05 * factor), steps=3)
    (a, got), (b, want) = meta_gradient(scaled, tasks), meta_gradient(plain, tasks)
    torch.testing.assert_close(a.losses, b.losses)
    assert difference(got, want) < 1e-12
    for p, q in zip(
        scaled.adapt(tasks[0].support).parameters(), plain.adapt(tasks[0].support).parameters(), strict=True
    ):
        torch.testing.assert_close(p, q)


@both_routes
@both_orders
@pytest.mark.parametrize("adapt", ["head", "body", ("*", "!*bias")])
def test_adapting_a_part_equals_plain_autograd_on_that_part(adapt, order, route):
    net, tasks = smooth_net(), regression()
    learner = MAML(net, rule=SGD(0.2), steps=3, adapt=adapt, meta_gradient=order, route=route)
    _, want = maml(net, MSE(), tasks, sgd(0.2), 3, names=learner.adapted, first_order=order == "first_order")
    _, got = meta_gradient(learner, tasks)
    assert difference(got, want) < 1e-10


def test_selecting_every_layer_by_name_is_plain_maml():
    net, tasks = smooth_net(), regression()
    _, want = meta_gradient(MAML(net, rule=SGD(0.2), steps=2), tasks)
    _, got = meta_gradient(MAML(net, rule=SGD(0.2), steps=2, adapt=("head.*", "body.*")), tasks)
    assert difference(got, want) == 0


def test_adapting_the_head_on_fixed_features_is_logistic_regression():
    net, task = MLP(4, (6,), 3, init_std=None), classification(1)[0]
    predictor = MAML(net, CrossEntropy(), rule=SGD(0.5), steps=20, adapt="head").adapt(task.support)
    x, y = task.support
    with torch.no_grad():
        features, w, b = net.body(x), net.head.weight.clone(), net.head.bias.clone()
        for _ in range(20):
            error = (features @ w.T + b).softmax(-1) - nn.functional.one_hot(y, 3)
            w, b = w - 0.5 * error.T @ features / len(x), b - 0.5 * error.mean(0)
    torch.testing.assert_close(predictor.model.head.weight.detach(), w)
    torch.testing.assert_close(predictor.model.head.bias.detach(), b)
    assert torch.equal(predictor.model.body[0].weight, net.body[0].weight)


def test_adapting_the_body_leaves_the_head_bit_identical():
    net, task = MLP(4, (6,), 3, init_std=None), classification(1)[0]
    learner = MAML(net, CrossEntropy(), rule=SGD(0.5), steps=5, adapt="body")
    predictor = learner.adapt(task.support)
    assert torch.equal(predictor.model.head.weight, net.head.weight)
    assert torch.equal(predictor.model.head.bias, net.head.bias)
    assert not torch.equal(predictor.model.body[0].weight, net.body[0].weight)
    _, grads = meta_gradient(learner, task)
    assert grads["head.weight"].abs().max() > 0  # the outer loop still trains it


def test_randomly_labelled_classes_start_at_chance_and_are_learned():
    centres, ways = torch.randn(30, 8), 5

    def task():
        chosen, labels = torch.randperm(30)[:ways], torch.arange(ways)
        support, query = (centres[chosen] + 0.1 * torch.randn(ways, 8) for _ in range(2))
        return Task((support, labels), (query, labels))

    learner = MAML(MLP(8, (32,), ways, init_std=None), CrossEntropy(), rule=SGD(0.5), steps=3)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        learner([task() for _ in range(8)]).loss.backward()
        optimizer.step()
    accuracy = learner.trace([task() for _ in range(200)]).metrics["accuracy"].mean(0)
    assert abs(float(accuracy[0]) - 1 / ways) < 0.06
    assert float(accuracy[-1]) > 0.9


def test_the_loss_does_not_keep_the_graph_of_the_inner_loop():
    learner = MAML(smooth_net(), steps=2)
    outcome = learner(regression())
    for value in (outcome.loss, outcome.losses):
        assert all(type(node).__name__ == "AccumulateGrad" for node, _ in value.grad_fn.next_functions if node)
    with torch.no_grad():
        outcome = learner(regression())
        assert not outcome.loss.requires_grad and not outcome.losses.requires_grad


def test_scaling_the_loss_scales_the_gradient():
    net, tasks = smooth_net(), regression()
    _, want = meta_gradient(MAML(net), tasks)
    want = {n: 4 * g for n, g in want.items()}
    net.zero_grad()
    (4 * MAML(net)(tasks).loss).backward()
    assert difference(grads_of(net), want) < 1e-14


@pytest.mark.parametrize(
    "setting", [{"steps": -1}, {"test_steps": 1.5}, {"meta_gradient": "second"}, {"norm": "batch"}, {"route": "fast"}]
)
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError):
        MAML(smooth_net(), **setting)


def test_a_selection_that_matches_nothing_is_refused():
    with pytest.raises(SelectionError, match="encoder"):
        MAML(smooth_net(), adapt="encoder.*")


def test_a_rate_for_each_task_that_requires_a_gradient_is_refused_rather_than_ignored():
    rate = torch.tensor([0.1], requires_grad=True)
    x = torch.ones(2, 1)
    with pytest.raises(TaskError, match=r"inner_lr\.detach\(\)"):
        MAML(nn.Linear(1, 1))(Task((x, x), (x, x)), inner_lr=rate)
