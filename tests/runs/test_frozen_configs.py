"""A run's `config.json` never changes in silence: the defaults of every kind of setting, and a digest of every preset.

After a change that is meant: `python tests/runs/test_frozen_configs.py`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

from fastadapt.faces.settings import FaceMethod
from fastadapt.methods.family_settings import ProtoMAMLMethod
from fastadapt.methods.head_settings import HeadMethod
from fastadapt.methods.metric_settings import MetricMethod
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.runs.config import RunConfig, _to_plain
from fastadapt.runs.presets import PRESETS

FROZEN = Path(__file__).with_name("frozen.json")


HINTS = get_type_hints(RunConfig)
KINDS = {kind.__name__: kind for part in ("data", "net", "method") for kind in get_args(HINTS[part])}


def facts() -> dict[str, Any]:
    configs = {name: config for name, (_, config) in PRESETS.items()}
    configs |= {f"published {name}": experiment.config for name, experiment in EXPERIMENTS.items()}
    return {
        "defaults": {kind.__name__: _to_plain(kind()) for kind in KINDS.values()},
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
        flat = {"flat_batch": 64} if kind in ("FineTuneMethod", "NearestMethod") else {}
        classes = flat or issubclass(KINDS[kind], MetricMethod | HeadMethod | ProtoMAMLMethod)
        data = {"data": {**frozen["OmniglotData"], **flat}} if classes else {}
        if issubclass(KINDS[kind], FaceMethod):
            data = {"data": frozen["FacesData"]}
        elif kind == "FacesData":
            data = {"method": frozen["MFRMethod"]}
        config = RunConfig.from_json(json.dumps({"kind": "RunConfig", **data, part: settings}))
        assert _to_plain(getattr(config, part)) == settings


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(facts(), indent=1) + "\n", encoding="utf-8")
