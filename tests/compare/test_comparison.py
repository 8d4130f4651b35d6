"""What is told of a comparison: paired intervals, the best baseline, and a verdict that follows from them."""

import json

import numpy as np
import pytest

from fastadapt import MAML, MLP, SGD
from fastadapt.compare.baselines import Measured
from fastadapt.compare.comparison import compare, comparison_markdown, plus_minus, tell, tune_adaptation, verdict
from fastadapt.compare.held_out import Judged, draw_rows, interval, judge, learner_scores
from fastadapt.compare.tune import at_rate
from fastadapt.data.tables.table_settings import prepare_table
from tables import classification, regression


def measured(name, values, metric="mse"):
    values = np.array(values, dtype=float)
    return Measured(name, Judged(metric, values, values * 10, np.full(len(values), 100.0)), {})


def learner_of(prepared):
    net = MLP(prepared.data.preparation.inputs, (8,), prepared.data.preparation.outputs, init_std=None)
    return MAML(net, prepared.data.loss, rule=SGD(0.05), steps=2)


def test_the_difference_is_paired_and_from_the_best_baseline():
    level = np.array([1.0, 5.0, 9.0, 2.0])
    ours, poor, good = (
        measured("ours", level),
        measured("poor", level + 3),
        measured("good", level + np.array([1, 1.1, 0.9, 1])),
    )
    told = tell([ours], [poor, good])
    assert told["best baseline"] == "good"
    [difference] = told["differences"]
    gain, half = interval(np.array([1, 1.1, 0.9, 1]))
    assert (difference["gain"], difference["ci95"]) == (pytest.approx(gain), pytest.approx(half))
    assert difference["verdict"] == "better" and half < 0.2 < interval(level)[1]  # apart they would not be told apart
    assert [row["method"] for row in told["methods"]] == ["ours", "poor", "good"]
    assert told["methods"][0]["explained variance"] == pytest.approx(1 - 170 / 400)


@pytest.mark.parametrize(
    ("metric", "ours", "said"),
    [
        ("mse", [2.0, 2.1, 1.9], "worse"),
        ("mse", [1.0, 1.0, 1.0], "no difference can be told"),
        ("mse", [np.nan, 1.0, 1.0], "no difference can be told"),
        ("accuracy", [2.0, 2.1, 1.9], "better"),
    ],
)
def test_the_verdict_follows_the_direction_of_the_metric(metric, ours, said):
    told = tell([measured("ours", ours, metric)], [measured("base", [1.0, 1.01, 0.99], metric)])
    assert told["differences"][0]["verdict"] == said
    assert verdict(1.0, np.inf) == "no difference can be told"


def test_a_comparison_of_a_table(tmp_path):
    prepared = prepare_table(regression(tmp_path / "t.csv"), task="group", target="y", shots=(3, 5))
    said = []
    made = compare(
        {"MAML": learner_of(prepared)}, prepared.loaded, prepared.data, draws=2, boosting=False, say=said.append
    )
    assert [result["shots"] for result in made["results"]] == [3, 5] and len(said) == 16
    assert made["held out"] == list(prepared.loaded.split.test) and made["tasks"]["test"] == 3
    for result in made["results"]:
        assert [row["meta-learned"] for row in result["methods"]] == [True] + [False] * 8
        baselines = {row["method"]: row["mean"] for row in result["methods"][1:]}
        assert result["best baseline"] == min(baselines, key=baselines.__getitem__)
        assert result["differences"][0]["gain"] < 0  # it was never trained
        assert all(len(row["per task"]) == 3 for row in result["methods"])
    again = json.loads(json.dumps(made))
    text = comparison_markdown(again)
    assert text == comparison_markdown(made)
    assert "## 3 support rows" in text and "## 5 support rows" in text and "**MAML**" in text
    assert "task by task: no difference" in text and "explained variance" in text
    rows = [line for line in text.split("## 5")[1].splitlines() if "±" in line and line.startswith("|")]
    means = [float(line.split("|")[2].split("±")[0]) for line in rows]
    assert len(means) == 9 and means == sorted(means)


def test_labels_are_compared_by_accuracy(tmp_path):
    prepared = prepare_table(classification(tmp_path / "c.csv"), task="group", target="label", shots=(6,))
    made = compare({"MAML": learner_of(prepared)}, prepared.loaded, prepared.data, draws=1, boosting=False)
    text = comparison_markdown(made)
    assert (
        made["results"][0]["metric"] == "accuracy"
        and "accuracy (%)" in text
        and "points less accuracy, task by task" in text
    )
    assert "explained variance" not in text


@pytest.mark.long
def test_how_to_adapt_is_the_best_pair_on_the_validation_tasks(tmp_path):
    prepared = prepare_table(regression(tmp_path / "t.csv"), task="group", target="y", shots=(3, 5))
    data, table, learner = prepared.data, prepared.loaded, learner_of(prepared)
    chosen = tune_adaptation(learner, table, data, rate=0.05, most_steps=3, draws=2)
    assert learner.rule == SGD(0.05)
    by_hand = {}
    for factor in (0.25, 0.5, 1.0, 2.0, 4.0):
        for steps in range(4):
            total = 0.0
            for shots in (3, 5):
                draws = draw_rows(table, data, "val", shots, 2)
                with at_rate(learner, 0.05 * factor):
                    scores = [score[-1] for score in learner_scores(learner, table, draws, steps)]
                total += judge(scores, table, data, draws).per_task.mean()
            by_hand[0.05 * factor, steps] = total
    assert by_hand[chosen.rate, chosen.steps] == pytest.approx(min(by_hand.values()), rel=1e-4)


def test_digits_follow_the_interval():
    assert plus_minus(105.2341, 3.419) == "105.2 ± 3.4"
    assert plus_minus(12345.6, 210.0) == "12346 ± 210"
    assert plus_minus(float("nan"), 1.0) == "nan ± 1"
