"""Every number of the school table in the docs comes from the committed file, and the real data are as said."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from fastadapt.data.tables.table_settings import prepare_table

ROOT = Path(__file__).resolve().parents[1]


def school():
    spec = importlib.util.spec_from_file_location("school", ROOT / "benchmarks" / "school.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_what_the_file_says():
    module = school()
    text = module.PAGE.read_text(encoding="utf-8")
    found = text[text.index(module.BEGIN) : text.index(module.END) + len(module.END)]
    assert found == module.section(), "run python benchmarks/school.py --docs"


def test_a_school_counts_once():
    module = school()
    if not module.OUT.is_file():
        pytest.skip("not measured yet")
    content = json.loads(module.OUT.read_text(encoding="utf-8"))
    held_out = {name for split in content["splits"] for name in split["held out"]}
    assert all(result["schools"] == len(held_out) for result in content["together"])
    assert all(len(split["held out"]) == module.HELD_OUT for split in content["splits"])
    again = module.together(content["splits"])
    for result, wanted in zip(again, content["together"], strict=True):
        assert result["best baseline"] == wanted["best baseline"]
        assert [row["mean"] for row in result["methods"]] == pytest.approx([row["mean"] for row in wanted["methods"]])


def test_the_school_data_are_as_documented():
    path = Path(os.environ.get("FASTADAPT_DATA", "nowhere")) / "tabular" / "school.csv"
    if not path.is_file():
        pytest.skip("needs tabular/school.csv in FASTADAPT_DATA")
    prepared = prepare_table(path, task="school", target="score", shots=(5, 10), problem="regression", test=30)
    table = prepared.loaded
    assert len(table.x) == 15_362 and len(table.rows) == 139
    assert (len(table.split.train), len(table.split.val), len(table.split.test)) == (88, 21, 30)
    sizes = sorted(len(rows) for rows in table.rows.values())
    assert (sizes[0], sizes[-1]) == (22, 251) and not table.split.too_small
