"""Losses of seeded runs of every method and route, as they were: a change that should not alter results does not.

Bits differ between kinds of processor, so the file also holds a probe, the bits of a small computation that has nothing
of the library in it. Where the probe agrees the losses must agree bit for bit; elsewhere up to rounding.

    python tests/golden/test_golden.py            # writes golden.json anew, for a change that is meant to alter them
    python tests/golden/test_golden.py cavia ...  # the numbers of these runs alone, on the same kind of processor
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt import (
    MAML,
    MLP,
    SGD,
    Adam,
    Clip,
    Conv4,
    CrossEntropy,
    Execution,
    Implicit,
    Momentum,
    Pretrain,
    Reptile,
    Task,
    Training,
    meta_train,
)
from fastadapt.methods import (
    CAVIA,
    FOML,
    MANN,
    SNAIL,
    AdaptiveSubspaces,
    FineTune,
    MAMLPlusPlus,
    MatchingNet,
    MemoryModule,
    NearestNeighbour,
    NeuralStatistician,
    ProtoMAML,
    ProtoNet,
    RelationNet,
    RidgeHead,
    SiameseNet,
)
from fastadapt.nets import Generator, WithContext
from fastadapt.rules.curvature import MetaCurvature, curvature
from fastadapt.rules.meta_lstm import Gates, MetaLSTM
from fastadapt.rules.rates import Stepwise, learned_rates

FILE = Path(__file__).with_name("golden.json")
CROSS_ENTROPY = CrossEntropy()


def waves(rng):
    phase = rng.uniform(0, math.pi)
    x = torch.as_tensor(rng.uniform(-5, 5, (10, 1)), dtype=torch.float32)
    y = torch.sin(x + phase)
    return Task((x[:5], y[:5]), (x[5:], y[5:]))


def pictures(rng):
    centres = rng.normal(size=(2, 1, 16, 16))
    x = torch.as_tensor(np.repeat(centres, 4, 0) + 0.7 * rng.normal(size=(8, 1, 16, 16)), dtype=torch.float32)
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    return Task((x[::2], y[::2]), (x[1::2], y[1::2]))


def net():
    return MLP(1, (12, 12), 1)


def convolutions():
    return Conv4(1, 4, 2, size=16, down="max_same", affine="both")


def embedding():
    return Conv4(1, 4, None, size=16, down="max_same", affine="both")


def statistician():
    generator = Generator((4,), (1, 16, 16), width=2, hidden=6, context=5, latent=3)
    return NeuralStatistician(
        embedding(), generator=generator, likelihood="normal", features=(4,), hidden=6, context=5, halved_every=1
    )


def rated():
    model = net()
    return MAML(model, rule=SGD(learned_rates(model, 0.05)), steps=2, route=VMAP)


def curved(route, rates=False):
    model = net()
    rule = SGD(learned_rates(model, 0.05, "tensor") if rates else 0.05)
    return MAML(model, rule=MetaCurvature(rule, curvature(model)), steps=2, route=route)


def stepwise(route):
    model = net()
    rates = learned_rates(model, 0.05, per="tensor", steps=2)
    return MAML(model, rule=Stepwise(SGD(rates)), steps=2, route=route)


def plus(route, **settings):
    return MAMLPlusPlus(net(), steps=3, multi_step_epochs=2, epoch=1, route=route, **settings)


def lstm(route, meta_gradient="first_order", steps=2):
    return MAML(net(), rule=MetaLSTM(1.0, Gates(4)), steps=steps, meta_gradient=meta_gradient, route=route)


def context(route):
    return CAVIA(WithContext(MLP(1 + 3, (12, 12), 1, init_std=None), size=3), steps=2, route=route)


def filmed(route):
    model = Conv4(1, 4, 2, size=16, down="max_same", affine="both", film=3)
    return CAVIA(model, CROSS_ENTROPY, adapt="*.context", steps=2, route=route)


def prototypes(route, **settings):
    return ProtoMAML(embedding(), rule=SGD(0.1), steps=2, route=route, **settings)


def dropping():
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, 1))
    return MAML(model, rule=SGD(0.05), steps=2, route=VMAP)


LOOP, VMAP = Execution(route="loop"), Execution(route="vmap")
RECORDED_LOOP, RECORDED = Execution(route="loop", compile="trace"), Execution(route="vmap", compile="trace")

# name: (learner, tasks); every method, rule, norm and route
RUNS = {
    "maml loop": (lambda: MAML(net(), rule=SGD(0.05), steps=2, route=LOOP), waves),
    "maml vmap": (lambda: MAML(net(), rule=SGD(0.05), steps=2, route=VMAP), waves),
    "maml auto": (lambda: MAML(net(), rule=SGD(0.05), steps=1), waves),
    "maml loop trace": (lambda: MAML(net(), rule=SGD(0.05), steps=3, route=RECORDED_LOOP), waves),
    "maml vmap trace": (lambda: MAML(net(), rule=SGD(0.05), steps=3, route=RECORDED), waves),
    "maml seven steps": (lambda: MAML(net(), rule=SGD(0.02), steps=7, route=LOOP), waves),
    "maml segments": (lambda: MAML(net(), rule=SGD(0.02), steps=4, route=Execution("loop", segment=2)), waves),
    "maml adam": (lambda: MAML(net(), rule=Adam(0.01, beta1=0.9), steps=3, route=LOOP), waves),
    "maml momentum": (lambda: MAML(net(), rule=Momentum(0.02), steps=3, route=VMAP), waves),
    "maml clip": (lambda: MAML(net(), rule=Clip(SGD(0.1), 0.5), steps=2, route=LOOP), waves),
    "maml weights": (lambda: MAML(net(), rule=SGD(0.02), steps=3, step_weights=(0.2, 0.3, 0.5), route=LOOP), waves),
    "maml dropout": (dropping, waves),
    "meta-sgd": (rated, waves),
    "fomaml loop": (lambda: MAML(net(), rule=SGD(0.05), steps=3, meta_gradient="first_order", route=LOOP), waves),
    "fomaml vmap": (lambda: MAML(net(), rule=SGD(0.05), steps=3, meta_gradient="first_order", route=VMAP), waves),
    "anil": (lambda: MAML(net(), rule=SGD(0.05), steps=2, adapt="head", route=LOOP), waves),
    "boil": (lambda: MAML(net(), rule=SGD(0.05), steps=2, adapt="body", route=VMAP), waves),
    "reptile": (lambda: Reptile(net(), rule=Adam(0.01), steps=4, batch=2, route=LOOP), waves),
    "reptile vmap": (lambda: Reptile(net(), rule=SGD(0.05), steps=4, route=VMAP), waves),
    "reptile trace": (lambda: Reptile(net(), rule=SGD(0.05), steps=4, batch=3, route=RECORDED_LOOP), waves),
    "reptile serial": (lambda: Reptile(net(), steps=3, batch=2, inner_state="serial", route=LOOP), waves),
    "reptile mean": (lambda: Reptile(net(), steps=3, inner_state="mean", route=LOOP), waves),
    "foml": (lambda: FOML(net(), rule=SGD(0.05), steps=3, batch=2, route=LOOP), waves),
    "foml tail": (lambda: FOML(net(), rule=SGD(0.05), steps=3, batch=2, tail=1, route=LOOP), waves),
    "pretrain loop": (lambda: Pretrain(net(), rule=SGD(0.05), test_steps=3, route=LOOP), waves),
    "pretrain vmap": (lambda: Pretrain(net(), rule=SGD(0.05), test_steps=3, route=VMAP), waves),
    "conv loop": (lambda: MAML(convolutions(), CROSS_ENTROPY, rule=SGD(0.1), steps=2, route=LOOP), pictures),
    "conv vmap": (lambda: MAML(convolutions(), CROSS_ENTROPY, rule=SGD(0.1), steps=2, route=VMAP), pictures),
    "conv loop trace": (
        lambda: MAML(convolutions(), CROSS_ENTROPY, rule=SGD(0.1), steps=2, route=RECORDED_LOOP),
        pictures,
    ),
    "conv vmap trace": (
        lambda: MAML(convolutions(), CROSS_ENTROPY, rule=SGD(0.1), steps=1, route=RECORDED),
        pictures,
    ),
    "conv reptile": (
        lambda: Reptile(convolutions(), CROSS_ENTROPY, steps=3, batch=2, norm="support+query", route=VMAP),
        pictures,
    ),
    **{
        f"conv {norm}": (
            lambda norm=norm: MAML(convolutions(), CROSS_ENTROPY, rule=SGD(0.1), steps=2, norm=norm, route=LOOP),
            pictures,
        )
        for norm in ("support", "support+query", "running", "per_step")
    },
    "fine-tune": (
        lambda: FineTune(convolutions(), CROSS_ENTROPY, classes=2, lr=0.1, decay=0.1, test_steps=3, route=VMAP),
        pictures,
    ),
    "nearest": (lambda: NearestNeighbour(convolutions(), CROSS_ENTROPY, classes=2, route=VMAP), pictures),
    "protonet": (lambda: ProtoNet(embedding()), pictures),
    "protonet support": (lambda: ProtoNet(embedding(), norm="support"), pictures),
    "matching": (lambda: MatchingNet(embedding(), context=4), pictures),
    "matching sum": (lambda: MatchingNet(embedding(), votes="sum"), pictures),
    "siamese": (lambda: SiameseNet(embedding(), features=4), pictures),
    "relation": (lambda: RelationNet(embedding(), features=(4,), width=6), pictures),
    "subspaces": (lambda: AdaptiveSubspaces(embedding()), pictures),
    "statistician": (statistician, pictures),
    "memory": (lambda: MemoryModule(embedding(), features=4, keys=3), pictures),
    "snail": (lambda: SNAIL(embedding(), ways=2, features=4, length=9, filters=4), pictures),
    "mann": (lambda: MANN(embedding(), ways=2, features=4, hidden=6, slots=8, width=3, heads=2), pictures),
    "lstm": (lambda: MANN(embedding(), ways=2, features=4, hidden=6, slots=None), pictures),
}
ROUTES = {"loop": LOOP, "vmap": VMAP, "loop trace": RECORDED_LOOP, "vmap trace": RECORDED}
MADE_OF_MAML = {
    "imaml": lambda r: MAML(net(), rule=SGD(0.05), steps=4, meta_gradient=Implicit(2.0, 3), route=r),
    "lslr": stepwise,
    "mamlpp": plus,
    "meta-lstm": lstm,
    "meta-curvature": curved,
    "cavia": context,
}
RUNS |= {
    f"{name} {words}": (lambda build=build, route=route: build(route), waves)
    for name, build in MADE_OF_MAML.items()
    for words, route in ROUTES.items()
}
RUNS |= {
    f"conv protomaml {words}": (lambda route=route: prototypes(route), pictures) for words, route in ROUTES.items()
}
RUNS |= {
    "mamlpp first order": (lambda: plus(VMAP, first_order_epochs=2), waves),
    "mamlpp off": (lambda: plus(VMAP, step_affine=False, norm="transductive", rule=SGD(0.05)), waves),
    "meta-lstm exact": (lambda: lstm(VMAP, "exact"), waves),
    "meta-lstm seven steps": (lambda: lstm(LOOP, steps=7), waves),
    "meta-curvature rates": (lambda: curved(VMAP, rates=True), waves),
    "conv mamlpp": (lambda: MAMLPlusPlus(convolutions(), CROSS_ENTROPY, steps=2, epoch=1, route=VMAP), pictures),
    "conv cavia": (lambda: filmed(VMAP), pictures),
    "conv foprotomaml": (lambda: prototypes(VMAP, meta_gradient="first_order"), pictures),
    "conv r2d2": (lambda: RidgeHead(embedding(), frozen=False, scale=10.0), pictures),
}
COMPILED = {  # a compiler takes a while
    "maml vmap on": (lambda: MAML(net(), rule=SGD(0.05), steps=2, route=Execution("vmap", compile="on")), waves),
    "maml loop on": (lambda: MAML(net(), rule=SGD(0.05), steps=2, route=Execution("loop", compile="on")), waves),
}


def result(name):
    """Return the numbers of three outer steps, of a trace, of a predictor and of the weights, bit for bit."""
    build, sample = {**RUNS, **COMPILED}[name]
    torch.manual_seed(0)
    learner = build()
    source = sample
    training = Training(steps=3, meta_batch=4, lr=0.01, log_every=1, seed=3)
    records = meta_train(learner, source, training, quiet=True).records
    numbers = [record["loss"] for record in records if "loss" in record]
    numbers += [record["gradient"] for record in records if "gradient" in record]
    task = sample(np.random.default_rng(5))
    learner.eval()
    numbers += learner.trace(task, 2).losses.flatten().tolist()
    with torch.no_grad():
        numbers += learner.adapt(task.support)(task.query[0]).double().sum(0).flatten().tolist()
        numbers.append(float(sum(p.double().sum() for p in learner.parameters())))
    return [number.hex() for number in numbers]


def probe():
    """Return the bits of a computation of torch alone, which tell one kind of processor from another."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.randn(64, 1, 12, 12, generator=generator), torch.randn(4, 1, 3, 3, generator=generator)
    y = nn.functional.conv2d(x, w, padding=1).tanh().flatten(1)
    z = (y @ torch.randn(576, 33, generator=generator)).exp().log_softmax(1)
    rounded = [float(v).hex() for v in (z.sum(), y.std(), (z.T @ z).trace(), (x * x).rsqrt().mean())]
    return [torch.__version__.split("+")[0], torch.backends.cpu.get_cpu_capability(), *rounded]


