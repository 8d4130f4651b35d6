import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from fastadapt import MAML, MLP, SGD, Adam, Conv4, CrossEntropy, Execution, Reptile, Task, Tasks
from fastadapt.engine.threads import run_on_threads
from reference import difference, grads_of


def classification(count=4, shape=(3,), shots=4, queries=6):
    def batch(n):
        return torch.randn(count, n, *shape), (torch.arange(n) % 2).repeat(count, 1)

    return Tasks(batch(shots), batch(queries))


def gradient(learner, batch):
    learner.zero_grad()
    outcome = learner(batch)
    outcome.loss.backward()
    return outcome, {n: g.clone() for n, g in grads_of(learner).items()}


LEARNERS = {
    "maml": lambda net, route: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=2, route=route),
    "long": lambda net, route: MAML(net, CrossEntropy(), rule=Adam(0.05, beta1=0.5), steps=7, route=route),
    "fomaml": lambda net, route: MAML(
        net, CrossEntropy(), rule=SGD(0.2), steps=2, meta_gradient="first_order", route=route
    ),
    "anil": lambda net, route: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=2, adapt="head", route=route),
    "multi-step": lambda net, route: MAML(
        net, CrossEntropy(), rule=SGD(0.2), steps=3, step_weights=(0.2, 0.3, 0.5), route=route
    ),
    "running": lambda net, route: MAML(net, CrossEntropy(), rule=SGD(0.2), steps=2, norm="running", route=route),
    "reptile": lambda net, route: Reptile(net, CrossEntropy(), rule=SGD(0.2), steps=3, route=route),
    "minibatches": lambda net, route: Reptile(net, CrossEntropy(), rule=SGD(0.2), steps=3, batch=2, route=route),
}
NETS = {
    "mlp": (lambda: MLP(3, (8,), 2, norm=True, init_std=None), (3,)),
    "conv4": (lambda: Conv4(1, 3, 2, size=16, down="max", pooled="flatten", affine="both"), (1, 16, 16)),
}


CASES = [(name, "mlp", route) for name in LEARNERS for route in ("vmap", "loop") if (name, route) != ("long", "vmap")]
CASES += [pytest.param("long", "mlp", "vmap", marks=pytest.mark.slow)]  # its program takes twelve seconds to record
CASES += [("reptile", "conv4", "loop"), ("fomaml", "conv4", "vmap")]
CASES += [pytest.param("maml", "conv4", "loop", marks=pytest.mark.slow)]


@pytest.mark.long
@pytest.mark.parametrize("name, net, route", CASES)
def test_recorded_programs_give_the_eager_numbers(name, net, route):
    build, shape = NETS[net]
    model, batch = build(), classification(shape=shape)
    learners = [LEARNERS[name](model, how) for how in ("loop", Execution(route=route, compile="trace", threads=2))]
    for _ in range(2):  # the first time checks, the second runs
        results = []
        for learner in learners:
            torch.manual_seed(0)  # minibatches
            results.append(gradient(learner, batch))
    (want, want_grads), (got, got_grads) = results
    assert {p.compile for p in learners[1].engine.plans.values()} == {"trace"}
    torch.testing.assert_close(got.losses, want.losses, rtol=1e-4, atol=1e-5)
    assert set(got.metrics) == set(want.metrics)
    assert difference(got_grads, want_grads) < 2e-4


@pytest.mark.long
def test_native_code_gives_the_eager_numbers():
    model, batch = MLP(3, (8,), 2, norm=True, init_std=None), classification()
    _, want = gradient(LEARNERS["maml"](model, "loop"), batch)
    compiled = LEARNERS["maml"](model, Execution(compile="on"))
    outcome, got = gradient(compiled, batch)
    assert {p.compile for p in compiled.engine.plans.values()} == {"on"}
    assert difference(got, want) < 1e-4
    assert outcome.losses.shape == (4,) and len(outcome.outputs) == 4


def test_other_numbers_of_tasks_and_new_weights_are_served():
    model = MLP(3, (8,), 2, init_std=None)
    learner = LEARNERS["maml"](model, Execution(compile="trace"))
    for count in (4, 3, 4):
        batch = classification(count)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.1 * torch.randn_like(p))
        _, want = gradient(LEARNERS["maml"](model, "loop"), batch)
        assert difference(gradient(learner, batch)[1], want) < 1e-4


@pytest.mark.slow
def test_shapes_without_end_are_not_compiled_without_end(told):
    model = MLP(3, (4,), 2, init_std=None)
    learner = LEARNERS["maml"](model, Execution(compile="trace"))
    for count in range(1, 8):
        batch = classification(count)
        _, want = gradient(LEARNERS["maml"](model, "loop"), batch)
        assert difference(gradient(learner, batch)[1], want) < 1e-4
    assert any("sizes" in line for line in told())
    for shots in range(2, 24):
        learner(classification(2, shots=shots))
    assert sum(plan.compile == "trace" for plan in learner.engine.plans.values()) == 16


