"""Reinforcement learning as published: raw means over 40 goals, of the result files that MAML's authors made public."""

import math
from collections.abc import Sequence

from fastadapt.evaluation import Z95
from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.runs.presets import PRESETS

SOURCE = "Finn et al. 2017 (arXiv:1703.03400), section 5.3; numbers: the public result files of cbfinn/maml_rl"
GOALS = 40
DIFFERS = (
    "as many episodes for each task, whatever their length; the public code counts steps, so short episodes are more",
    "40 goals of a stream of our own; the public code draws 40 others of the same distribution",
)
VERSIONS = {"pretrain-navigation": 2}
"""Version 1 was trained by TRPO on 10 episodes a step, as the public script of the oracle is."""
# environment -> method -> raw means after 0, 1, ... updates, with the standard deviation over goals where it is known
MEANS: dict[str, dict[str, Sequence[tuple[float, float | None]]]] = {
    "navigation": {
        "maml": [(-40.41, 12.9), (-11.68, 7.0), (-3.33, 1.8), (-3.23, None), (-3.35, None)],
        "pretrain": [(-40.81, None), (-19.73, None), (-11.72, None), (-8.47, None), (-7.49, None)],
        "oracle": [(-2.29, None)],
    },
    "half-cheetah-velocity": {
        "maml": [(-129.53, 53.4), (-78.57, 31.8), (-66.62, 28.8), (-60.78, 27.8)],
        "pretrain": [(-158.0, None), (-135.39, None), (-128.47, None), (-133.61, None)],
        "oracle": [(-54.47, None)],
    },
    "half-cheetah-direction": {
        "maml": [(-50.69, 18.5), (293.19, 54.9), (313.48, 50.9), (315.65, 44.7)],
        "pretrain": [(-43.03, None), (-24.75, None), (-12.85, None), (19.57, None)],
        "oracle": [(442.69, None)],
    },
    "ant-velocity": {
        "maml": [(30.58, 96.9), (96.74, 66.9), (100.06, None), (101.41, None)],
        "pretrain": [(-1.83, None), (6.11, None), (8.47, None), (9.47, None)],
        "oracle": [(107.89, None)],
    },
    "ant-direction": {
        "maml": [(8.66, None), (499.15, 103.6), (500.68, None), (499.11, None)],
        "pretrain": [(3.16, None), (1.27, None), (6.51, None), (6.86, None)],
        "oracle": [(524.8, None)],
    },
}


def _claim(value: float, std: float | None) -> Claim:
    half = None if std is None else round(Z95 * std / math.sqrt(GOALS), 2)
    return Claim(value, half, "95 % CI over goals, of the published standard deviation", SOURCE)


def _experiments() -> list[Experiment]:
    found = []
    for environment, methods in MEANS.items():
        for method, means in methods.items():
            name = f"{method}-{environment}"
            if name not in PRESETS:
                continue
            what, config = PRESETS[name]
            claims = {j: _claim(*pair) for j, pair in enumerate(means)}
            measured = Measurement(f"{GOALS} goals", config.protocol, claims=claims)
            version = VERSIONS.get(name, 1)
            found.append(Experiment(name, what, config, (measured,), SOURCE, differs=DIFFERS, version=version))
    return found


EXPERIMENTS = _experiments()
