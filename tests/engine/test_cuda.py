"""The same numbers on a GPU: run by whoever has one."""

import pytest
import torch

from fastadapt import MAML, MLP, SGD, Conv4, CrossEntropy, Execution, Task, Tasks, Training, meta_train
from fastadapt.engine.engine import Engine
from fastadapt.engine.graph import Graphs, Uncapturable
from fastadapt.engine.memory import budget
from fastadapt.engine.recorder import OnCuda
from fastadapt.layers.forms import forced
from fastadapt.training import train
from reference import difference, grads_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

NETS = {
    "mlp": (lambda: MLP(3, (8,), 2, norm=True, init_std=None), (3,)),
    "conv4": (lambda: Conv4(1, 4, 2, size=16, down="max", pooled="flatten", affine="both"), (1, 16, 16)),
}
HOW = {
    "vmap": Execution(route="vmap"),
    "loop": Execution(route="loop"),
    "chunks": Execution(route="vmap", task_chunk=2),
    "trace": Execution(compile="trace"),
    "on": Execution(compile="on"),
}


def batch_on(device, shape):
    generator = torch.Generator().manual_seed(0)

    def samples(n):
        x = torch.randn(4, n, *shape, generator=generator)
        return x.to(device), (torch.arange(n) % 2).repeat(4, 1).to(device)

    return Tasks(samples(4), samples(6))


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("steps", [2, 7])
def test_every_execution_gives_the_numbers_of_the_cpu(net, how, steps):
    build, shape = NETS[net]
    model = build()
    reference = MAML(model, CrossEntropy(), rule=SGD(0.1), steps=steps, route="loop")
    reference(batch_on("cpu", shape)).loss.backward()
    want = {name: g.clone() for name, g in grads_of(model).items()}
    model.cuda().zero_grad()
    learner = MAML(model, CrossEntropy(), rule=SGD(0.1), steps=steps, route=HOW[how])
    for _ in range(3):  # programs are recorded, captured, replayed
        model.zero_grad()
        learner(batch_on("cuda", shape)).loss.backward()
    got = {name: g.cpu() for name, g in grads_of(model).items()}
    assert difference(got, want) < 5e-3


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_is_near(precision):
    build, shape = NETS["mlp"]
    model = build().cuda()
    grads = []
    for how in (Execution(), Execution(precision=precision)):
        model.zero_grad()
        MAML(model, CrossEntropy(), rule=SGD(0.1), steps=2, route=how)(batch_on("cuda", shape)).loss.backward()
        grads.append({name: g.clone() for name, g in grads_of(model).items()})
    assert difference(grads[1], grads[0]) < 5e-2
    assert not torch.backends.cuda.matmul.allow_tf32


def test_the_budget_is_half_of_the_memory():
    device = torch.device("cuda", torch.cuda.current_device())
    assert budget(device, None) == torch.cuda.get_device_properties(device).total_memory / 2


def learner_on_cuda(net, steps=2, **settings):
    build, shape = NETS[net]
    torch.manual_seed(0)
    model = build().cuda()
    return MAML(model, CrossEntropy(), rule=SGD(0.1), steps=steps, route="vmap", **settings), shape


class OnGraphs(Engine):
    """Run every shape as a graph."""

    def __init__(self):
        super().__init__("vmap")
        self.graphs = Graphs(after=0)

    def __call__(self, f, state, tasks, extra, model, key, *rest, **more):
        return self.graphs.run(f, state, tasks, extra, self.execution.segment, key)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("steps", [2, 7])
def test_graphs_have_the_numbers_of_the_eager_call(net, steps):
    learner, shape = learner_on_cuda(net, steps)
    batches = [batch_on("cuda", shape) for _ in range(3)]
    for i, batch in enumerate(batches):
        batch.support[0].add_(0.1 * i)
    want = []
    for batch in batches:
        learner.zero_grad()
        learner(batch).loss.backward()
        want.append({name: g.clone() for name, g in grads_of(learner).items()})
    learner.engine = OnGraphs(after=0)
    for batch, grads in zip(batches, want, strict=True):
        learner.zero_grad()
        learner(batch).loss.backward()
        assert difference(grads_of(learner), grads) < 1e-4
    assert len(learner.engine.graphs.kept) == 1


def test_dropout_in_a_graph_draws_afresh_and_by_the_seed():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 2)).cuda()
    learner = MAML(model, CrossEntropy(), rule=SGD(0.1), steps=1, route="vmap")
    batch, found = batch_on("cuda", (3,)), []
    for engine in (learner.engine, OnGraphs(after=0)):
        learner.engine = engine
        learner(batch)  # recorded, or looked at
        for seed in (1, 2, 2):
            torch.manual_seed(seed)
            found.append(learner(batch).losses.clone())
    assert not torch.equal(found[3], found[4])
    assert torch.equal(found[4], found[5])
    torch.testing.assert_close(found[:3], found[3:])


def test_after_a_refusal_the_gpu_is_as_usable_as_before():
    def waiting(state, support, query, extra, run):
        return {}, {"loss": support[0].sum() * float(state["w"].sum())}

    pair = torch.ones(2, 3, device="cuda"), torch.zeros(2, device="cuda")
    tasks, state = Tasks(pair, pair), {"w": torch.ones(3, device="cuda")}
    graphs = Graphs(after=0)
    with pytest.raises(Uncapturable, match=r"it waits for the GPU on its way \(test_cuda.py, line"):
        graphs.run(waiting, state, tasks, {})

    recorder = OnCuda(torch.device("cuda"))
    with pytest.raises(Uncapturable):  # without the look before it: the recording itself fails
        recorder.record(lambda: float(state["w"].sum()))
    result, replay = recorder.record(lambda: 2 * state["w"])
    replay()
    assert torch.equal(result, torch.full((3,), 2.0, device="cuda"))
    assert torch.cuda.get_sync_debug_mode() == 0
    assert float((torch.ones(3, device="cuda") * 2).sum()) == 6


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_training_is_that_of_single_calls(optimizer, monkeypatch):
    settings = Training(steps=12, meta_batch=4, optimizer=optimizer, lr=1e-2, schedule="linear")
    found = []
    for captured in (False, True):
        learner, _ = learner_on_cuda("mlp", norm="running")
        learner.engine = OnGraphs(after=0) if captured else learner.engine
        if not captured:
            monkeypatch.setattr(train, "captured_where_it_can_be", lambda step, optimizer: step)
        meta_train(learner, Poisoned(), settings, quiet=True)
        monkeypatch.undo()
        found.append({name: v.clone() for name, v in learner.state_dict().items()})
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-3, atol=1e-4)


class Poisoned:
    """Draw tasks, of which now and then one is not finite."""

    def sample(self, rng):
        x, y = torch.as_tensor(rng.standard_normal((4, 3)), dtype=torch.float32), torch.arange(4) % 2
        if rng.random() < 0.05:
            x[0, 0] = torch.nan
        return Task((x, y), (x.clone(), y))


@pytest.mark.parametrize("net", ["conv4"])
def test_convolutions_over_patches_are_those_of_the_library(net):
    grads = []
    for form in ("one by one", "patches"):
        learner, shape = learner_on_cuda(net)
        with forced(form):
            learner(batch_on("cuda", shape)).loss.backward()
        grads.append({name: g.clone() for name, g in grads_of(learner).items()})
    assert difference(grads[1], grads[0]) < 1e-3
