"""Gradient boosting on tables; without scikit-learn, a sentence that says how to get it."""

import sys

import numpy as np
import pytest

from fastadapt.compare.baselines import arrays_of, measure_baseline
from fastadapt.compare.boosting import beside, boosting_baselines, need_boosting, told_rows
from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.errors import MissingExtraError
from tables import classification, regression


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtraError, match=r"boosting needs scikit-learn: pip install 'fastadapt\[tables\]'$"):
        need_boosting()


def test_told_rows_stand_beside_the_mean_of_others_of_their_task(tmp_path):
    table = prepare_table(regression(tmp_path / "t.csv", size=12), task="group", target="y", shots=(5,))
    arrays = arrays_of(table.loaded, table.data)
    x, y = told_rows(arrays, 5)
    assert len(x) == len(y) == 3 * 7 * len(arrays.tasks) and x.shape[1] == arrays.x.shape[1] + 1
    first = arrays.y[arrays.tasks[0]][:, 0]
    told, own = x[:7, -1], y[:7, 0]
    assert np.unique(told).size == 1
    assert told[0] * 5 + own.sum() == pytest.approx(first.sum())  # support and rest are the task
    assert beside(np.zeros((2, 1)), np.array([3.0, 4.0])).tolist() == [[0, 3, 4], [0, 3, 4]]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_boosting_adapts(tmp_path, kind):
    pytest.importorskip("sklearn")
    if kind == "regression":
        table = prepare_table(regression(tmp_path / "t.csv", tasks=10, size=20), task="group", target="y", shots=(8,))
    else:
        table = prepare_table(classification(tmp_path / "t.csv", tasks=12), task="group", target="label", shots=(8,))
    arrays = arrays_of(table.loaded, table.data)
    results = {}
    for baseline in boosting_baselines(arrays, 8, refit=True):
        results[baseline.name] = measure_baseline(baseline, arrays, table.loaded, table.data, 8, 1).judged.score
    assert len(results) == 4
    alone, shifted = (results[f"pooled boosting{name}"] for name in (", no adaptation", " + the task's mean residual"))
    if kind == "regression":  # the tasks' shifts are most of what differs
        assert shifted > alone / 2 and results["pooled boosting, told the task's mean"] > alone
    else:
        assert all(0.4 < score <= 1 for score in results.values())
