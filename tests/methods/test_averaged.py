"""The mean of many regressors, against as many trained one by one by `torch.optim.Adam`."""

import pytest
import torch
import torch.nn.functional as F

from fastadapt import MLP, SGD, Conv4, Pretrain, Sinusoid, Task
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import average_regressors
from fastadapt.tasks import draw

pytestmark = pytest.mark.usefixtures("double")
TASKS, MOST, THRESHOLD, LR = 6, 45, 0.6, 0.02
SOURCE = Sinusoid(shots=12, queries=0)


def build():
    return MLP(1, (6, 5), 1, activation="tanh", init_std=None)


def averaged(source=SOURCE, make=build, **settings):
    settings = {"tasks": TASKS, "most": MOST, "threshold": THRESHOLD, "lr": LR, "seed": 3, **settings}
    return average_regressors(make, source, **settings)


def one_by_one(pull="none", strength=0.0):
    """Return parameters, errors and updates of regressors trained one after another, each with its own optimizer."""
    tasks = draw(SOURCE, seed=3, split="train", indices=range(TASKS))
    torch.manual_seed(3)
    nets = [build() for _ in range(TASKS)]
    points = [tuple(leaf.double() for leaf in task.support) for task in tasks]
    errors, updates = [], []
    for i, ((x, y), net) in enumerate(zip(points, nets, strict=True)):
        optimizer = torch.optim.Adam(net.parameters(), LR)
        before = [[p.detach() for p in other.parameters()] for other in nets[:i]]
        for update in range(MOST + 1):
            error = F.mse_loss(net(x), y)
            if error < THRESHOLD or update == MOST:
                break
            penalty = torch.zeros(())
            for j, p in enumerate(net.parameters()):
                if pull == "mean" and before:
                    penalty = penalty + (p - sum(b[j] for b in before) / i).square().sum()
                elif pull == "zero":
                    penalty = penalty + p.square().sum()
            optimizer.zero_grad()
            (error + strength / 2 * penalty).backward()
            optimizer.step()
        errors.append(error.item())
        updates.append(update)
    return nets, errors, updates


@pytest.mark.parametrize(("pull", "strength"), [("none", 0.0), ("none", 9.0), ("zero", 0.05), ("mean", 0.3)])
def test_the_mean_is_that_of_regressors_trained_one_by_one(pull, strength):
    found = averaged(pull=pull, strength=strength)
    nets, errors, updates = one_by_one(pull, strength if pull != "none" else 0.0)
    assert found.updates.tolist() == updates
    assert 0 < found.reached < TASKS, "the case should have finished and unfinished ones"
    assert len(set(updates)) > 2
    torch.testing.assert_close(found.errors, torch.tensor(errors))
    for name in found.state:
        mean = torch.stack([net.get_parameter(name).detach() for net in nets]).mean(0)
        torch.testing.assert_close(found.state[name], mean, rtol=1e-9, atol=1e-9)


def test_a_finished_regressor_no_longer_moves():
    short, long = (averaged(most=most) for most in (0, MOST))
    assert short.updates.tolist() == [0] * TASKS
    easy = averaged(threshold=1e9)  # all are finished before they begin
    assert easy.reached == TASKS and easy.updates.max() == 0
    for name in easy.state:
        assert torch.equal(easy.state[name], short.state[name])
        assert not torch.equal(easy.state[name], long.state[name])


def test_it_repeats_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    first, again, other = averaged(), averaged(), averaged(seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first.state[n], again.state[n]) for n in first.state)
    assert not any(torch.equal(first.state[n], other.state[n]) for n in first.state)


def test_given_a_network_all_start_from_its_weights_and_leave_it_alone():
    net = build()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    start, moved = (averaged(make=net, most=most).state for most in (0, MOST))
    for name, p in net.named_parameters():
        torch.testing.assert_close(start[name], before[name])
        assert torch.equal(p, before[name]) and not torch.allclose(moved[name], p)


def test_the_mean_is_fine_tuned_as_a_pretrained_network():
    net = build()
    net.load_state_dict(averaged().state)
    learner = Pretrain(net, rule=SGD(0.01), test_steps=3)
    [task] = draw(Sinusoid(shots=5, queries=20), seed=0, split="test", indices=[0])
    task = Task(*((x.double(), y.double()) for x, y in (task.support, task.query)))
    assert learner.trace(task).losses.shape == (1, 4)


def test_it_says_how_many_came_below_the_threshold():
    found = averaged()
    assert str(found).startswith(f"{found.reached} of 6 regressors below 0.6 after ")
    assert str(found).endswith("45 at most")


def test_a_regressor_that_is_not_finite_is_not_counted_and_ends():
    def broken(rng):
        x, y = SOURCE.sample(rng).support
        return Task((x, y * float("nan")), (x, y))

    found = averaged(broken)
    assert found.reached == 0 and found.updates.tolist() == [0] * TASKS


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tasks": 0}, "tasks must be at least 1, got 0"),
        ({"most": -1}, "most must be at least 0, got -1"),
        ({"pull": "one"}, "pull must be one of 'none', 'zero', 'mean', got 'one'"),
        ({"strength": -1.0}, "strength must be finite and >= 0"),
        ({"threshold": float("nan")}, "threshold must be finite and >= 0"),
        ({"make": lambda: Conv4(1, 2, 3)}, "Conv4 has buffers"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        averaged(**settings)


def test_tasks_of_several_shapes_are_refused():
    def ragged(rng):
        return Sinusoid(shots=int(rng.integers(1, 9))).sample(rng)

    with pytest.raises(TaskError, match="tasks of one shape, got"):
        averaged(ragged)
