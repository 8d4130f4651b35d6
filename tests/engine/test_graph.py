"""The graph strategy, with a stand-in for the device that replays operations and runs no Python."""

import threading
import warnings

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Adam, CrossEntropy, Exact, Execution, Reptile, Tasks
from fastadapt.engine import graph
from fastadapt.engine.engine import Engine
from fastadapt.engine.graph import Graphs, Uncapturable
from fastadapt.engine.recorder import OnCuda, waits_noticed
from fastadapt.engine.vmapped import Vmapped
from reference import grads_of
from replaying import Replaying


class OnGraphs(Engine):
    """Run every shape as a graph."""

    def __init__(self, route="vmap"):
        super().__init__(route)
        self.recorders = []
        self.graphs = Graphs(recorder=self._recorder, after=0)
        self.state_number = 0

    def _recorder(self, device):
        self.recorders.append(Replaying(device))
        return self.recorders[-1]

    @property
    def log(self):
        return self.recorders[0].log

    def __call__(self, f, state, tasks, extra, model, key, *rest, **more):
        return self.graphs.run(f, state, tasks, extra, self.execution.segment, (key, self.state_number))


def classification(count=3, shots=4, queries=6):
    def batch(n):
        return torch.randn(count, n, 3), (torch.arange(n) % 2).repeat(count, 1)

    return Tasks(batch(shots), batch(queries))


def both(build, net):
    """Return a learner that runs eagerly, and one that runs graphs, of the same network."""
    learners = [build(net), build(net)]
    learners[1].engine = OnGraphs()
    return learners


def gradient(learner, batch):
    learner.zero_grad()
    outcome = learner(batch)
    outcome.loss.backward()
    return outcome, {n: g.clone() for n, g in grads_of(learner).items()}


def mlp():
    return MLP(3, (8,), 2, norm=True, init_std=None)


LEARNERS = {
    "maml": lambda net: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=2, route="vmap"),
    "adam": lambda net: MAML(net, CrossEntropy(), rule=Adam(0.05, beta1=0.5), steps=2, route="vmap"),
    "long": lambda net: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=6, route="vmap"),
    "first order": lambda net: MAML(
        net, CrossEntropy(), rule=SGD(0.2), steps=2, meta_gradient="first_order", route="vmap"
    ),
    "learned rate": lambda net: MAML(
        net, CrossEntropy(), rule=SGD(nn.Parameter(torch.tensor(0.2))), steps=2, route="vmap"
    ),
    "reptile": lambda net: Reptile(net, CrossEntropy(), rule=SGD(0.2), steps=3, batch=2, route="vmap"),
    "running": lambda net: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=2, norm="running", route="vmap"),
    "per step": lambda net: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=2, norm="per_step", route="vmap"),
}


SLOW = ("adam", "long", "first order", "per step")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else []) for name in LEARNERS]
)
def test_replays_have_the_numbers_of_the_eager_call(name):
    net = mlp()
    learners = both(LEARNERS[name], net)
    optimizer = torch.optim.SGD(learners[1].parameters(), lr=0.5)
    for step in range(3):
        batch = classification()
        results = []
        for learner in learners:
            torch.manual_seed(step)  # minibatches
            results.append(gradient(learner, batch))
        (want, want_grads), (got, got_grads) = results
        assert torch.equal(got.losses, want.losses)
        assert all(torch.equal(a, b) for a, b in zip(got.outputs, want.outputs, strict=True))
        assert set(got_grads) == set(want_grads)
        for grad, other in zip(got_grads.values(), want_grads.values(), strict=True):
            torch.testing.assert_close(grad, other, rtol=1e-6, atol=1e-7)
        optimizer.step()  # in place: what was recorded reads the new weights
        if name == "learned rate":
            learners[0].rule.lr.data.copy_(learners[1].rule.lr)
    assert learners[1].engine.log == ["warm", "warm", "record", "replay", "replay", "replay"]


@pytest.mark.parametrize("name", ["running", pytest.param("per step", marks=pytest.mark.slow)])
def test_a_trace_is_recorded_and_follows_weights_and_moments(name):
    net = mlp()
    eager, graphs = both(LEARNERS[name], net)
    for _ in range(2):
        batch = classification()
        gradient(graphs, classification())  # moves the running moments
        if graphs.running is not None:
            eager.running.load_state_dict(graphs.running.state_dict())
        want, got = eager.trace(batch), graphs.trace(batch)
        torch.testing.assert_close(got.losses, want.losses, rtol=1e-6, atol=1e-7)
    assert graphs.engine.log.count("record") == 2  # the gradient and the trace


