"""The losses of single tasks, and tensors beside the network, get their gradient as well."""

import pytest
import torch

from fastadapt import MAML, MLP, SGD, Task
from fastadapt.errors import TaskError
from reference import difference, grads_of

pytestmark = pytest.mark.usefixtures("double")


def regression():
    return [Task((torch.randn(5, 2), torch.randn(5, 1)), (torch.randn(7, 2), torch.randn(7, 1))) for _ in range(3)]


def smooth_net():
    return MLP(2, (5, 4), 1, activation="tanh", init_std=None)


@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize("meta_gradient", ["exact", "first_order"])
def test_losses_of_tasks_are_differentiated_with_weights_of_their_own(route, meta_gradient):
    net, tasks = smooth_net(), regression()
    learner = MAML(net, rule=SGD(0.1), steps=2, route=route, meta_gradient=meta_gradient)
    weights = torch.arange(1.0, 1 + len(tasks))
    each = []
    for task in tasks:
        net.zero_grad()
        learner([task]).loss.backward()
        each.append(grads_of(net))
    want = {name: sum(w * grads[name] for w, grads in zip(weights, each, strict=True)) for name in each[0]}
    net.zero_grad()
    (weights * learner(tasks).losses).sum().backward()
    assert difference(grads_of(net), want) < 1e-12


def test_losses_differentiated_after_a_step_of_the_optimizer_are_refused():
    net = smooth_net()
    outcome = MAML(net)(regression())
    torch.optim.SGD(net.parameters(), 0.1).step()
    with torch.no_grad():
        next(net.parameters()).add_(1)
    with pytest.raises(TaskError, match="take the gradient first"):
        outcome.losses.sum().backward()


def test_a_learned_rate_that_is_no_parameter_gets_its_gradient_too():
    raw = torch.tensor(-2.0, requires_grad=True)
    net, tasks = smooth_net(), regression()
    MAML(net, rule=SGD(torch.nn.functional.softplus(raw)), steps=2)(tasks).loss.backward()

    def loss(shift):
        with torch.no_grad():
            return float(MAML(net, rule=SGD(torch.nn.functional.softplus(raw + shift)), steps=2)(tasks).loss)

    assert float(raw.grad) == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-6)


@pytest.mark.parametrize("metric_of", ["query last", "support last"])
def test_a_changed_meta_objective_still_reports_the_query(metric_of):
    class Mixed(MAML):
        def meta_objective(self, model, task):
            if metric_of == "query last":
                return 0.5 * self.loss(model, task.support) + self.loss(model, task.query)
            return self.loss(model, task.query) + 0.5 * self.loss(model, task.support)

    net, tasks = smooth_net(), regression()
    mixed = Mixed(net, rule=SGD(0.1))(tasks)
    plain = MAML(net, rule=SGD(0.1))(tasks)
    assert torch.allclose(mixed.metrics["mse"], plain.metrics["mse"])


def test_first_order_refuses_what_it_would_drop():
    net, [task, *_] = smooth_net(), regression()
    support = (task.support[0].clone().requires_grad_(), task.support[1])
    with pytest.raises(TaskError, match="a support set requires a gradient"):
        MAML(net, meta_gradient="first_order")([Task(support, task.query)])
