"""The page says what the result file of the comparison says, where there is one."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("faces_benchmark", ROOT / "benchmarks" / "faces.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(method, target, seed, value):
    numbers = {name: {"value": value} for name in ("tar@0.01", "rank-1", "auc")}
    return {
        "method": method,
        "target": target,
        "seed": seed,
        "contrast": True,
        "sources_auc": 0.9,
        "targets": {target: {"numbers": numbers}},
    }


def test_a_table_has_means_intervals_and_paired_differences(script):
    values = {"agg": [0.5, 0.6], "mfr": [0.52, 0.61]}
    cells = [cell(m, t, s, v) for m, each in values.items() for t in ("orl", "gt") for s, v in enumerate(each)]
    record = {**script.summary(cells), "cells": cells}
    gap = record["contrast"]["paired tar@0.01"]["mfr - agg"]
    assert gap == [1.5, 0.57, 4]  # 2, 1, 2, 1 points: 1.96 x 0.577 / 2
    text = script.section(record)
    assert "| agg | 55.0 ± 9.8 | 55.0 ± 9.8 | 90.0 |" in text
    assert "mfr - agg 1.5 ± 0.6 points." in text
    one = [each for each in cells if each["seed"] == 0]
    assert "1 seed, and intervals over identities" in script.section({**script.summary(one), "cells": one})
    one[0]["targets"]["orl"]["numbers"]["tar@0.01"] |= {"low": 0.4, "high": 0.61}
    assert "| agg | 50.0 [40.0, 61.0] | 50.0 |" in script.section({**script.summary(one), "cells": one})


def test_the_page_says_what_the_result_file_says(script):
    page = script.PAGE.read_text(encoding="utf-8")
    found = page[page.index(script.BEGIN) : page.index(script.END) + len(script.END)]
    record = json.loads(script.OUT.read_text(encoding="utf-8")) if script.OUT.is_file() else None
    want = f"{script.BEGIN}\n{script.END}" if record is None else script.section(record)
    assert found == want, "run python benchmarks/faces.py --summary"


def test_the_page_says_what_ways_without_labels_reached():
    runs = json.loads((ROOT / "benchmarks" / "results" / "domain_adaptation_omniglot.json").read_text("utf-8"))["runs"]
    page = (ROOT / "docs" / "faces.md").read_text("utf-8")
    for domain, ways in runs[0]["accuracy"].items():
        means = [sum(run["accuracy"][domain][way] for run in runs) / len(runs) for way in ways]
        assert f"| {domain} | {' | '.join(f'{mean:.1f}' for mean in means)} |" in page


def test_the_page_says_what_people_of_the_target_were_worth():
    [run] = json.loads((ROOT / "benchmarks" / "results" / "domain_adaptation_faces.json").read_text("utf-8"))["runs"]
    page = (ROOT / "docs" / "faces.md").read_text("utf-8")
    for start in ("base", "pooled", "maml", "untrained"):
        names = [f"{start}, nobody", *(f"{start}, {count} people, 60 steps" for count in (5, 10, 20))]
        assert " | ".join(f"{100 * run['numbers'][name]['tar@0.01']:.1f}" for name in names) in page