@pytest.mark.long
def test_the_result_does_not_depend_on_the_threads():
    build, shape = NETS["conv4"]
    model, batch = build(), classification(5, shape)
    grads = [
        gradient(LEARNERS["maml"](model, Execution(route="loop", compile="trace", threads=n)), batch)[1] for n in (1, 3)
    ]
    for other in grads[1:]:
        assert all(torch.equal(grads[0][name], other[name]) for name in grads[0])


class Faulty(nn.Module):
    """Give another result while it is recorded, as a faulty compiler would."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x) * (1.5 if isinstance(innermost(x), FakeTensor) else 1.0)


def innermost(x):
    while torch._C._functorch.is_functorch_wrapped_tensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x) if float(x.detach().sum()) > -1e9 else x[:, :2]


@pytest.mark.parametrize("build, word", [(Faulty, "off by"), (Branching, "is not compiled")])
def test_a_program_that_is_wrong_or_impossible_is_not_used(build, word, told):
    model, batch = build(), classification()
    learner = LEARNERS["maml"](model, Execution(route="loop", compile="trace"))
    _, got = gradient(learner, batch)
    assert difference(got, gradient(LEARNERS["maml"](model, "loop"), batch)[1]) < 1e-6
    assert {p.compile for p in learner.engine.plans.values()} == {"off"}
    assert any(word in line for line in told())


def test_what_draws_random_numbers_is_not_compiled(told):
    model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    learner = LEARNERS["maml"](model, Execution(compile="trace"))
    learner(classification())
    assert {p.compile for p in learner.engine.plans.values()} == {"off"}
    assert any("random" in line for line in told())


@pytest.mark.long
def test_without_a_compiler_the_steps_are_replayed(tmp_path):
    program = """
import logging, torch
from fastadapt import MAML, MLP, SGD, Execution, Task
logging.basicConfig(level=logging.INFO)
x = torch.randn(4, 2)
learner = MAML(MLP(2, (3,), 1, init_std=None), rule=SGD(0.1), route=Execution(compile="on"))
learner([Task((x, x[:, :1]), (x, x[:, :1]))] * 2).loss.backward()
print({plan.compile for plan in learner.engine.plans.values()})
"""
    environment = {**os.environ, "CXX": "/nonexistent/compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "{'trace'}" in done.stdout
    assert "recorded and replayed" in done.stderr


@pytest.mark.long
def test_lower_precision_is_near_and_is_lower():
    # smooth, because three digits turn the sign before many a ReLU
    model, batch = MLP(3, (32, 32), 2, activation="tanh", init_std=None), classification()
    _, want = gradient(LEARNERS["maml"](model, "loop"), batch)
    for how in (Execution(precision="bf16"), Execution(precision="bf16", compile="trace")):
        got = gradient(LEARNERS["maml"](model, how), batch)[1]
        assert 1e-5 < difference(got, want) < 5e-2
        assert all(g.dtype == torch.float32 for g in got.values())


def test_threads_keep_the_order_and_raise_what_went_wrong():
    before = torch.get_num_threads()
    assert list(run_on_threads(lambda i: i * i, 7, 3)) == [i * i for i in range(7)]
    with pytest.raises(ZeroDivisionError):
        list(run_on_threads(lambda i: 1 // (3 - i), 7, 2))
    assert torch.get_num_threads() == before


@pytest.mark.long
def test_a_learner_with_programs_can_be_copied_and_stored():
    model, batch = MLP(3, (8,), 2, init_std=None), classification()
    learner = LEARNERS["maml"](model, Execution(compile="trace"))
    _, want = gradient(learner, batch)
    for twin in (copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))):
        assert difference(gradient(twin, batch)[1], want) < 1e-5
        assert twin.engine.execution == learner.engine.execution


@pytest.mark.long
def test_another_precision_of_the_weights_has_programs_of_its_own():
    model, batch = MLP(3, (8,), 2, init_std=None), classification()
    learner = LEARNERS["maml"](model, Execution(compile="trace"))
    gradient(learner, batch)
    model.double()
    wide = Tasks((batch.support[0].double(), batch.support[1]), (batch.query[0].double(), batch.query[1]))
    _, got = gradient(learner, wide)
    assert difference(got, gradient(LEARNERS["maml"](model, "loop"), wide)[1]) < 1e-12


@pytest.mark.long
def test_mixed_shapes_have_programs_of_their_own():
    def task(n):
        return Task((torch.randn(n, 3), torch.arange(n) % 2), (torch.randn(4, 3), torch.arange(4) % 2))

    model, batch = MLP(3, (8,), 2, init_std=None), [task(4), task(6), task(4)]
    _, want = gradient(LEARNERS["maml"](model, "loop"), batch)
    assert difference(gradient(LEARNERS["maml"](model, Execution(compile="trace")), batch)[1], want) < 1e-4
