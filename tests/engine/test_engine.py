import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Conv4, CrossEntropy, Task
from fastadapt.engine.engine import Engine
from fastadapt.errors import ConfigError, TaskError
from reference import difference, grads_of


def faulty(mistake):
    """Return a module whose rule for vmap is mistaken, as a third party's might be."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, grad):
            return 2 * grad

        @staticmethod
        def vmap(info, in_dims, x):
            return mistake(x), in_dims[0]

    class Faulty(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return Double.apply(self.layer(x))

    return Faulty()


def tasks(count=3, shots=4, queries=5):
    def batch(n):
        return torch.randn(n, 3), torch.arange(n) % 2

    return [Task(batch(shots), batch(queries)) for _ in range(count)]


def gradient(model, batch, route="auto"):
    learner = MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route=route)
    model.zero_grad()
    learner(batch).loss.backward()
    return learner, {n: g.clone() for n, g in grads_of(model).items()}


@pytest.mark.parametrize("mistake", [lambda x: 3 * x, lambda x: 2.001 * x, lambda x: x * float("nan"), lambda x: 0 * x])
def test_wrong_numbers_under_vmap_are_noticed_and_the_loop_serves(mistake, told):
    model, batch = faulty(mistake), tasks()
    _, want = gradient(model, batch, route="loop")
    learner, got = gradient(model, batch)
    assert difference(got, want) == 0
    learner(batch)
    looped = MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route="loop").trace(batch)
    assert torch.equal(learner.trace(batch).losses, looped.losses)
    assert len(told()) == 1
    assert "another result" in told()[0] and "Faulty" in told()[0]


def test_wrong_numbers_are_noticed_by_an_evaluation_that_comes_first(told):
    model, batch = faulty(lambda x: 3 * x), tasks()
    traces = [MAML(model, CrossEntropy(), steps=2, route=route).trace(batch) for route in ("auto", "loop")]
    assert torch.equal(traces[0].losses, traces[1].losses)
    assert len(told()) == 1


def test_right_numbers_under_vmap_are_let_through(told):
    model, batch = faulty(lambda x: 2 * x), tasks()
    learner, got = gradient(model, batch)
    assert {plan.route for plan in learner.engine.plans.values()} == {"vmap"}
    assert difference(got, gradient(model, batch, route="loop")[1]) < 1e-5
    assert told() == []


def test_a_module_that_insists_on_its_precision_is_checked_in_it(told):
    class Stubborn(nn.Module):
        def __init__(self, mistake):
            super().__init__()
            self.inner = faulty(mistake)
            self.rotation = torch.eye(3)  # not a buffer, so it stays as it is

        def forward(self, x):
            return self.inner(x @ self.rotation)

    for mistake, route in ((lambda x: 2 * x, "vmap"), (lambda x: 3 * x, "loop")):
        learner, _ = gradient(Stubborn(mistake), tasks())
        assert {plan.route for plan in learner.engine.plans.values()} == {route}
    assert any("float64" in line for line in told())


def test_convolutions_on_large_inputs_loop_on_a_cpu_unless_told_otherwise():
    batch = [
        Task((torch.randn(2, 1, 150, 150), torch.tensor([0, 1])), (torch.randn(2, 1, 16, 16), torch.tensor([0, 1])))
    ]
    for route, expected in (("auto", {"loop"}), ("vmap", {"vmap"})):
        learner = MAML(Conv4(1, 2, 2, size=16), CrossEntropy(), steps=0, route=route)
        learner(batch)
        assert {plan.route for plan in learner.engine.plans.values()} == expected


def test_choosing_the_route_does_not_disturb_the_random_state():
    model = nn.Sequential(nn.Linear(3, 20), nn.Dropout(0.5), nn.Linear(20, 2))
    learner, batch = MAML(model, CrossEntropy()), tasks()
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append((learner(batch).losses, torch.get_rng_state()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_one_learner_serves_tasks_of_any_number_and_shape():
    learner = MAML(MLP(3, (4,), 2, init_std=None), CrossEntropy())
    for count, shots in ((3, 4), (1, 4), (5, 2), (3, 4)):
        assert learner(tasks(count, shots)).losses.shape == (count,)


def test_own_exceptions_are_not_taken_for_a_failure_of_vmap(told):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    with pytest.raises(TaskError, match="single value"):
        MAML(model, CrossEntropy())(tasks(3, shots=1))
    assert told() == []


def test_results_of_the_loop_do_not_depend_on_the_other_tasks():
    learner, batch = MAML(MLP(3, (4,), 2, init_std=None), CrossEntropy(), route="loop"), tasks()
    assert torch.equal(learner(batch[:1]).losses, learner(batch).losses[:1])


def test_an_unknown_route_is_refused():
    with pytest.raises(ConfigError, match="fast"):
        Engine("fast")
