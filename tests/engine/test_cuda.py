"""The same numbers on a GPU: run by whoever has one."""

import pytest
import torch

from fastadapt import MAML, MLP, SGD, Conv4, CrossEntropy, Execution, Tasks
from fastadapt.engine.memory import budget
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
