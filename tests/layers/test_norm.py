import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, MSE, SGD, Pretrain, Task
from fastadapt.errors import ConfigError, TaskError
from reference import difference, grads_of

pytestmark = pytest.mark.usefixtures("double")
MODES = ["transductive", "support", "support+query", "running", "per_step"]
both_routes = pytest.mark.parametrize("route", ["vmap", "loop"])


class Net(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(3, 4), nn.BatchNorm1d(4, **settings), nn.Linear(4, 1)
        nn.init.uniform_(self.norm.weight, 0.5, 1.5) if self.norm.affine else None

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.first(x))))


def tasks(count=3, shots=5, queries=4):
    def batch(n):
        return 2 * torch.randn(n, 3) + 1, torch.randn(n, 1)

    return [Task(batch(shots), batch(queries)) for _ in range(count)]


def forward(p, x, moments=None):
    """Return the network's output and the moments used, written out."""
    h = x @ p["first.weight"].T + p["first.bias"]
    mean, var = moments or (h.mean(0), h.var(0, correction=0))
    h = torch.tanh((h - mean) / (var + 1e-5).sqrt() * p["norm.weight"] + p["norm.bias"])
    return h @ p["head.weight"].T + p["head.bias"], (mean, var)


def answer(mode, p, support, x):
    if mode == "transductive":
        return forward(p, x)[0]
    if mode == "support":
        return forward(p, x, forward(p, support)[1])[0]
    return torch.stack([forward(p, torch.cat([support, row.unsqueeze(0)]))[0][-1] for row in x])


@both_routes
@pytest.mark.parametrize("mode", MODES[:3])
def test_losses_and_gradients_of_each_mode_are_those_of_its_definition(mode, route):
    net, batch = Net(), tasks()
    theta = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
    losses = []
    for task in batch:
        (x, y), phi = task.support, theta
        for _ in range(2):
            value = F.mse_loss(forward(phi, x)[0], y)
            grads = torch.autograd.grad(value, list(phi.values()), create_graph=True)
            phi = {n: phi[n] - 0.1 * g for n, g in zip(phi, grads, strict=True)}
        losses.append(F.mse_loss(answer(mode, phi, x, task.query[0]), task.query[1]))
    want = dict(zip(theta, torch.autograd.grad(torch.stack(losses).mean(), list(theta.values())), strict=True))
    learner = MAML(net, rule=SGD(0.1), steps=2, norm=mode, route=route)
    outcome = learner(batch)
    outcome.loss.backward()
    assert {plan.route for plan in learner.engine.plans.values()} <= {route}
    torch.testing.assert_close(outcome.losses, torch.stack(losses).detach())
    assert difference(grads_of(net), want) < 1e-10


@pytest.mark.parametrize("mode", MODES)
def test_only_transductive_answers_depend_on_the_other_queries(mode):
    learner, [task] = MAML(Net(), rule=SGD(0.1), steps=2, norm=mode), tasks(1)
    x = task.query[0]
    crowd = Task(task.support, (torch.cat([x[:1], 9 + torch.randn(6, 3)]), torch.zeros(7, 1)))
    predict = learner.adapt(task.support)
    assert predict.norm == mode
    gap = (predict(crowd.query[0])[0] - predict(x)[0]).abs().item()
    traced = (learner.trace(crowd).outputs[0][-1][0] - learner.trace(task).outputs[0][-1][0]).abs().item()
    if mode == "transductive":
        assert gap > 1e-3 and traced > 1e-3
    else:
        assert gap < 1e-12 and traced < 1e-12


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_predictor_answers_like_the_trace_in_each_mode(mode, grad):
    learner, batch = MAML(Net(), rule=SGD(0.1), steps=2, norm=mode), tasks()
    learner(batch)
    with torch.set_grad_enabled(grad):
        for task, outputs in zip(batch, learner.trace(batch).outputs, strict=True):
            torch.testing.assert_close(learner.adapt(task.support)(task.query[0]).detach(), outputs[-1])


def test_all_modes_agree_without_batch_norm():
    net, batch = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), tasks()
    losses = [MAML(net, rule=SGD(0.1), steps=2, norm=mode)(batch).losses for mode in MODES]
    for other in losses[1:]:
        assert torch.equal(other, losses[0])


def test_a_mode_may_be_chosen_at_test():
    learner, batch = MAML(Net(), rule=SGD(0.1), steps=1), tasks()
    by_argument = learner.trace(batch, norm="support").losses
    built_so = MAML(learner.model, rule=SGD(0.1), steps=1, norm="support").trace(batch).losses
    torch.testing.assert_close(by_argument, built_so)
    assert not torch.allclose(by_argument, learner.trace(batch).losses)
    assert learner.adapt(batch[0].support, norm="support").norm == "support"


