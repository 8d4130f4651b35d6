"""SNAIL and memory-augmented networks, against sequences that are put together by hand."""

import pytest
import torch
from torch import nn

from fastadapt import ClassImages, Protocol, Task, draw
from fastadapt.compare.by_instance import by_instance
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import MANN, SNAIL, ProtoNet

pytestmark = pytest.mark.usefixtures("double")
SMALL = {"hidden": 6, "slots": 5, "width": 3, "heads": 2}


def snail(**more):
    return SNAIL(nn.Linear(3, 4), **{"ways": 3, "features": 4, "length": 7, "filters": 2, "shuffle": False, **more})


def mann(**more):
    return MANN(nn.Linear(3, 4), **{"ways": 3, "features": 4, "shuffle": False, **SMALL, **more})


LEARNERS = {"snail": snail, "mann": mann, "lstm": lambda **more: mann(slots=None, **more)}
EVERY = pytest.mark.parametrize("build", LEARNERS.values(), ids=LEARNERS)


def task(ways=3, shots=2, queries=4):
    y = torch.randperm(ways * shots) % ways
    return Task((torch.randn(len(y), 3), y), (torch.randn(queries, 3), torch.arange(queries) % ways))


def row(label):
    return torch.tensor([float(label == c) for c in range(3)])


def snail_by_hand(learner, x, y, query):
    """Return the outputs for one query: the whole sequence through the network, its last element."""
    elements = [torch.cat((learner.model(v), row(c))) for v, c in zip(x, y.tolist(), strict=True)]
    sequence = torch.stack([*elements, torch.cat((learner.model(query), torch.zeros(3)))])
    return learner.comparison.net(sequence)[-1]


def mann_by_hand(learner, xs, ys):
    """Return the outputs at every step: samples beside the label of the one before."""
    before = [torch.zeros(3), *(row(c) for c in ys.tolist()[:-1])]
    sequence = torch.stack([torch.cat((learner.model(v), label)) for v, label in zip(xs, before, strict=True)])
    outputs, _ = learner.comparison.controller(sequence, learner.comparison.controller.start(sequence[0, 0]))
    return learner.comparison.head(outputs)


def assert_gradients(learner, got, want):
    torch.testing.assert_close(got, want)
    pairs = [torch.autograd.grad(value, list(learner.parameters())) for value in (got, want)]
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)


def test_the_loss_of_snail_is_at_the_end_of_a_sequence_for_each_query():
    learner, tasks = snail(), [task(), task(shots=1), task(), task(ways=2)]  # of several shapes
    losses = []
    for each in tasks:
        (x, y), (xq, yq) = each.support, each.query
        logits = torch.stack([snail_by_hand(learner, x, y, query) for query in xq])[:, : int(y.max()) + 1]
        losses.append(sum(row.exp().sum().log() - row[c] for row, c in zip(logits, yq, strict=True)) / len(yq))
    outcome = learner(tasks)
    torch.testing.assert_close(outcome.losses, torch.stack(losses))
    assert_gradients(learner, outcome.loss, sum(losses) / len(tasks))


@pytest.mark.parametrize("slots", [5, None])
def test_the_loss_of_a_memory_is_over_all_steps_of_a_sequence(slots):
    learner, tasks = mann(slots=slots), [task(), task(shots=1), task(), task(ways=2)]
    losses = []
    for each in tasks:
        (x, y), (xq, yq) = each.support, each.query
        labels = torch.cat((y, yq))
        logits = mann_by_hand(learner, torch.cat((x, xq)), labels)[:, : int(y.max()) + 1]
        losses.append(sum(row.exp().sum().log() - row[c] for row, c in zip(logits, labels, strict=True)) / len(labels))
    outcome = learner(tasks)
    torch.testing.assert_close(outcome.losses, torch.stack(losses))
    assert_gradients(learner, outcome.loss, sum(losses) / len(tasks))


