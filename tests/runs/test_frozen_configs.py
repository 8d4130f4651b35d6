"""A run's `config.json` never changes in silence: the defaults of every kind of setting, and a digest of every preset.

After a change that is meant: `python tests/runs/test_frozen_configs.py`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fastadapt.published.registry import EXPERIMENTS
from fastadapt.runs.config import RunConfig, _to_plain
from fastadapt.runs.presets import PRESETS

FROZEN = Path(__file__).with_name("frozen.json")


def facts() -> dict[str, Any]:
    hints = get_type_hints(RunConfig)
    kinds = [kind for part in ("data", "net", "method") for kind in get_args(hints[part])]
    configs = {name: config for name, (_, config) in PRESETS.items()}
    configs |= {f"published {name}": experiment.config for name, experiment in EXPERIMENTS.items()}
    return {
        "defaults": {kind.__name__: _to_plain(kind()) for kind in kinds},
        "digests": {name: hashlib.sha256(c.to_json().encode()).hexdigest()[:16] for name, c in configs.items()},
    }


def test_configurations_are_written_byte_for_byte_as_before() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    now = facts()
    assert json.dumps(now["defaults"]) == json.dumps(frozen["defaults"])  # the order of settings too
    assert now["digests"] == frozen["digests"]


def test_what_was_written_before_is_still_read() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))["defaults"]
    for kind, settings in frozen.items():
        part = next(name for name in ("Data", "Net", "Method") if kind.endswith(name)).lower()
        flat = {"flat_batch": 64} if kind in ("FineTuneMethod", "NearestMethod") else None
        data = {"data": {**frozen["OmniglotData"], **flat}} if flat else {}
        config = RunConfig.from_json(json.dumps({"kind": "RunConfig", **data, part: settings}))
        assert _to_plain(getattr(config, part)) == settings


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(facts(), indent=1) + "\n", encoding="utf-8")
