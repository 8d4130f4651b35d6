"""The table of docs/choose.md says what the result files say, and grows by a file."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for themselves
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script():
    return loaded("compare_methods")


@pytest.mark.parametrize("name", ["compare_methods", "budgeted"])
def test_the_tables_are_what_the_result_files_say(name):
    script = loaded(name)
    text = (ROOT / "docs" / "choose.md").read_text(encoding="utf-8")
    found = text[text.index(script.BEGIN) : text.index(script.END) + len(script.END)]
    assert found == script.section(), f"run python benchmarks/{name}.py"


def row(name, values, seconds):
    result = {"per task": values, "transductive": False}
    return {"method": name, "results": {"omniglot-5w1s": result, "digits": result}, "seconds to adapt": seconds}


def test_a_comparison_becomes_a_row_for_each_situation_that_it_measured(script, monkeypatch, tmp_path):
    monkeypatch.setattr(script, "RESULTS", tmp_path)
    assert script.images() == []
    rows = [row("a", [0.90, 0.95, 0.92], 0.5), row("b", [0.89, 0.95, 0.92], 0.01), row("c", [0.5, 0.6, 0.5], 0.001)]
    tests = {"omniglot-5w1s": {"tasks": 3}, "digits": {"tasks": 3}}
    (tmp_path / "compare").mkdir()
    content = {"on": "omniglot-5w1s", "budget": "25m", "tests": tests, "methods": rows}
    (tmp_path / "compare" / "omniglot-5w1s.json").write_text(json.dumps(content), encoding="utf-8")
    first, second = script.images()
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    assert cells[0] == "drawings or signs, 5 classes, 1 example of each"
    assert cells[1].startswith("**a**: 92.3 ± ")
    assert cells[2] == "b"
    assert cells[3].startswith("c: 53.3 ± ")
    assert cells[4] == "b: 10 ms"  # c is quicker, and far behind
    assert cells[5] == "`omniglot-5w1s`, 25 minutes with validations each"
    assert "another hand" in second and "tested on digits" in second