@EVERY
def test_the_gradient_is_that_of_finite_differences(build):
    learner, tasks = build(), [task() for _ in range(2)]
    learner(tasks).loss.backward()
    step = 1e-6
    for p in list(learner.parameters())[::3]:
        place = int(p.grad.abs().argmax())
        flat = p.data.view(-1)
        losses = []
        for sign in (1, -1):
            flat[place] += sign * step
            losses.append(float(learner(tasks).loss.detach()))
            flat[place] -= sign * step
        assert float(p.grad.view(-1)[place]) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=1e-4, abs=1e-8)


def test_a_query_of_a_memory_is_one_further_step():
    learner, each = mann(), task()
    (x, y), (xq, _) = each.support, each.query
    got = learner.adapt((x, y))(xq)
    for query, answer in zip(xq, got, strict=True):
        whole = mann_by_hand(learner, torch.cat((x, query.unsqueeze(0))), torch.cat((y, y[:1])))
        torch.testing.assert_close(answer, whole[-1])


@EVERY
def test_the_support_set_is_read_in_the_order_in_which_it_is_given(build):
    learner, each = build(shuffle=True), task()
    (x, y), (xq, _) = each.support, each.query
    first = learner.adapt((x, y))(xq)
    torch.testing.assert_close(learner.adapt((x, y))(xq), first, rtol=0, atol=0)  # whatever the generator says
    order = torch.arange(len(y) - 1, -1, -1)
    assert not torch.allclose(learner.adapt((x[order], y[order]))(xq), first)


@EVERY
def test_training_shuffles_and_evaluation_does_not(build):
    torch.manual_seed(1)
    learner, each = build(shuffle=True), task()
    plain = build()
    plain.load_state_dict(learner.state_dict())
    losses = {round(float(learner(each).loss.detach()), 9) for _ in range(5)}
    assert len(losses) > 1
    assert float(learner.eval()(each).loss.detach()) == pytest.approx(float(plain(each).loss.detach()), rel=1e-12)


@EVERY
def test_more_classes_than_labels_are_refused_and_fewer_are_answered_among_themselves(build):
    learner = build()
    with pytest.raises(TaskError, match="a task has 4 classes, and this learner was built with ways=3"):
        learner.adapt((torch.randn(4, 3), torch.arange(4)))
    with pytest.raises(TaskError, match="build and train one with ways=4, or choose ProtoNet"):
        learner(task(ways=4))
    assert learner.adapt((torch.randn(4, 3), torch.arange(4) % 2))(torch.randn(5, 3)).shape == (5, 2)
    with pytest.raises(TaskError, match=r"features of shape .3,. for a sample.*give features=3"):
        build(features=4).comparison.remember(torch.randn(2, 3), torch.arange(2), 2)


@EVERY
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_samples_that_are_not_finite_are_refused(build, value):
    x = torch.randn(4, 3)
    x[1, 2] = value
    with pytest.raises(TaskError, match=r"support x, row 1: .*what is remembered of the support set is not finite"):
        build().adapt((x, torch.arange(4) % 2))


@EVERY
def test_a_query_that_is_marked_does_not_count(build):
    learner, support = build().eval(), task().support
    x, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    marked = learner.trace(Task(support, (x, torch.where(torch.arange(4) == 1, -100, y)))).losses
    kept = torch.tensor([0, 2, 3])
    torch.testing.assert_close(marked, learner.trace(Task(support, (x[kept], y[kept]))).losses)


def test_a_marked_step_shows_no_label_and_does_not_count():
    learner, support = mann().eval(), task().support
    x = torch.randn(2, 3)
    outcome = learner(Task(support, (x, torch.tensor([-100, 1]))))
    y = torch.cat((support[1], torch.tensor([-100, 1])))
    logits = mann_by_hand(learner, torch.cat((support[0], x)), y)
    torch.testing.assert_close(outcome.loss, nn.functional.cross_entropy(logits, y))


