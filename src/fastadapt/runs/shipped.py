"""The models that come with fastadapt."""

from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "shipped"
"""Each of them can be named where a run is asked for."""


def shipped_models() -> list[str]:
    """Return the names of the models that come with fastadapt."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/model.json"))
