"""`fastadapt adapt RUN goal=0.3,-0.2 --out FOLDER`: adapt a policy to an environment, and write it."""

from typing import TYPE_CHECKING

from fastadapt.commands.goals import goal_of
from fastadapt.data.files import shown
from fastadapt.errors import ConfigError, DivergenceError
from fastadapt.rl.settings import EnvironmentData
from fastadapt.runs.predictor_file import save_predictor

if TYPE_CHECKING:
    from fastadapt.commands.adapt import AdaptSettings
    from fastadapt.runs.run_files import LoadedRun

SEED = 0
"""Of the episodes that are lived through."""


def run(settings: "AdaptSettings", trained: "LoadedRun") -> int:
    """Adapt a policy to one goal, write the predictor and say what every update brought.

    Returns:
        The exit code, 0.

    Raises:
        FastadaptError: if anything can't be used; nothing was written then.
    """
    data, learner = trained.config.data, trained.learner
    assert isinstance(data, EnvironmentData)
    asked = {"--norm": settings.norm, "--fit": settings.fit, "--shots": settings.shots}
    if given := [name for name, value in asked.items() if value is not None]:
        raise ConfigError(f"{given[0]} is of samples, and a policy learns from episodes; leave it out")
    source = data.source("test")
    goal = goal_of(str(settings.data), source, seed=trained.config.protocol.seed)
    steps = learner.test_steps if settings.steps is None else settings.steps
    returns = learner.trace(source.task(goal, SEED), steps).metrics["return"][0].tolist()
    predictor = learner.adapt(source.task(goal, SEED).support, steps=steps)
    if not all(bool(p.isfinite().all()) for p in predictor.parameters()):
        raise DivergenceError(f"{steps} updates on {settings.data} led to weights that are not finite; use fewer --steps")
    details = {"input": {**trained.input, "goal": goal.tolist()}, "net": trained.net, "run": trained.name}
    predictor.details.update(details, steps=steps, norm=predictor.norm)
    folder = save_predictor(predictor, settings.out, overwrite=settings.overwrite)
    place = ", ".join(f"{number:.4g}" for number in goal.tolist())
    print(
        f"adapted {shown(trained.name)} to {source.family.name} at the goal ({place}) in {steps} "
        f"update{'s' * (steps != 1)} of {source.episodes} episodes"
    )
    for j, value in enumerate(returns):
        print(f"mean return after {j} update{'s' * (j != 1)}: {value:.4g}")
    print(f"wrote {shown(folder)}")
    return 0
