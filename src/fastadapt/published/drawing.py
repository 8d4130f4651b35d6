"""The model that comes with the package: 3 to 10 classes of drawings, one sample each, every answer on its own.

It is MAML on Omniglot with 10 ways. Queries are normalised by the statistics of the support set, in training too, so
that an answer never depends on what else is asked. With fewer classes the head's further rows are left out; the inner
loss is a sum over classes, so that a class pulls equally hard whatever the number of classes.
"""

from dataclasses import replace

from fastadapt.config import RunConfig
from fastadapt.data.settings import OmniglotData
from fastadapt.evaluate import Protocol
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.training import Training

STEPS = 5
_CONFIG = RunConfig(
    data=OmniglotData(ways=10, fewest_ways=3, train_queries=3, queries=5),
    net=Conv4Net(width=64, pooled="flatten"),
    method=MAMLMethod(
        inner_lr=0.2,
        loss_reduction="sum_over_classes",
        steps=STEPS,
        test_steps=STEPS,
        adapt=("*", "!blocks.*.1.*"),
        norm="support",
    ),
    training=Training(
        steps=10_000,
        meta_batch=8,
        lr=1e-3,
        schedule="cosine",
        validate_every=1000,
        checkpoint_every=250,
        log_every=50,
    ),
    protocol=Protocol("omniglot-10w1s-drawing-v1", tasks=600, steps=10, report=STEPS),
    validation_tasks=200,
)


def _of(ways: int, shots: int) -> Measurement:
    protocol = replace(_CONFIG.protocol, name=f"omniglot-{ways}w{shots}s-drawing-v1")
    return Measurement(f"{ways} ways, {shots} shot{'s' * (shots > 1)}", protocol, data={"ways": ways, "shots": shots})


EXPERIMENTS = (
    Experiment(
        "drawing",
        "the shipped model: MAML, 3 to 10 ways, every query answered on its own",
        _CONFIG,
        (_of(3, 1), _of(5, 1), _of(10, 1), _of(3, 5), _of(5, 5)),
        "Finn, Abbeel, Levine 2017 (arXiv:1703.03400); the settings are ours",
    ),
)
"""The shipped model."""
