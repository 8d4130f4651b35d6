"""The memory module, against a memory that is written out with lists."""

import math

import pytest
import torch
from torch import nn

from fastadapt import Task
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import MemoryModule
from fastadapt.methods.memory_module import rounds
from fastadapt.methods.slots import Slots
from fastadapt.nets import RareEventsEncoder

pytestmark = pytest.mark.usefixtures("double")


def units(*rows):
    return [torch.tensor(row) / math.hypot(*row) for row in rows]


def plain(**more):
    """Return a learner whose keys are its samples, brought to length 1."""
    learner = MemoryModule(nn.Identity(), features=2, keys=2, **more)
    with torch.no_grad():
        learner.comparison.project.weight.copy_(torch.eye(2))
    return learner


def test_what_was_written_is_found_at_distance_one_and_is_young():
    slots, (a, b, c) = Slots(3, torch.zeros(2)), units((1.0, 0.0), (0.0, 1.0), (0.6, 0.8))
    for q, v in ((a, 4), (b, 2), (c, 9)):
        slots.write(q, v)
        found, _ = slots.look(q, v)
        torch.testing.assert_close(slots.keys[found] @ q, torch.tensor(1.0))
        assert int(slots.values[found]) == v and float(slots.ages[found]) == 0
    assert slots.ages.tolist() == [2, 1, 0] and slots.values.tolist() == [4, 2, 9]


def test_a_key_moves_towards_what_it_was_right_about_and_the_oldest_is_replaced_where_it_was_wrong():
    slots, (a, b, near) = Slots(2, torch.zeros(2)), units((1.0, 0.0), (0.0, 1.0), (0.8, 0.6))
    slots.write(a, 1)
    slots.write(b, 2)
    slots.write(near, 1)  # nearest is a, of that value
    torch.testing.assert_close(slots.keys[0], (a + near) / (a + near).norm())
    assert slots.ages.tolist() == [0, 1] and slots.used == 2
    slots.write(near, 3)  # nearest is the same, of another value: b is the oldest
    assert slots.values.tolist() == [1, 3] and slots.ages.tolist() == [1, 0]
    torch.testing.assert_close(slots.keys[1], near)
    slots.write(b, 1)  # nearest is `near`, of value 3, though 1 is known: replaces the oldest, which holds 1
    assert slots.values.tolist() == [1, 3]
    torch.testing.assert_close(slots.keys[0], b)


def test_noise_of_the_ages_lets_another_than_the_oldest_go_and_never_one_that_is_much_younger():
    torch.manual_seed(0)
    gone, (a, b, c) = set(), units((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
    for _ in range(30):
        slots = Slots(3, torch.zeros(2))
        for i, q in enumerate((a, b, c)):
            slots.write(q, i)
        slots.ages.copy_(torch.tensor([30.0, 28.0, 2.0]))
        slots.write(units((0.0, -1.0))[0], 7, noise=8.0)
        gone.add(slots.values.tolist().index(7))
    assert gone == {0, 1}


def test_each_class_comes_once_before_any_comes_again():
    classes = torch.randint(4, (40,)).tolist()
    order = rounds(classes)
    assert sorted(order) == list(range(40))
    seen = [classes[i] for i in order]
    assert sorted(seen[: len(set(classes))]) == sorted(set(classes))


def test_the_answer_is_the_value_of_the_nearest_key_and_its_own_scores_are_cosines():
    learner = plain().eval()
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.1], [-3.0, -3.0]])
    predict = learner.adapt((x, torch.tensor([0, 1, 0, 2])))
    keys = predict.model.memory.get_buffer("keys")
    assert len(keys) == 3  # the third sample moved the first key
    torch.testing.assert_close(keys[0], sum(units((1.0, 0.0), (1.0, 0.1))) / 2, atol=1e-2, rtol=0)
    queries = torch.randn(20, 2)
    temperature = math.log(0.2 * 256) / 0.1
    cosines = torch.cosine_similarity(queries.unsqueeze(1), keys, dim=2)
    torch.testing.assert_close(predict(queries), temperature * cosines)
    assert torch.equal(predict(queries).argmax(1), cosines.argmax(1))
    order = torch.tensor([3, 1, 0, 2])
    other = learner.adapt((x[order], torch.tensor([0, 1, 0, 2])[order]))
    torch.testing.assert_close(other(queries), predict(queries))  # classes keep their numbers in any order


def test_samples_are_written_in_their_order_and_a_small_memory_forgets():
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.1, -1.0]])
    learner = plain(slots=3).eval()
    predict = learner.adapt((x, torch.tensor([0, 1, 2, 2])))
    outputs = predict(x)
    assert (outputs[:, 0] < -1e30).all()  # the fourth sample met another value first, and replaced the oldest
    assert outputs.argmax(1).tolist()[1:] == [1, 2, 2]
    assert (learner.adapt((x, torch.tensor([2, 1, 0, 0])))(x)[:, 2] < -1e30).all()
    with pytest.raises(TaskError, match="a memory of 3 slots can't hold 4 classes; give slots=4 or more"):
        learner.adapt((x, torch.arange(4)))