def test_a_result_outlives_the_next_replay():
    learner = both(LEARNERS["maml"], mlp())[1]
    first, second = classification(), classification()
    outcome = learner(first)
    losses, outputs = outcome.losses.clone(), [o.clone() for o in outcome.outputs]
    learner(second)
    assert torch.equal(outcome.losses, losses)
    assert all(torch.equal(a, b) for a, b in zip(outcome.outputs, outputs, strict=True))
    learner.zero_grad()
    outcome.loss.backward()
    got = grads_of(learner)
    _, want = gradient(LEARNERS["maml"](learner.model), first)
    for name, grad in got.items():
        torch.testing.assert_close(grad, want[name], rtol=1e-6, atol=1e-7)


def keeping(recorders):
    """Return what makes recorders and puts them into a list."""

    def make(device):
        recorders.append(Replaying(device))
        return recorders[-1]

    return make


def f(state, support, query, extra, run):
    """Return something that depends on all that it is given."""
    value = (state["w"] * support[0]).sum() + (state["b"] * query[0]).sum()
    value = value * extra["weight"] if extra else value
    return {"w": value * state["w"]}, {"loss": value}


def arguments(count=2, **state):
    pair = (torch.randn(count, 3), torch.zeros(count, 3))
    return {"w": torch.randn(3), "b": torch.randn(3), **state}, Tasks(pair, (torch.randn(count, 3), pair[1])), {}


vmapped = Vmapped().run


def same(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=0)


def test_state_is_read_where_it_stays_and_copied_where_it_does_not():
    recorders = []
    graphs = Graphs(recorder=keeping(recorders), after=0)
    state, tasks, extra = arguments()
    same(graphs.run(f, state, tasks, extra), vmapped(f, state, tasks, extra))
    state["w"].mul_(2)
    same(graphs.run(f, state, tasks, extra), vmapped(f, state, tasks, extra))
    assert recorders[0].log.count("record") == 1
    for _ in range(3):  # recorded once more when it first lies elsewhere, then copied
        state = {**state, "w": torch.randn(3)}
        same(graphs.run(f, state, tasks, extra), vmapped(f, state, tasks, extra))
    state["b"].add_(1)  # this one still stays
    same(graphs.run(f, state, tasks, extra), vmapped(f, state, tasks, extra))
    assert recorders[0].log.count("record") == 2


def test_shapes_types_extras_constants_and_keys_have_graphs_of_their_own():
    graphs = Graphs(recorder=Replaying, after=0)
    state, tasks, extra = arguments()
    weighed = {"weight": torch.rand(2)}
    noted = Tasks((*tasks.support, "a note"), tasks.query)
    for few, rest, key in (
        (tasks, extra, ()),
        (tasks, weighed, ()),
        (tasks, extra, 1),
        (arguments(3)[1], extra, ()),
        (noted, extra, ()),
        (Tasks((*tasks.support, "another"), tasks.query), extra, ()),
    ):
        for _ in range(2):
            same(graphs.run(f, state, few, rest, key=key), vmapped(f, state, few, rest))
    assert len(graphs.kept) == 6
    wide = {name: leaf.double() for name, leaf in state.items()}
    same(graphs.run(f, wide, tasks, extra), vmapped(f, wide, tasks, extra))
    assert len(graphs.kept) == 7


def test_a_shape_is_recorded_when_it_comes_again():
    recorders = []
    graphs = Graphs(recorder=keeping(recorders))
    state, tasks, extra = arguments()
    same(graphs.run(f, state, tasks, extra), vmapped(f, state, tasks, extra))
    assert not recorders and not graphs.kept
    for _ in range(2):
        same(graphs.run(f, state, tasks, extra), vmapped(f, state, tasks, extra))
    assert recorders[0].log == ["warm", "warm", "record", "replay", "replay"]


def test_the_least_recently_used_graph_is_let_go(monkeypatch):
    recorders = []
    monkeypatch.setattr(graph, "MOST", 2)
    monkeypatch.setattr(graph, "RETURNS", 3)
    graphs = Graphs(recorder=keeping(recorders), after=0)
    state, tasks, extra = arguments()
    for key in (1, 2, 1, 3, 1):
        graphs.run(f, state, tasks, extra, key=key)
    assert recorders[0].log.count("record") == 3  # 1 was used when 3 came, so 2 went
    assert [place[0] for place in graphs.kept] == [3, 1]
    for _ in range(4):
        same(graphs.run(f, state, tasks, extra, key=2), vmapped(f, state, tasks, extra))
    assert recorders[0].log.count("record") == 4  # after three calls that were not


def test_graphs_that_hold_more_than_they_may_are_let_go():
    recorders = []
    graphs = Graphs(150e-9, keeping(recorders), after=0)
    state, tasks, extra = arguments()
    for key in (1, 2, 3):  # each takes 100 bytes
        same(graphs.run(f, state, tasks, extra, key=key), vmapped(f, state, tasks, extra))
    assert recorders[0].log.count("forget") == 1
    assert [place[0] for place in graphs.kept] == [3]


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))

    def forward(self, x):
        return self.body(x)


