import math

import numpy as np
import pytest
from PIL import Image

from fastadapt.report.curves import draw_curves, smooth


def _records(metric="mse", n=60):
    rows = []
    for i in range(1, n + 1):
        after = 3 * 0.95**i + 0.1
        rows.append(
            {"step": 10 * i, "loss": after, f"{metric} before": after + 1, f"{metric} after": after}
            | {"gradient": 1 / i, "lr": 1e-3, "tasks/s": 1000.0, "skipped": 0, "seconds": 1.0}
        )
        if i % 10 == 0:
            rows.append({"step": 10 * i, f"val {metric} before": 1.0, f"val {metric}": after, "val ci95": 0.05})
    return rows


def _drawn(path):
    """Return the picture as an array; a blank one has next to no dark pixels."""
    picture = np.asarray(Image.open(path).convert("L"))
    assert min(picture.shape) >= 300
    assert (picture < 160).mean() > 0.001
    return picture


@pytest.mark.parametrize("metric", ["mse", "accuracy", "return"])
def test_a_run_is_drawn(tmp_path, metric):
    records = _records(metric)
    if metric == "accuracy":
        records = [{k: v / 5 if k.startswith(("acc", "val")) else v for k, v in r.items()} for r in records]
    _drawn(draw_curves(records, tmp_path / "curves.png", name="run"))


def test_the_same_records_give_the_same_bytes(tmp_path):
    one = draw_curves(_records(), tmp_path / "a.png").read_bytes()
    assert one == draw_curves(reversed(_records()), tmp_path / "b.png").read_bytes()


def test_no_record_says_so(tmp_path):
    _drawn(draw_curves([], tmp_path / "curves.png"))
    _drawn(draw_curves([{"step": 1, "loss": "nan"}], tmp_path / "none.png"))


def test_missing_keys_and_what_is_not_finite(tmp_path):
    records = _records()
    for row in records[:20]:
        row.pop("gradient", None)
        row.pop("mse before", None)
    records[3]["loss"] = records[4]["mse after"] = "nan"
    records[5]["gradient"] = "inf"
    records[6]["loss"] = math.inf
    records[-1]["val mse"], records[-1]["val ci95"] = "inf", "nan"
    _drawn(draw_curves(records, tmp_path / "curves.png"))
    _drawn(draw_curves([{"step": 5, "loss": 2.0}], tmp_path / "one.png"))
    _drawn(draw_curves([{"step": 5, "val accuracy before": 0.2, "val accuracy": 0.9}], tmp_path / "validated.png"))
    _drawn(draw_curves([{"step": i, "loss": -float(i)} for i in range(5)], tmp_path / "negative.png"))


def test_smoothing_is_the_mean_of_the_neighbours():
    values = np.random.default_rng(0).normal(size=40)
    expected = [values[max(i - 3, 0) : i + 4].mean() for i in range(40)]
    assert np.allclose(smooth(values, 7), expected)
    assert np.array_equal(smooth(values, 1), values)
    assert smooth([1e300, 1.0, 2.0, 3.0], 3)[2:].tolist() == [2.0, 2.5]
    assert np.isnan(smooth([math.nan, math.inf, 1.0, 1.0, 1.0], 1)[:2]).all()
