"""How tasks move, collate and carry what is no tensor; how they are drawn stands in test_tasks.py."""

import copy
import dataclasses
import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import DataLoader, default_collate

from fastadapt import MAML, SGD, Execution, Reptile, Task, Tasks, group_by_shape
from fastadapt.errors import TaskError
from fastadapt.tasks import Collector, as_groups, as_support, draw, is_collector


def task(k=4, **beside):
    def batch(n):
        return {"x": torch.randn(n, 3), "y": torch.randn(n, 2), **beside}

    return Task(batch(k), batch(5))


class Graph:
    """Stand for a batch of graphs: an object of data that moves itself, in place."""

    def __init__(self, n=4):
        self.x, self.y = torch.randn(n, 3), torch.randn(n, 2)
        self.device, self.asked = "cpu", 0

    def to(self, device):
        self.device, self.asked = torch.device(device).type, self.asked + 1
        self.x, self.y = self.x.to(device), self.y.to(device)


class CallableGraph(Graph):
    """Data that happens to be callable, as graphs of torch_geometric are."""

    def __call__(self, *keys):
        return iter(keys)


@dataclasses.dataclass(frozen=True)
class Sentence:
    words: torch.Tensor
    language: str


class Steps:
    """A loss that reads everything there is in a batch."""

    def __call__(self, model, batch):
        x, y = (batch.x, batch.y) if isinstance(batch, Graph) else (batch["x"], batch["y"])
        scale = 1.0 if isinstance(batch, Graph) else batch.get("scale", 1.0) * (2 if batch.get("kind") == "b" else 1)
        return scale * (model(x) - y).square().mean()


@pytest.mark.parametrize("whole", [task, lambda: group_by_shape([task(), task()])[0]])
def test_they_move_as_tensors_do(whole):
    held = whole()
    assert held.to("cpu") is held and held.to(torch.device("cpu"), non_blocking=True) is held
    assert held.to("meta").support["x"].device.type == held.to(device="meta").query["y"].device.type == "meta"
    for wide in (held.to(torch.float64), held.to("cpu", torch.float64), held.to(dtype=torch.float64)):
        assert wide.query["x"].dtype == torch.float64 and held.query["x"].dtype == torch.float32
    there = held.to(torch.zeros(1, device="meta", dtype=torch.float64))
    assert (there.support["x"].device.type, there.support["x"].dtype) == ("meta", torch.float64)


def test_whole_numbers_stay_whole_and_complex_ones_complex():
    held = Task((torch.zeros(2), torch.arange(2), torch.zeros(2, dtype=torch.complex64), torch.ones(2) > 0), 3)
    moved = held.to(torch.float64)
    assert [t.dtype for t in moved.support] == [torch.float64, torch.int64, torch.complex128, torch.bool]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: t.to(torch.int64), "floating-point type such as torch.float64, got torch.int64"),
        (lambda t: t.to("cpu", copy=True), r"\.to\(device, dtype, non_blocking\), got 'copy'"),
    ],
)
def test_what_tasks_do_not_do_is_told(call, words):
    with pytest.raises(TaskError, match=words):
        call(task())


def test_objects_move_by_their_own_method_and_dataclasses_field_by_field():
    graph, sentence = Graph(), Sentence(torch.zeros(3), "en")
    held = Task({"graph": graph, "text": sentence, "note": None}, "nothing")
    there = held.to("meta", non_blocking=True)  # its own method has no such argument
    assert graph.device == "meta" and graph.asked == 1
    assert there.support["text"].words.device.type == "meta" and there.support["text"].language == "en"
    assert sentence.words.device.type == "cpu"
    assert there.support["graph"] is graph and there.support["note"] is None and there.query == "nothing"


def test_a_packed_sequence_moves_by_its_own_method():
    packed = pack_sequence([torch.zeros(3, 2), torch.zeros(2, 2)])
    there = Task(packed, packed).to("meta").support
    assert isinstance(there, PackedSequence)
    assert (there.data.device.type, there.batch_sizes.device.type) == ("meta", "cpu")


