"""Which gradients of the inner loop make the outer step: the Reptile paper's figure of ten curves, and its ablation.

The combinations are named by what the outer step adds up: `sum3` is `g1 + g2 + g3`, `mean3` a third of it, `last3` is
`g3` alone (first-order MAML).
"""

from dataclasses import replace

from fastadapt.evaluation import Protocol
from fastadapt.methods.settings import FOMLMethod, ReptileMethod
from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.published.omniglot import CHARACTERS
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS

SOURCE = "Nichol, Achiam, Schulman 2018 (arXiv:1803.02999), figure of the gradient combinations"
OVERLAP = "Nichol, Achiam, Schulman 2018 (arXiv:1803.02999), figure of the overlap between inner and outer batches"
# The code steps along the sum of the minibatch's losses with rate 0.003: with a mean over 25 samples that is 0.075.
PER_SAMPLE, MEAN_OF_25 = 0.003, 0.075
PROTOCOL = Protocol("omniglot-5w5s-gradients-v1", tasks=600, steps=5, norm="support+query", ddof=0)
# forty-four runs whose curves fall by tens of percent: fewer test tasks are enough to see it
OVERLAP_PROTOCOL = replace(PROTOCOL, name="omniglot-5w5s-overlap-v1", tasks=200)
SMOOTHED = "accuracy is measured on 20 validation tasks at intervals, where the code smooths one task per outer step"
DIFFERS = (SMOOTHED, CHARACTERS, "600 test tasks at the end")
# name: (inner steps, outer rate, whether the last step alone counts)
COMBINATIONS = {
    "g1": (1, 0.25, False),
    "sum2": (2, 0.25, False),
    "mean2": (2, 0.125, False),
    "last2": (2, 0.25, True),
    "sum3": (3, 0.25, False),
    "mean3": (3, 0.08325, False),
    "last3": (3, 0.25, True),
    "sum4": (4, 0.25, False),
    "mean4": (4, 0.0625, False),
    "last4": (4, 0.25, True),
}
FORMULAS = {
    "g1": "g1",
    "sum2": "g1 + g2",
    "mean2": "1/2 (g1 + g2)",
    "last2": "g2",
    "sum3": "g1 + g2 + g3",
    "mean3": "1/3 (g1 + g2 + g3)",
    "last3": "g3",
    "sum4": "g1 + g2 + g3 + g4",
    "mean4": "1/4 (g1 + g2 + g3 + g4)",
    "last4": "g4",
}
# curve: (whether the last step alone counts, whether its samples are kept apart, whether minibatches are drawn afresh)
CURVES = {
    "reptile": (False, False, False),
    "separate": (True, True, False),
    "cycling": (True, False, False),
    "replacement": (True, False, True),
}
# panel: what varies -> the values on its axis; the others stay at 4 inner steps, 25 samples and an outer rate of 1
PANELS = {"steps": (2, 4, 6, 8), "batch": (10, 25, 50, 75), "rate": (0.25, 0.5, 1.0)}


def _config(steps: int, shots: int, batch: int, rate: float, last: bool, outer: int, tasks: int) -> RunConfig:
    base = PRESETS["reptile-omniglot-5w5s"][1]
    settings = {
        "inner_lr": MEAN_OF_25,
        "inner_rule": "sgd",
        "steps": steps,
        "batch": batch,
        "test_steps": 5,
        "test_batch": 25,
        "inner_state": "reset",
    }
    training = replace(base.training, steps=outer, meta_batch=tasks, lr=rate)
    return replace(
        base,
        data=replace(base.data, train_shots=shots),  # type: ignore[call-arg]
        method=FOMLMethod(**settings) if last else ReptileMethod(**settings),  # type: ignore[arg-type]
        training=replace(training, validate_every=500, checkpoint_every=500, log_every=100),
        protocol=PROTOCOL,
        validation_tasks=20,
    )


def _combination(name: str) -> Experiment:
    steps, rate, last = COMBINATIONS[name]
    config = _config(steps, 5 * steps, 25, rate, last, 40_000, 1)
    measured = Measurement("not transductive", PROTOCOL)
    words = f"outer steps along {FORMULAS[name]}"
    return Experiment(
        f"gradients-{name}", words, config, (measured,), SOURCE, differs=DIFFERS, figure="gradients", version=2
    )


def _overlap(panel: str, value: float, curve: str) -> Experiment:
    last, separate, replacement = CURVES[curve]
    steps = int(value) if panel == "steps" else 4
    batch = int(value) if panel == "batch" else 25
    rate = value if panel == "rate" else 1.0
    config = _config(steps, 20, batch, rate, last, 40_000, 5)
    # minibatches differ in size here, the separate tail and those at test have 25 samples: the rate is per sample
    method = replace(
        config.method,
        inner_lr=PER_SAMPLE,  # type: ignore[call-arg]
        loss_reduction="sum",  # type: ignore[call-arg]
        replacement=replacement,  # type: ignore[call-arg]
    )
    if separate:
        method = replace(method, tail=5)  # type: ignore[call-arg]
    config = replace(config, method=method, protocol=OVERLAP_PROTOCOL)
    return Experiment(
        f"overlap-{panel}-{value:g}-{curve}",
        f"{curve}, {panel} {value:g}: 20 shots, {steps} inner steps of {batch} samples, outer rate {rate:g}",
        config,
        (Measurement("not transductive", OVERLAP_PROTOCOL),),
        OVERLAP,
        differs=(
            SMOOTHED,
            CHARACTERS,
            "200 test tasks at the end",
            "the paper's values on the axes were not at hand; these span the same ranges",
        ),
        figure="overlap",
        version=3,
    )


EXPERIMENTS = (
    *(_combination(name) for name in COMBINATIONS),
    *(_overlap(panel, value, curve) for panel, values in PANELS.items() for value in values for curve in CURVES),
)
"""The ten curves, and the runs of the three panels."""
