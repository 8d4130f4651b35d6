"""An evaluation as JSON, read and written without torch."""

import math
from collections.abc import Mapping
from typing import Any


def column_of(record: Mapping[str, Any], step: int | None = None) -> int:
    """Return where the numbers after `step` inner steps stand in the lists of an evaluation that was read from JSON.

    Args:
        record: what `to_json` wrote.
        step: inner steps; None is the headline result. A method without inner steps has the one column.

    Raises:
        KeyError: if the record lacks what every evaluation has.
        ValueError: if it was not measured after as many steps.

    Example:
        >>> record = {"mean": [0.2, 0.7, 0.9], "after": [0, 5, 10], "protocol": {"report": None}}
        >>> column_of(record), column_of(record, 5)
        (2, 1)
    """
    after = record["after"] if "after" in record else list(range(len(record["mean"])))
    wanted = record["protocol"]["report"] if step is None else step
    if wanted is None or (step is None and wanted > after[-1]):
        wanted = after[-1]
    return after.index(0 if after == [0] else wanted)


def json_values(value: Any) -> Any:
    """Return JSON values with what JSON can't say replaced by the strings "nan", "inf" and "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: json_values(item) for key, item in value.items()}
    return [json_values(item) for item in value] if isinstance(value, (list, tuple)) else value