def test_trainers_set_the_fields_of_a_copy():
    for held in (task(), group_by_shape([task(), task()])[0]):  # as the precision plugins of Lightning do
        twin = copy.deepcopy(held, memo={id(held.support): held.support, id(held.query): held.query})
        for field in dataclasses.fields(held):
            setattr(twin, field.name, getattr(held, field.name))
        assert twin is not held and twin.support is held.support and hash(twin) != hash(held)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("collate", [None, list, group_by_shape])
def test_a_data_loader_gives_meta_batches(workers, collate):
    tasks = [task(3 + i % 2) for i in range(4)]
    learner = MAML(nn.Linear(3, 2), Steps(), rule=SGD(0.1))
    loader = DataLoader(tasks, batch_size=4, collate_fn=collate, num_workers=workers)
    [batch] = loader
    torch.testing.assert_close(learner(batch).losses, learner(tasks).losses)


def test_a_data_set_of_meta_batches_collates_too():
    groups = group_by_shape([task(), task()])
    assert [g.positions for g in default_collate(groups * 2)] == [(0, 1), (2, 3)]


def test_pinning_keeps_everything(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self + 1)
    held = Task((torch.zeros(2), "a", 3), None)
    assert held.pin_memory().support[0].tolist() == [1, 1] and held.pin_memory().support[1:] == ("a", 3)
    assert group_by_shape([held, held])[0].pin_memory().support[0].shape == (2, 2)


@pytest.mark.parametrize("route", ["auto", "vmap", "loop", Execution(compile="trace")])
def test_what_is_no_tensor_rides_along_and_is_seen_by_the_loss(route):
    tasks = [task(3 + (i == 3), kind="ab"[i % 2], scale=1 + i % 2, note=None) for i in range(6)]
    groups = group_by_shape(tasks)
    assert [g.positions for g in groups] == [(0, 2, 4), (1, 5), (3,)]
    for group in groups:
        for held, position in zip(group, group.positions, strict=True):
            assert torch.equal(held.support["x"], tasks[position].support["x"])
            assert held.support["kind"] == tasks[position].support["kind"] and held.query["note"] is None

    net = nn.Linear(3, 2).double()
    wide = [t.to(torch.float64) for t in tasks]
    learner = MAML(net, Steps(), rule=SGD(0.1), steps=1, route=route)
    losses = learner(wide).losses
    for i, held in enumerate(wide):  # by hand, without the library
        scale = (1 + i % 2) * (1 + i % 2)
        inner = scale * (net(held.support["x"]) - held.support["y"]).square().mean()
        w, b = (
            p - 0.1 * g
            for p, g in zip(net.parameters(), torch.autograd.grad(inner, list(net.parameters())), strict=True)
        )
        by_hand = scale * (nn.functional.linear(held.query["x"], w, b) - held.query["y"]).square().mean()
        torch.testing.assert_close(losses[i], by_hand.detach(), rtol=1e-12, atol=0)


def test_a_name_for_each_task_ends_in_the_loop():
    learner = MAML(nn.Linear(3, 2), Steps(), rule=SGD(0.1))
    tasks = [task(note=f"task {i}") for i in range(40)]
    losses = learner(tasks).losses
    assert len(learner.engine.plans) <= 16
    torch.testing.assert_close(losses[25], learner(tasks[25]).losses[0])


