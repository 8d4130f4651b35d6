"""What can be trained, as `fastadapt list` shows it: kept in a file, because the settings themselves need torch.

`python -m fastadapt.published.listing` writes the file anew; a test says when it is out of date.
"""

import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("listing.json")
"""The presets and the published runs, each in a few words."""


def read_listing() -> dict[str, Any]:
    """Return `{"presets": {name: {what, steps}}, "published": {name: {what, version, source, claimed}}}`.

    Example:
        >>> read_listing()["presets"]["maml-sinusoid"]
        {'what': 'MAML on sinusoids, K=10, as in Figure 3', 'steps': 70000}
    """
    return json.loads(FILE.read_text(encoding="utf-8"))


def make_listing() -> dict[str, Any]:
    """Return what the file should say."""
    from fastadapt.published.registry import EXPERIMENTS
    from fastadapt.runs.presets import PRESETS

    return {
        "presets": {name: {"what": what, "steps": run.training.steps} for name, (what, run) in PRESETS.items()},
        "published": {
            name: {"what": run.what, "version": run.version, "source": run.source, "claimed": run.claimed}
            for name, run in EXPERIMENTS.items()
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(make_listing(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
