"""Every published run by name."""

import difflib
import fnmatch
from collections.abc import Sequence

from fastadapt.errors import ConfigError
from fastadapt.published import (
    drawing,
    family,
    gradients,
    memory,
    metric,
    mini_imagenet,
    omniglot,
    policies,
    sinusoid,
)
from fastadapt.published.experiment import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    e.name: e
    for e in (
        *sinusoid.EXPERIMENTS,
        *omniglot.EXPERIMENTS,
        *mini_imagenet.EXPERIMENTS,
        *metric.EXPERIMENTS,
        *memory.EXPERIMENTS,
        *family.EXPERIMENTS,
        *gradients.EXPERIMENTS,
        *drawing.EXPERIMENTS,
        *policies.EXPERIMENTS,
    )
}
"""Name -> experiment."""


def find(names: Sequence[str]) -> list[Experiment]:
    """Return the experiments of the given names, in which `*` stands for anything, each once.

    Raises:
        ConfigError: if a name fits none; near ones are named.

    Example:
        >>> [e.name for e in find(["gradients-g1", "gradients-sum*"])]
        ['gradients-g1', 'gradients-sum2', 'gradients-sum3', 'gradients-sum4']
    """
    found: dict[str, Experiment] = {}
    for name in names:
        fitting = fnmatch.filter(EXPERIMENTS, name)
        if not fitting:
            near = difflib.get_close_matches(name, EXPERIMENTS, n=3)
            hint = f"near are {', '.join(near)}" if near else "fastadapt list shows them"
            raise ConfigError(f"there is no published run {name!r}; {hint}")
        found |= {fit: EXPERIMENTS[fit] for fit in fitting}
    return list(found.values())