def held_to(name, golden, bits):
    got, want = result(name), golden["runs"][name]
    if bits:
        assert got == want
    else:  # what rounds otherwise goes another way after the first step
        assert float.fromhex(got[0]) == pytest.approx(float.fromhex(want[0]), rel=1e-3)


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text())


EVERY_TIME = ("lslr loop", "mamlpp loop", "imaml vmap", "meta-lstm vmap", "meta-curvature loop", "cavia vmap")
OFTEN = ("mamlpp loop trace", "cavia vmap trace", "conv protomaml vmap trace")


def cost(name):
    """Return the marks of a run: recorded routes take seconds; of what was made of MAML one route runs every time."""
    made = name.removeprefix("conv ").split()[0] in (*MADE_OF_MAML, "protomaml")
    if made and name.endswith("trace") and name not in OFTEN:
        return [pytest.mark.slow]
    dear = name.startswith("conv ") or name.endswith("trace") or (made and name not in EVERY_TIME)
    return [pytest.mark.long] if dear else []


@pytest.mark.parametrize("name", [pytest.param(name, marks=cost(name)) for name in RUNS])
def test_the_losses_are_as_they_were(name, golden):
    held_to(name, golden, bits=golden["probe"] == probe())


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPILED)
def test_the_compiled_losses_are_as_they_were(name, golden):
    held_to(name, golden, bits=False)  # native code built anew may round otherwise


if __name__ == "__main__":
    torch.set_num_threads(1)
    runs = {}
    if sys.argv[1:]:
        kept = json.loads(FILE.read_text())
        assert kept["probe"] == probe(), "the other runs were written on another kind of processor: write all of them"
        runs = kept["runs"]
    runs |= {name: result(name) for name in sys.argv[1:] or {**RUNS, **COMPILED}}
    FILE.write_text(json.dumps({"probe": probe(), "runs": runs}, indent=1) + "\n")