def written_out(learner, x, y, margin):
    """Return the loss of a sequence, with a memory of lists that nothing falls out of."""
    keys, values, losses = [], [], []
    q = learner.comparison.project(learner.model(x))
    q = q / q.norm(dim=1, keepdim=True)
    for i in range(len(x)):
        near = [(float(q[i].detach() @ key), n) for n, key in enumerate(keys)]
        right = [pair for pair in near if values[pair[1]] == y[i]]
        wrong = [pair for pair in near if values[pair[1]] != y[i]]
        if right and wrong:
            losses.append((q[i] @ keys[max(wrong)[1]] - q[i] @ keys[max(right)[1]] + margin).clamp(min=0))
        if near and values[max(near)[1]] == y[i]:
            key = keys[max(near)[1]] + q[i].detach()
            keys[max(near)[1]] = key / key.norm()
        else:
            keys.append(q[i].detach())
            values.append(y[i])
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.1, 1.0])
def test_loss_and_gradient_of_an_episode_are_those_written_out(margin):
    learner = MemoryModule(nn.Sequential(nn.Linear(4, 5), nn.Tanh()), features=5, keys=3, margin=margin)
    x, y = torch.randn(15, 4), torch.arange(15) % 3  # rounds of the classes as they are
    outcome = learner(Task((x[:6], y[:6]), (x[6:], y[6:])))
    want = written_out(learner, x, y.tolist(), margin)
    torch.testing.assert_close(outcome.loss, want)
    params = list(learner.parameters())
    for got, expected in zip(*(torch.autograd.grad(v, params) for v in (outcome.loss, want)), strict=True):
        torch.testing.assert_close(got, expected)


def test_gradients_are_those_of_finite_differences_of_the_terms():
    """A step along a direction changes keys too, which are constants: they are held as they were."""
    learner = MemoryModule(nn.Linear(4, 5), features=5, keys=3, margin=1.0)
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    task = Task((x[:3], y[:3]), (x[3:], y[3:]))
    p = learner.comparison.project.weight
    [grad] = torch.autograd.grad(learner(task).loss, [p])
    terms = []
    memory = Slots(12, torch.zeros(3))
    for q, v in zip(learner.comparison.queries(learner.model(x)).detach(), y.tolist(), strict=True):
        right, wrong = memory.look(q, v)
        terms.append(None if right is None or wrong is None else memory.keys[wrong] - memory.keys[right])
        memory.write(q, v)

    def loss():
        q = learner.comparison.queries(learner.model(x)).detach()
        found = [float((1.0 + q[i] @ key).clamp(min=0)) for i, key in enumerate(terms) if key is not None]
        return sum(found) / len(found)

    direction, h = torch.randn_like(p), 1e-7
    with torch.no_grad():
        p += h * direction
        above = loss()
        p -= 2 * h * direction
        below = loss()
    assert float((grad * direction).sum()) == pytest.approx((above - below) / (2 * h), rel=1e-5)


def test_the_loss_is_zero_where_the_margin_is_kept_and_there_is_none_of_a_single_class():
    learner = plain(margin=0.5)
    far = torch.eye(2).repeat(3, 1), torch.arange(6) % 2
    outcome = learner(Task((far[0][:2], far[1][:2]), (far[0][2:], far[1][2:])))
    assert float(outcome.loss.detach()) == 0 and float(outcome.metrics["accuracy"]) == 1
    lone = Task((torch.randn(2, 2), torch.zeros(2).long()), (torch.randn(3, 2), torch.zeros(3).long()))
    assert float(learner(lone).loss.detach()) == 0
    near = torch.tensor([[1.0, 0.0], [0.6, 0.8], [1.0, 0.0]])  # cosines 1 of the right and 0.6 of the wrong
    outcome = learner(Task((near[:2], torch.tensor([0, 1])), (near[2:], torch.tensor([0]))))
    torch.testing.assert_close(outcome.loss.detach(), torch.tensor(0.1))


def test_every_task_has_a_memory_of_its_own():
    learner = plain()
    tasks = [Task((torch.randn(4, 2), torch.arange(4) % 2), (torch.randn(4, 2), torch.arange(4) % 2)) for _ in range(3)]
    together = learner(tasks).losses
    torch.testing.assert_close(together, torch.stack([learner(task).loss for task in tasks]))


@pytest.mark.long
def test_it_learns_to_tell_apart_what_its_first_keys_confuse():
    torch.manual_seed(0)
    learner = MemoryModule(nn.Sequential(nn.Linear(6, 12), nn.Tanh()), features=12, keys=8)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)

    def task():  # a class is a place of two numbers, the rest is noise
        places = torch.randn(5, 2)
        x = torch.cat((places.repeat(6, 1) + 0.1 * torch.randn(30, 2), 2 * torch.randn(30, 4)), 1)
        y = torch.arange(30) % 5
        return Task((x[:5], y[:5]), (x[5:], y[5:]))

    tests = [task() for _ in range(40)]
    before = float(learner.trace(tests).metrics["accuracy"].mean())
    for _ in range(60):
        optimizer.zero_grad()
        learner([task() for _ in range(4)]).loss.backward()
        optimizer.step()
    assert float(learner.trace(tests).metrics["accuracy"].mean()) > before + 0.2


def test_the_network_has_the_published_sizes():
    torch.set_default_dtype(torch.float32)
    net = RareEventsEncoder(1)
    shapes = [tuple(layer.weight.shape) for layer in net.body if isinstance(layer, nn.Conv2d)]
    assert shapes == [(64, 1, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3), (128, 128, 3, 3)]
    assert net.embed.weight.shape == (128, 7 * 7 * 128) and net.drop.p == 0.7
    assert abs(float(net.embed.weight.detach().std()) - 0.088) < 2e-3  # 0.1, cut off at two deviations
    with pytest.raises(ConfigError, match=r"dropout in \[0, 1\)"):
        RareEventsEncoder(1, dropout=1.0)


def test_settings_outside_their_range_are_refused():
    for settings in ({"margin": 0.0}, {"slots": 0}, {"keys": 0}):
        with pytest.raises(ConfigError, match="a memory needs features and keys >= 1, slots >= 1 or None"):
            MemoryModule(nn.Identity(), **{"features": 2, **settings})
    with pytest.raises(ConfigError, match="choose norm='running'"):
        MemoryModule(nn.Identity(), features=2, norm="transductive")
