"""Every figure of docs/fit.md is one of the committed records of the shipped starts."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_what_the_records_say():
    spec = importlib.util.spec_from_file_location("starts_page", ROOT / "benchmarks" / "starts.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    found = (ROOT / "docs" / "fit.md").read_text(encoding="utf-8")
    assert found == made.page(), "run python benchmarks/starts.py page"
    assert set(made.RECIPES) == {"photo", "sound"} and found.count("| lead |") == 2


def test_how_long_it_takes_is_what_was_measured():
    spec = importlib.util.spec_from_file_location("first_fit", ROOT / "benchmarks" / "first_fit.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    record = json.loads(made.RESULT.read_text(encoding="utf-8"))
    assert (ROOT / "docs" / "fit.md").read_text(encoding="utf-8") == made.page(record)
    assert max(record["photo"]["seconds until it"]) < 1 and record["cores"] == 1
