"""Whether values differ is seen by their own size: what is tiny, finely spaced or huge is used like any other."""

import numpy as np
import pytest

from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.errors import DataError

N = 90


def table(path, x=None, y=None):
    rng = np.random.default_rng(0)
    h, noise = rng.normal(size=N), rng.normal(size=N)
    x = [f"{v:.3f}" for v in h] if x is None else x
    y = [f"{v:.3f}" for v in noise] if y is None else y
    path.write_text("shop,h,x,y\n" + "".join(f"s{i % 9},{h[i]:.3f},{x[i]},{y[i]}\n" for i in range(N)))
    return path


def prepared(path):
    return prepare_table(path, task="shop", target="y", shots=(2,))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-40, 1e-12, 1.0, 1e12, 1e200])
def test_the_unit_of_a_column_changes_no_input(tmp_path, scale):
    steps = np.arange(N) % 7 + 1.0
    path = table(tmp_path / "t.csv", x=[repr(float(v * scale)) for v in steps])
    made = prepared(path)
    place = [c.name for c in made.data.preparation.columns].index("x")
    training = made.loaded.all_rows("train")
    wanted = (steps - steps[training].mean()) / steps[training].std()
    assert np.allclose(made.loaded.x[:, place].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(("base", "step"), [(1711843200 * 10**9, 10**7), (1711843200000, 1), (10**15, 3), (2**53, 200)])
def test_fine_steps_far_from_zero_are_values_of_their_own(tmp_path, base, step):
    path = table(tmp_path / "t.csv", x=[str(base + step * (i * 37 % 90)) for i in range(N)])
    made = prepared(path)
    assert "x" not in made.left_out
    place = [c.name for c in made.data.preparation.columns].index("x")
    assert len(set(made.loaded.x[:, place].tolist())) == N


def test_rounding_is_no_difference(tmp_path):
    made = prepared(table(tmp_path / "t.csv", x=["0.3", "0.30000000000000004", "0.29999999999999999"] * (N // 3)))
    assert made.left_out["x"].startswith("every value is the same")


def test_digits_that_no_number_keeps_are_told(tmp_path):
    ids = [str(2**60 + i) for i in range(N)]
    made = prepared(table(tmp_path / "t.csv", x=ids))
    assert "in the 15 digits that a number keeps" in made.left_out["x"] and "subtract" in made.left_out["x"]
    with pytest.raises(DataError, match=r"one value in all training tasks in the 15 digits .* \('1152.* are one\)"):
        prepared(table(tmp_path / "t.csv", y=ids))


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e9, 1e12])
def test_a_target_may_be_tiny_or_huge(tmp_path, scale):
    rng = np.random.default_rng(1)
    made = prepared(table(tmp_path / "t.csv", y=[repr(float(v * scale)) for v in rng.normal(5, 1, N)]))
    assert 0.5 * scale < made.data.preparation.std < 2 * scale
    assert 0.5 < float(made.loaded.y.std()) < 2


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30])
def test_a_target_whose_errors_can_not_be_told_is_refused(tmp_path, scale):
    path = table(tmp_path / "t.csv", y=[repr(float(v * scale)) for v in range(1, N + 1)])
    with pytest.raises(DataError, match=r"target 'y' has a standard deviation of .*; write it in another unit"):
        prepared(path)