def test_dropout_draws_afresh_and_as_the_eager_call_does():
    eager, graphs = both(LEARNERS["maml"], Dropped())
    batch, seen = classification(), []
    for seed in (0, 1, 1):
        results = []
        for learner in (eager, graphs):
            torch.manual_seed(seed)
            results.append(gradient(learner, batch)[0].losses)
        torch.testing.assert_close(results[1], results[0], rtol=1e-6, atol=1e-7)
        seen.append(results[1])
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    again = gradient(graphs, batch)[0].losses  # no seed: it goes on from where it was
    assert not torch.equal(again, seen[2])


@pytest.mark.parametrize("way", [Exact(segment=1), Exact()])
def test_dropout_in_steps_that_are_computed_again_is_refused(way):
    learner = MAML(Dropped(), CrossEntropy(), rule=SGD(0.2), steps=6, meta_gradient=way, route="vmap")
    learner.engine = OnGraphs()
    with pytest.raises(Uncapturable, match=r"draw random numbers \(dropout\?\) are computed a second time"):
        learner(classification())
    assert "record" not in learner.engine.log


def test_what_waits_for_the_device_is_refused_once_and_remembered():
    def loss(model, batch):
        x, y = batch
        scale = 1.0 if float(model.seen) > 5 else 2.0  # the same for all tasks, so that vmap runs it
        return scale * nn.functional.cross_entropy(model(x), y)

    net = mlp()
    net.register_buffer("seen", torch.tensor(1.0))
    learner = MAML(net, loss, rule=SGD(0.2), steps=1, route="vmap")
    learner.engine = OnGraphs()
    for _ in range(2):
        with pytest.raises(Uncapturable, match="waits for the device"):
            learner(classification())
    assert learner.engine.log == ["warm", "warm"]


def test_random_numbers_are_where_they_were_after_a_refusal():
    def drawn(state, support, query, extra, run):
        return {}, {"loss": torch.rand(()) * (1.0 if float(state["w"].sum()) > 0 else 2.0)}

    state, tasks, extra = arguments()
    before = torch.get_rng_state()
    with pytest.raises(Uncapturable):
        Graphs(recorder=Replaying, after=0).run(drawn, state, tasks, extra)
    assert torch.equal(torch.get_rng_state(), before)


def test_tensors_beside_the_learner_that_want_a_gradient_are_refused():
    beside = nn.Parameter(torch.ones(3))

    def with_beside(state, support, query, extra, run):
        return {}, {"loss": (beside * support[0]).sum()}

    with pytest.raises(Uncapturable, match="require a gradient beside the learner's own"):
        Graphs(recorder=Replaying, after=0).run(with_beside, *arguments())


def test_tensors_on_two_devices_or_on_none_that_records_are_refused():
    state, tasks, extra = arguments()
    with pytest.raises(Uncapturable, match="its tensors lie on cpu and meta, and a graph runs on one GPU"):
        Graphs(recorder=Replaying, after=0).run(f, {**state, "b": state["b"].to("meta")}, tasks, extra)
    with pytest.raises(Uncapturable, match="its tensors lie on cpu, and there are graphs on a CUDA GPU alone"):
        Graphs(recorder=OnCuda, after=0).run(f, state, tasks, extra)


def test_errors_of_the_function_itself_go_on_unchanged():
    def wrong(state, support, query, extra, run):
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        Graphs(recorder=Replaying, after=0).run(wrong, *arguments())


def test_the_stand_in_notices_a_result_that_is_kept_without_a_copy():
    place = torch.ones(2)
    result, replay = Replaying(torch.device("cpu")).record(lambda: 3 * place)
    assert not torch.equal(result, 3 * place)  # recording computes nothing
    replay()
    kept = result
    place.fill_(2)
    replay()
    assert torch.equal(kept, torch.tensor([6.0, 6.0]))


def test_precision_is_part_of_what_was_recorded():
    learner = MAML(MLP(3, (8,), 2), CrossEntropy(), rule=SGD(0.2), steps=1, route=Execution(route="vmap"))
    learner.engine = OnGraphs()
    batch = classification()
    plain = learner(batch).losses
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lower = learner(batch).losses
    assert not torch.equal(plain, lower)
    assert torch.equal(learner(batch).losses, plain)
    assert learner.engine.log.count("record") == 2


def test_waits_of_this_thread_are_noticed_and_those_of_others_are_left_alone(monkeypatch):
    modes = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])

    def set_mode(mode):
        modes.append(mode)
        if mode == "warn":
            warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)

    def wait():
        warnings.warn("called a synchronizing CUDA operation", stacklevel=2)

    with waits_noticed() as seen:
        other = threading.Thread(target=wait)
        other.start()
        other.join()
        assert not seen
        wait()
        wait()
    assert len(seen) == 2
    assert seen[0].startswith("test_graph.py, line ")
    assert modes == [0, "warn", 0]
    with pytest.warns(UserWarning, match="something else"), waits_noticed() as seen:
        warnings.warn("something else", stacklevel=1)
    assert not seen
