"""The mini-ImageNet table: MAML, first-order MAML, Reptile, and the two baselines of Ravi and Larochelle."""

from dataclasses import replace

from fastadapt.evaluation import Protocol
from fastadapt.methods.settings import FineTuneMethod, NearestMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.published.omniglot import TASKS, of_reptile, percent, words
from fastadapt.runs.presets import PRESETS
from fastadapt.training.settings import Training

MAML = "Finn, Abbeel, Levine 2017 (arXiv:1703.03400), table 1"
REPTILE = "Nichol, Achiam, Schulman 2018 (arXiv:1803.02999), mini-ImageNet table"
BEST = "the weights are the best of the validations on the 16 classes that neither train nor test"
IMAGES = "the images are a copy re-encoded once as JPEG of quality 85"
MAML_TABLE = {"5w1s": (48.70, 1.84), "5w5s": (63.11, 0.92)}
FOMAML_TABLE = {"5w1s": (48.07, 1.75), "5w5s": (63.15, 0.91)}
TRANSDUCTIVE_TABLE = {"5w1s": (49.97, 0.32), "5w5s": (65.99, 0.58)}
RAVI = "Ravi, Larochelle 2017, quoted in Finn, Abbeel, Levine 2017 (arXiv:1703.03400), table 1"
RAVI_TABLE = {
    "fine-tuning": {1: (28.86, 0.54), 5: (49.79, 0.79)},
    "nearest neighbour": {1: (41.08, 0.70), 5: (51.04, 0.65)},
}
REPTILE_TABLE = {"5w1s": (47.07, 0.26), "5w5s": (62.74, 0.37)}


def _of_maml(kind: str, name: str, pair: tuple[float, float]) -> Experiment:
    config = PRESETS[name][1]
    protocol = config.protocol
    at = protocol.report if protocol.report is not None else protocol.steps or 0
    more = replace(protocol, name=f"{protocol.name}, 15 queries")
    return Experiment(
        name,
        f"{kind}, {words(name.rsplit('-', 1)[1])}",
        config,
        (
            Measurement("transductive", protocol, claims={at: percent(pair, MAML)}),
            # the same tasks' accuracy with half the interval
            Measurement("transductive, 15 queries", more, data={"queries": 15}, claims={at: percent(pair, MAML)}),
        ),
        MAML,
        differs=(BEST, TASKS, IMAGES),
    )


def _transfer() -> Experiment:
    # Ravi & Larochelle's baselines: one classifier of 64 classes, Adam 1e-3, batches of 64, 30,000 updates.
    base = PRESETS["maml-mini-imagenet-5w1s"][1]
    config = replace(
        base,
        data=replace(base.data, flat_batch=64),  # type: ignore[call-arg]
        net=Conv4Net(width=64, down="max", pooled="flatten", affine="both"),
        method=FineTuneMethod(test_steps=15),
        training=Training(steps=30_000, meta_batch=1, lr=1e-3, validate_every=0, checkpoint_every=100, log_every=50),
        export="last",
    )
    measurements = []
    for shots in (1, 5):
        for kind, by, steps in (("fine-tuning", None, 15), ("nearest neighbour", NearestMethod(), 0)):
            measurements.append(
                Measurement(
                    f"{kind}, {shots} shot{'s' * (shots > 1)}",
                    Protocol(f"mini-imagenet-5w{shots}s-transfer-v1", tasks=250, steps=steps),
                    data={"shots": shots, "queries": 15},
                    by=by,
                    claims={steps: percent(RAVI_TABLE[kind][shots], RAVI)},
                )
            )
    return Experiment(
        "transfer-mini-imagenet",
        "a classifier of all 64 classes, then fine-tuning or the nearest neighbour",
        config,
        tuple(measurements),
        RAVI,
        differs=(
            "250 test tasks (the code offers 100, 250 and 600)",
            "fine-tuning's rate and decay are the best of 8 pairs on 20 validation tasks, the code's of 42 on 100",
            IMAGES,
        ),
        rates=(0.1, 0.01, 1e-3, 1e-4),
        decays=(0.1, 0.0),
        tuned_on=20,
    )


EXPERIMENTS = (
    *(_of_maml("MAML", f"maml-mini-imagenet-{s}", pair) for s, pair in MAML_TABLE.items()),
    *(_of_maml("first-order MAML", f"fomaml-mini-imagenet-{s}", pair) for s, pair in FOMAML_TABLE.items()),
    *(
        of_reptile(
            f"reptile-mini-imagenet-{setting}",
            (TRANSDUCTIVE_TABLE, REPTILE_TABLE),
            REPTILE,
            "600 test tasks, the code's 10,000",
            IMAGES,
        )
        for setting in REPTILE_TABLE
    ),
    _transfer(),
)
"""The mini-ImageNet runs."""
