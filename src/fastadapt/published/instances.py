"""Accuracy by instance number as the facts of a measurement: a column for each instance, where others have steps."""

from dataclasses import asdict
from statistics import median
from typing import Any

from fastadapt.compare.by_instance import ByInstance


def instance_facts(name: str, result: ByInstance) -> dict[str, Any]:
    """Return what a result file keeps of it.

    Args:
        name: of the measurement.
        result: accuracies on the first, second, ... instance of a class.

    Example:
        >>> from fastadapt import Protocol
        >>> result = ByInstance(Protocol(), [0.2, 0.8], [0.1, 0.1], [[0.1, 0.7], [0.3, 0.9]])
        >>> facts = instance_facts("by instance", result)
        >>> facts["after"], facts["median"]
        ([1, 2], [0.2, 0.8])
    """
    columns = list(zip(*result.per_task, strict=True))
    return {
        "name": name,
        "protocol": asdict(result.protocol),
        "metric": "accuracy",
        "mean": result.mean,
        "ci95": result.ci95,
        "median": [median(column) for column in columns],
        "nonfinite": [0] * len(columns),
        "finite_mean": result.mean,
        "transductive": False,
        "higher_is_better": True,
        "norm": result.protocol.norm,
        "after": list(range(1, len(columns) + 1)),
    }