class Solved:
    """Make tasks of classes that a sample names, by its first number."""

    def __init__(self, ways=3, each=3):
        self.ways, self.each = ways, each

    def sample(self, rng):
        y = torch.arange(self.ways * self.each) % self.ways
        x = torch.from_numpy(rng.normal(size=(len(y), 3)))
        k = self.ways
        return Task((x[:k], y[:k]), (x[k:], y[k:]))


@pytest.mark.parametrize("slots", [5, None])
def test_accuracy_by_instance_is_counted_as_by_hand(slots):
    learner, protocol = mann(slots=slots), Protocol(tasks=7, seed=3)
    result = by_instance(learner, Solved(), protocol, meta_batch=3)
    assert result.per_task == by_instance(learner, Solved(), protocol, meta_batch=7).per_task
    rows = []
    for number in range(7):
        each = draw(Solved(), seed=3, split="test", indices=[number])[0]
        x, y = torch.cat((each.support[0], each.query[0])), torch.cat((each.support[1], each.query[1]))
        order = torch.randperm(9, generator=torch.Generator().manual_seed(3 * 1_000_003 + number))
        answers = mann_by_hand(learner, x[order], y[order]).argmax(1)
        seen, right = [0, 0, 0], [[], [], []]
        for answer, label in zip(answers.tolist(), y[order].tolist(), strict=True):
            right[seen[label]].append(float(answer == label))
            seen[label] += 1
        rows.append([sum(each) / 3 for each in right])
    torch.testing.assert_close(torch.tensor(result.per_task), torch.tensor(rows))
    means = torch.tensor(rows).mean(0)
    torch.testing.assert_close(torch.tensor(result.mean), means)
    half = 1.96 * torch.tensor(rows).std(0) / 7**0.5
    torch.testing.assert_close(torch.tensor(result.ci95), half, rtol=1e-4, atol=1e-6)
    assert str(result).startswith("instance  1: ") and "7 tasks" in str(result)


def test_by_instance_refuses_a_learner_that_answers_behind_a_support_set():
    for learner in (snail(), ProtoNet(nn.Linear(3, 4))):
        with pytest.raises(ConfigError, match="answers behind a support set; use evaluate, or train a MANN"):
            by_instance(learner, Solved())


@pytest.mark.long
@pytest.mark.parametrize("slots, shown", [(8, True), (None, True), (8, False)])
def test_it_learns_labels_that_are_shown_and_is_right_by_chance_where_they_are_shuffled_at_every_step(slots, shown):
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    learner = MANN(nn.Identity(), ways=2, features=4, hidden=24, slots=slots, width=8, heads=1)
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    losses = []
    for _ in range(250):
        tasks = []
        for _ in range(16):
            kind = torch.randperm(8) % 2  # two classes, which a sample shows and whose labels are drawn for each task
            x = torch.stack((1.0 * (kind == 0), 1.0 * (kind == 1), torch.zeros(8), torch.zeros(8)), 1)
            y = kind ^ int(torch.randint(2, ()))
            if not shown:
                y = torch.cat((torch.randperm(2), torch.randint(2, (6,))))
            first = torch.cat([(y == c).nonzero()[:1, 0] for c in (0, 1)])
            rest = torch.tensor([i for i in range(8) if i not in first.tolist()])
            tasks.append(Task((x[first], y[first]), (x[rest], y[rest])))
        outcome = learner(tasks)
        optimizer.zero_grad()
        outcome.loss.backward()
        optimizer.step()
        losses.append(outcome.metrics["accuracy"].mean())
    accuracy = float(torch.stack(losses[-30:]).mean())
    assert accuracy > 0.85 if shown else abs(accuracy - 0.5) < 0.06


def test_a_source_of_images_is_shown_by_instance():
    images = torch.randint(0, 256, (40, 4, 4), dtype=torch.uint8)
    source = ClassImages(images, torch.arange(40).numpy() // 4, tuple("abcdefghij"), ways=5, shots=1, queries=3)
    learner = MANN(nn.Flatten(), ways=5, features=16, **SMALL).float()
    assert len(by_instance(learner, source, Protocol(tasks=3)).mean) == 4
