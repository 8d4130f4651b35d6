"""Every number of the tables of heads on a real backbone comes from the committed file."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def benchmark():
    spec = importlib.util.spec_from_file_location("frozen", ROOT / "benchmarks" / "frozen_features.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_what_the_file_says():
    module = benchmark()
    text = module.PAGE.read_text(encoding="utf-8")
    found = text[text.index(module.BEGIN) : text.index(module.END) + len(module.END)]
    assert found == module.section(), "run python benchmarks/frozen_features.py --docs"


def test_the_rule_of_check_agrees_with_its_evidence():
    from fastadapt.compare.reach import SHARE

    shares = {}
    for part in json.loads(benchmark().OUT.read_text(encoding="utf-8"))["sets"]:
        at = {row["method"]: row for row in part["rows"] if row["shots"] == 1}
        pixels, ours = (
            at[name]["accuracy"] - 0.2 for name in ("pixels, centroid, length 1", "centroid, length 1 (L2N)")
        )
        ahead = at["centroid, length 1 (L2N)"]["gain"] < 0  # the meta-trained network
        shares[part["data"]] = (pixels / ours >= SHARE, ahead)
    assert shares == {"omniglot": (True, True), "mini_imagenet": (False, False)}