@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_moments_follow_the_batches_as_torchs_own_layer_does(momentum):
    net, [first, second] = Net(momentum=momentum), tasks(2)
    own = nn.BatchNorm1d(4, momentum=momentum)
    learner = Pretrain(net, norm="running", test_steps=0)
    for task in (first, second):
        learner(task)
        own(net.first(task.support[0]))
    kept = learner.running.tensors()
    torch.testing.assert_close(kept["norm.running_mean"][0], own.running_mean)
    torch.testing.assert_close(kept["norm.running_var"][0], own.running_var)
    assert torch.equal(net.norm.running_mean, torch.zeros(4))  # the user's module is not touched
    net.norm.load_state_dict({**own.state_dict(), "weight": net.norm.weight, "bias": net.norm.bias})
    torch.testing.assert_close(learner.adapt(first.support)(second.query[0]), net.eval()(second.query[0]))


def test_running_moments_take_the_mean_over_tasks_and_only_in_training():
    net, batch = Net(momentum=1.0), tasks()
    learner = Pretrain(net, norm="running")
    learner.eval()(batch)
    learner.train().trace(batch)
    learner.adapt(batch[0].support)
    assert torch.equal(learner.running.tensors()["norm.running_mean"], torch.zeros(1, 4))
    learner(batch)
    means = [net.first(task.support[0]).mean(0) for task in batch]
    torch.testing.assert_close(learner.running.tensors()["norm.running_mean"][0], torch.stack(means).mean(0).detach())


@both_routes
def test_each_inner_step_has_running_moments_of_its_own(route):
    learner, batch = MAML(Net(momentum=1.0), rule=SGD(0.5), steps=2, norm="per_step", route=route), tasks()
    learner(batch)
    net, means = learner.model, learner.running.tensors()["norm.running_mean"]
    assert means.shape == (3, 4)
    features = [net.first(task.support[0]).mean(0) for task in batch]
    torch.testing.assert_close(
        means[0], torch.stack(features).mean(0).detach()
    )  # slot 0 saw the weights before any step
    for slot, task_count in ((1, 3), (2, 3)):
        assert (means[slot] - means[slot - 1]).abs().max() > 1e-3, task_count
    for steps in range(3):
        kept = learner.adapt(batch[0].support, steps=steps).model.norm.running_mean
        assert torch.equal(kept, means[steps])


def test_running_moments_are_saved_with_the_learner():
    learner, other = (MAML(Net(), norm="per_step") for _ in range(2))
    learner(tasks())
    other.load_state_dict(learner.state_dict())
    assert torch.equal(other.running.tensors()["norm.running_var"], learner.running.tensors()["norm.running_var"])
    assert not torch.equal(other.running.tensors()["norm.running_var"], torch.ones(2, 4))


def test_batch_norm_over_sequences_and_images_normalises_each_channel():
    x = torch.randn(4, 3, 5)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Flatten(), nn.Linear(15, 1))
    predict = MAML(net, MSE(), steps=0).adapt((x, torch.zeros(4, 1)))
    torch.testing.assert_close(predict(x), net.train()(x))


def test_modes_that_cannot_work_are_refused_with_the_reason():
    single = Task((torch.randn(1, 3), torch.randn(1, 1)), (torch.randn(1, 3), torch.randn(1, 1)))
    with pytest.raises(TaskError, match="single value"):
        MAML(Net())(single)
    with pytest.raises(TaskError, match="kept no running moments"):
        MAML(Net()).adapt(tasks(1)[0].support, norm="running")
    with pytest.raises(ConfigError, match="track_running_stats"):
        MAML(Net(track_running_stats=False), norm="running")
    with pytest.raises(ConfigError, match="layer"):
        MAML(Net()).trace(tasks(1), norm="layer")


def test_one_query_beside_the_support_also_serves_modules_that_vmap_cannot_run():
    class Branching(Net):
        def forward(self, x):
            y = super().forward(x)
            return y if y.sum().item() > -1e9 else -y

    net, [task] = Branching(), tasks(1)
    learner = MAML(net, rule=SGD(0.1), steps=0, norm="support+query")
    theta = {n: p.detach() for n, p in net.named_parameters()}
    want = answer("support+query", theta, task.support[0], task.query[0])
    with torch.no_grad():
        torch.testing.assert_close(learner.adapt(task.support)(task.query[0]), want)
    torch.testing.assert_close(learner.trace(task).outputs[0][-1], want)
