"""How methods stand: paired over tasks, told as tables, CSV and lines."""

import csv
import io
import math

import pytest

from fastadapt.compare.standings import standings
from fastadapt.compare.told import as_csv, budget_words, markdown, summary, table
from fastadapt.errors import ConfigError


def row(name, values, *, transductive=False, **more):
    result = {"per task": values, "transductive": transductive, "norm": "running", "inner steps": 0}
    costs = {"outer steps": 300, "published steps": 60000, "seconds of training": 90.0, "seconds to adapt": 0.0123}
    costs |= {"seconds to answer": 0.002, "parameters": 111936, "predictor bytes": 451000, "preset": f"{name}-p"}
    return {"method": name, "results": {"t": result}, **costs, **more}


def record(*rows, **more):
    tests = {"t": {"words": "the test classes", "tasks": 3}}
    return {"on": "omniglot-5w1s", "budget": "90s", "seed": 0, "tests": tests, "methods": list(rows), **more}


A, B, C = [0.5, 0.7, 0.6], [0.6, 0.9, 0.7], [0.6, 0.9, 0.6]


def test_differences_are_taken_task_by_task_against_the_best():
    found = {s.method: s for s in standings(record(row("a", A), row("b", B), row("c", C)), "t")}
    assert list(found) == ["b", "c", "a"]
    assert (found["b"].gain, found["b"].words) == (None, "")
    # by hand: -0.1, -0.2, -0.1 have the mean -0.4/3 and the deviation 0.1/sqrt(3)
    assert found["a"].gain == pytest.approx(-0.4 / 3)
    assert found["a"].gain_half == pytest.approx(1.959963984540054 * 0.1 / math.sqrt(3) / math.sqrt(3))
    assert found["a"].words == "worse"
    # 0, 0, -0.1: no further from nothing than chance puts it
    assert found["c"].words == "no difference can be told"


def test_differences_are_against_the_named_method_where_one_is():
    found = {s.method: s for s in standings(record(row("a", A), row("b", B)), "t", "a")}
    assert (found["b"].words, found["a"].gain) == ("better", None)
    with pytest.raises(ConfigError, match="'x', with which to compare, has no result on t; there are b, a"):
        standings(record(row("a", A), row("b", B)), "t", "x")


def test_a_task_that_is_not_finite_is_no_win():
    found = standings(record(row("a", A), row("b", ["nan", 1.0, 1.0])), "t")
    assert [s.method for s in found] == ["a", "b"]
    assert found[1].words == "no difference can be told"


def test_the_tables_say_everything_and_a_failure_has_its_sentence():
    failed = {"method": "d", "preset": "d-p", "failed": "no room"}
    text = markdown(record(row("a", A, transductive=True), row("b", B), failed))
    assert "| a | 60 ± 11 | −13.3 ± 6.5 | 300 (0.5 %) | 1.5 | 12.3 | 2 | 111,936 | 451 |" in text
    assert "share batch statistics for a." in text
    assert "- d failed: no room" in text
    assert "1.5 minutes with validations" in text
    assert len(table(record(row("a", A), row("b", B)), "t", most=1)) == 3
    assert "d failed: no room" in summary(record(row("a", A), failed))
    rows = list(csv.DictReader(io.StringIO(as_csv(record(row("a", A), row("b", B), failed)))))
    assert [(r["method"], r["verdict"], r["failed"]) for r in rows] == [
        ("b", "", ""),
        ("a", "worse", ""),
        ("d", "", "no room"),
    ]
    assert float(rows[1]["difference"]) == pytest.approx(-0.4 / 3)


def test_where_all_fail_the_sentences_are_left():
    failed = {"method": "d", "preset": "d-p", "failed": "no room"}
    assert standings(record(failed), "t") == []
    assert "- d failed: no room" in markdown(record(failed))


def test_a_budget_in_words():
    assert budget_words("1.5h") == "90 minutes with validations"
