"""`Execution(route="graph")` through the engine: the loop's numbers, whatever Python state changes in between."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, CrossEntropy, Execution, Reptile, Tasks
from fastadapt.engine.graph import Graphs
from reference import grads_of
from replaying import Replaying


def batch(count=3, rows=6):
    def half():
        return torch.randn(count, rows, 3), (torch.arange(rows) % 2).repeat(count, 1)

    return Tasks(half(), half())


def on_graphs(learner, seen=None):
    """Let a learner record on the stand-in for a device."""

    def recorder(device):
        made = Replaying(device)
        if seen is not None:
            seen.append(made)
        return made

    learner.engine.graphs = Graphs(recorder=recorder, after=0)
    return learner


def gradient(learner, tasks):
    learner.zero_grad()
    outcome = learner(tasks)
    outcome.loss.backward()
    return outcome.losses.detach().clone(), {n: g.clone() for n, g in grads_of(learner).items()}


def pair(loss, net, build=MAML, **settings):
    """Return a learner that runs graphs, and one that runs the loop, on the same network."""
    graphs = on_graphs(build(net, loss, rule=SGD(0.2), steps=2, route=Execution(route="graph"), **settings))
    return graphs, build(net, loss, rule=SGD(0.2), steps=2, route="loop", **settings)


@pytest.mark.parametrize("build", [MAML, Reptile])
def test_new_tasks_and_new_weights_give_the_loop_s_numbers(build):
    net = MLP(3, (8,), 2, init_std=None)
    graphs, loop = pair(CrossEntropy(), net, build)
    for _ in range(3):
        tasks = batch()
        (losses, got), (want_losses, want) = gradient(graphs, tasks), gradient(loop, tasks)
        torch.testing.assert_close(losses, want_losses)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.1)
    assert {plan.strategy for plan in graphs.engine.plans.values()} == {"graph"}
    assert len(graphs.engine.graphs.kept) == 1


def test_a_weight_that_is_annealed_is_never_frozen():
    beta = [1.0]

    def loss(model, few):
        return beta[0] * nn.functional.cross_entropy(model(few[0]), few[1])

    graphs, loop = pair(loss, MLP(3, (8,), 2, init_std=None))
    tasks = batch()
    for value in (1.0, 1.0, 0.3, 0.3, 0.3, 0.3, 1.0, 2.0):
        beta[0] = value
        torch.testing.assert_close(gradient(graphs, tasks)[0], gradient(loop, tasks)[0])


def test_the_mode_of_the_module_is_never_frozen():
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    graphs, loop = pair(CrossEntropy(), net)
    tasks = batch()
    dropped = [gradient(graphs, tasks)[0] for _ in range(3)]
    assert not torch.equal(dropped[1], dropped[2])  # another mask at each replay
    for learner in (graphs, loop):
        learner.eval()
    torch.testing.assert_close(gradient(graphs, tasks)[0], gradient(loop, tasks)[0])


def test_a_trace_runs_as_a_graph_too():
    seen = []
    net = MLP(3, (8,), 2, init_std=None)
    graphs, loop = pair(CrossEntropy(), net)
    on_graphs(graphs, seen)
    for _ in range(2):
        tasks = batch()
        torch.testing.assert_close(graphs.trace(tasks, 3).losses, loop.trace(tasks, 3).losses)
    assert "record" in seen[0].log


@pytest.mark.parametrize("norm", ["transductive", pytest.param("support", marks=pytest.mark.long)])
def test_adapting_runs_as_a_graph_too(norm):
    seen = []
    net = MLP(3, (8,), 2, norm=True, init_std=None)
    graphs, loop = pair(CrossEntropy(), net, norm=norm)
    on_graphs(graphs, seen)
    for steps in (2, 2, 2, 0):
        tasks = batch(1)
        support, (x, _) = tasks[0].support, tasks[0].query
        torch.testing.assert_close(graphs.adapt(support, steps)(x), loop.adapt(support, steps)(x))
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(1.1)
    assert seen[0].log.count("record") >= 1
    assert seen[0].log.count("replay") >= 2


def test_where_there_is_no_gpu_it_says_so_and_vmap_serves(told):
    learner = MAML(MLP(3, (8,), 2, init_std=None), CrossEntropy(), rule=SGD(0.2), route=Execution(route="graph"))
    tasks = batch()
    for _ in range(3):
        got = gradient(learner, tasks)
    want = gradient(MAML(learner.model, CrossEntropy(), rule=SGD(0.2), route="loop"), tasks)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert sum("without CUDA graphs" in line for line in told()) == 1