@pytest.mark.parametrize("kind", [Graph, CallableGraph])
@pytest.mark.parametrize("route", ["auto", "vmap", "loop", Execution(compile="trace")])
@pytest.mark.parametrize("build", [MAML, Reptile])
def test_objects_of_data_run_one_after_another(build, route, kind):
    tasks = [Task(kind(3 + i), kind(5)) for i in range(3)]
    [group] = group_by_shape(tasks)
    assert not group.stacked and not group.collects and len(group) == 3 and group[1].support is tasks[1].support
    learner = build(nn.Linear(3, 2), Steps(), rule=SGD(0.1), route=route)
    plain = [Task({"x": t.support.x, "y": t.support.y}, {"x": t.query.x, "y": t.query.y}) for t in tasks]
    twin = copy.deepcopy(learner)
    losses, expected = learner(tasks), twin(plain)
    torch.testing.assert_close(losses.losses, expected.losses)
    losses.loss.backward()
    expected.loss.backward()
    for ours, theirs in zip(learner.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(learner.trace(tasks, 1).losses, twin.trace(plain, 1).losses)


def test_only_a_collector_collects():
    def batch(model):
        return torch.zeros(2, 3)

    class Rollout(Collector):
        def __init__(self, goal):
            self.goal = goal

        def collect(self, model):
            return self.goal

    for leaf in (Collector(batch), Rollout(torch.ones(2))):
        assert is_collector(leaf)
    assert Rollout(3).collect(None) == Rollout(3)(None) == 3
    for leaf in (batch, nn.Linear(1, 1), CallableGraph(), functools.partial(batch), None, torch.zeros(2)):
        assert not is_collector(leaf)


ONE = torch.zeros(2, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (torch.zeros(3, 2), r"got a Tensor of shape \(3, 2\); write fastadapt.Task\(support=\(x, y\)"),
        ((ONE, ONE), "tuple of Tensor; write"),
        ([[ONE, ONE], [ONE, ONE]], "list of list; write"),
        ({"x": ONE}, "got a dict; write"),
        (None, "got a NoneType; write"),
        (nn.Linear(1, 1), "got a Linear; write"),
        (3, "got a int; write"),
        ([Task(ONE, ONE), ONE], "list of Task, Tensor; write"),
        ([Task([1.0, 2.0], [3.0])], "at least one tensor, got list of float; convert with torch.as_tensor"),
        ([Task((np.zeros(2), ONE), (ONE, ONE))], "got ndarray in the support; convert with torch.as_tensor"),
        ([Task((ONE, ONE), np.zeros(2))], "got ndarray in the query"),
        (
            [Task(lambda model: model, ONE)],
            r"the support is the function '<lambda>'.* fastadapt.tasks.Collector\(collect\)",
        ),
        ([Task(ONE, nn.Linear)], "the query is the class 'Linear'"),
        ([Task((Collector(len), ONE), ONE)], "gathers the whole support, but here it is a part of a tuple"),
    ],
)
def test_what_is_no_meta_batch_is_refused_with_what_to_write(given, words):
    with pytest.raises(TaskError, match=words) as caught:
        as_groups(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (task(), r"this is a Task with its queries; write adapt\(task.support\)"),
        (group_by_shape([task()])[0], r"this is a Tasks .* adapt\(tasks\[0\].support\)"),
        ((1.0, "a"), "needs at least one tensor, got tuple of float, str"),
        (lambda model: model, "function '<lambda>'"),
        (np.zeros(3), "got ndarray"),
    ],
)
def test_what_is_no_support_set_is_refused_with_what_to_write(given, words):
    with pytest.raises(TaskError, match=words):
        as_support(given)


def test_a_support_set_is_taken_as_it_is():
    for given in ((ONE, ONE), {"x": ONE, "n": 3}, Graph(), Collector(len), ONE):
        assert as_support(given) is given


@pytest.mark.parametrize(("given", "count"), [((ONE,), 1), ((ONE,) * 4, 4), ((), 0)])
def test_a_task_has_two_parts(given, count):
    with pytest.raises(TaskError, match=f"one support set and one query set, got {count} of them; write"):
        Task(*given)


@pytest.mark.parametrize("sides", [(Graph(), Graph()), ((Graph(),), (Graph(), Graph())), ((), (Graph(),))])
def test_tasks_that_cannot_be_stacked_are_as_many_supports_as_queries(sides):
    with pytest.raises(TaskError, match="one support for each task and one of as many queries"):
        Tasks(*sides)


def test_tasks_without_queries_are_told_apart():
    def queries(*query):
        return group_by_shape([Task((ONE, ONE), part) for part in query])[0].has_queries

    assert queries((ONE, ONE)) and not queries((ONE[:0], ONE[:0])) and not queries(None)
    graphs = [Task(Graph(), query) for query in (Graph(), None)]
    assert group_by_shape(graphs[:1])[0].has_queries and not group_by_shape(graphs[1:])[0].has_queries


def test_a_source_that_returns_a_pair_is_told_what_to_write():
    with pytest.raises(TaskError, match=r"got tuple for task 3 of 'a'; write fastadapt.Task\("):
        draw(lambda rng: (ONE, ONE), seed=0, split="a", indices=[3])
