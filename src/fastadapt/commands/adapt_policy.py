"""`fastadapt adapt RUN goal=0.3,-0.2 --out FOLDER`: adapt a policy to an environment, and write it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastadapt.commands.goals import goal_of
from fastadapt.data.files import shown
from fastadapt.errors import ConfigError, DivergenceError
from fastadapt.rl.settings import EnvironmentData
from fastadapt.runs.predictor_file import save_predictor
from fastadapt.runs.run_files import LoadedRun

SEED = 0
"""Of the episodes that are lived through."""


def run(
    trained: LoadedRun, word: str, out: Path, *, steps: int | None, overwrite: bool, of_samples: Mapping[str, Any]
) -> int:
    """Adapt a policy to one goal, write the predictor and say what every update brought.

    Args:
        trained: the run.
        word: the goal, as it was written.
        out: the folder to write to.
        steps: updates; None takes those with which the run is evaluated.
        overwrite: replace the predictor that is there.
        of_samples: options that are of samples, which are to be None.

    Returns:
        The exit code, 0.

    Raises:
        FastadaptError: if anything can't be used; nothing was written then.
    """
    data, learner = trained.config.data, trained.learner
    assert isinstance(data, EnvironmentData)
    if given := [name for name, value in of_samples.items() if value is not None]:
        raise ConfigError(f"{given[0]} is of samples, and a policy learns from episodes; leave it out")
    source = data.source("test")
    goal = goal_of(word, source, seed=trained.config.protocol.seed)
    steps = learner.test_steps if steps is None else steps
    returns = learner.trace(source.task(goal, SEED), steps).metrics["return"][0].tolist()
    predictor = learner.adapt(source.task(goal, SEED).support, steps=steps)
    if not all(bool(p.isfinite().all()) for p in predictor.parameters()):
        raise DivergenceError(f"{steps} updates on {word} led to weights that are not finite; use fewer --steps")
    details = {"input": {**trained.input, "goal": goal.tolist()}, "net": trained.net, "run": trained.name}
    predictor.details.update(details, steps=steps, norm=predictor.norm)
    folder = save_predictor(predictor, out, overwrite=overwrite)
    place = ", ".join(f"{number:.4g}" for number in goal.tolist())
    print(
        f"adapted {shown(trained.name)} to {source.family.name} at the goal ({place}) in {steps} "
        f"update{'s' * (steps != 1)} of {source.episodes} episodes"
    )
    for j, value in enumerate(returns):
        print(f"mean return after {j} update{'s' * (j != 1)}: {value:.4g}")
    print(f"wrote {shown(folder)}")
    return 0
