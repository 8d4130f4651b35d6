"""Values far outside all others are told, on either side of the border; what is only skewed, rare or coarse is not."""

import datetime

import numpy as np
import pytest

from fastadapt.data.tables.far_notes import far_targets, no_value
from fastadapt.data.tables.far_values import far_values, is_code
from fastadapt.data.tables.remarks import row_notes
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.table import read_support
from fastadapt.data.tables.table_settings import prepare_table

N = 200
BULK = np.linspace(10, 20, N)


def found(values, **more):
    return [(far.value, far.count) for far in far_values(np.array(values, dtype=float), **more)]


def with_far(*far, bulk=BULK):
    return np.concatenate([bulk, np.array(far, dtype=float)])


@pytest.mark.parametrize(
    ("far", "told"),
    [
        ([-999] * 9, True),
        ([-999] * 2, True),
        ([-999], True),  # as people write it, and more than ten ranges away
        ([99] * 2, True),
        ([99], False),  # eight ranges away, and once
        ([45.5] * 9, False),  # three ranges away, and no code
        ([120.5] * 3, True),  # more than ten ranges away, three times
        ([119.5] * 3, False),
        ([120.5] * 2, False),
        ([-99] * 2, True),
        ([9999, -999, 9999, -999], True),
        ([-998, -999, -998, -999], False),  # one of them is no code, and comes twice
        ([-998, -999] * 3, True),
        ([0] * 50, False),
        ([-0.0] * 50, False),
        ([32767] * 2, True),
        ([1e20] * 2, True),
        ([-9999.0] * (N - 1), True),
        ([-9999.0] * (N + 1), False),  # the others are the rest then
        ([float("nan")] * 9, False),
    ],
)
def test_both_sides_of_the_border(far, told):
    wanted = {(value, far.count(value)) for value in far}
    assert set(found(with_far(*far))) == (wanted if told else set())
    assert not found(BULK)


@pytest.mark.parametrize(("value", "told"), [(-99, True), (-9, False), (-98, False), (-1, False)])
def test_a_code_that_is_the_only_negative_value(value, told):
    assert bool(found(with_far(value, value, bulk=np.linspace(0, 500, N)))) is told
    assert not found(with_far(value, value, bulk=np.linspace(-20, 500, N)))  # beside others


@pytest.mark.parametrize("seed", range(5))
def test_skewed_and_coarse_columns_have_none(seed):
    rng = np.random.default_rng(seed)
    for n in (40, 300, 3000):
        families = {
            "log-normal": rng.lognormal(0, 3, n),
            "Cauchy": np.round(rng.standard_cauchy(n)),
            "Pareto": rng.pareto(0.7, n),
            "Zipf": rng.zipf(1.6, n),
            "zeros and amounts": np.where(rng.random(n) < 0.6, 0, rng.uniform(100, 120, n)),
            "mostly zeros": np.where(rng.random(n) < 0.95, 0, rng.lognormal(5, 2, n)),
            "two digits": [float(f"{v:.1g}") for v in rng.lognormal(0, 3, n)],
            "doses": rng.choice([0, 1, 10, 100, 1000], n),
            "thousands": rng.choice([1, 1e3, 1e6, 1e9], n),
            "yes and no": rng.choice([5, 5000], n),
            "ratings": rng.integers(-1, 5, n),
            "capped": np.minimum(rng.lognormal(0, 1, n), 3),
            "counts": rng.negative_binomial(0.2, 0.01, n),
        }
        assert {name: told for name, values in families.items() if (told := found(values))} == {}


def test_what_is_that_of_one_task_alone_is_its_own():
    sizes = np.repeat([200.0, 210, 250, 5000, 230, 220], 20)
    owners = [f"s{i // 20}" for i in range(120)]
    assert found(sizes, owners=owners) == [] and found(sizes) == [(5000, 20)]
    assert found(np.where(sizes == 5000, -999, sizes), owners=owners) == [(-999, 20)]  # a code is none's
    assert found(sizes, owners=owners[1:] + owners[:1]) == [(5000, 20)]


@pytest.mark.parametrize(("low", "told"), [(990, False), (1010, True)])
def test_zeros_are_usual_unless_all_others_are_nearly_the_same(low, told):
    assert bool(found(with_far(0, 0, 0, bulk=np.linspace(low, low + 10, N)))) is told


def test_codes():
    assert all(map(is_code, (99, -99, 999, 9999.0, 99999.99, 88, 777, -32768, 1.7976931348623157e308)))
    assert not any(map(is_code, (0, 1, -1, 9, 66, 100, 12345, 989, 333)))


@pytest.mark.parametrize("day", ["9999-12-31", "1900-01-01", "1970-01-01", "0001-01-01", "2099-12-31"])
@pytest.mark.parametrize("years", [1, 10])
def test_dates(day, years):
    start = datetime.date(2015, 1, 1).toordinal() - datetime.date(1970, 1, 1).toordinal()
    bulk = start + np.linspace(0, 365 * years, N)
    days = float(datetime.date.fromisoformat(day).toordinal() - datetime.date(1970, 1, 1).toordinal())
    assert found(with_far(days, days, bulk=bulk), dates=True) == [(days, 2)]
    born = float(datetime.date(1930, 1, 1).toordinal() - datetime.date(1970, 1, 1).toordinal())
    assert not found(with_far(born, bulk=bulk), dates=True)


def prepared(path, x, y=None, **more):
    rng = np.random.default_rng(0)
    y = [f"{v:.2f}" for v in rng.normal(10, 3, N)] if y is None else y
    lines = [f"s{i % 10};{x[i]};{rng.normal():.2f};{y[i]}\n" for i in range(N)]
    path.write_text("shop;x;h;y\n" + "".join(lines))
    return prepare_table(path, task="shop", target="y", shots=(2,), **more)


def sentinel(far, usual):
    return [far if i % 12 == 3 else usual(i) for i in range(N)]


@pytest.mark.parametrize(
    ("far", "usual", "rest"),
    [
        ("-999", lambda i: f"{20 + i % 7}.5", "20.5 to 26.5"),
        ("-9.999,00", lambda i: f"{20 + i % 7},5", "20.5 to 26.5"),
        ("9999-12-31", lambda i: f"2024-0{1 + i % 8}-1{i % 9}", "2024-01-10 to 2024-08-18"),
        ("01.01.1900", lambda i: f"1{i % 9}.0{1 + i % 8}.2024", "2024-01-10 to 2024-08-18"),
    ],
)
def test_one_sentence_says_it_and_nothing_is_changed(tmp_path, far, usual, rest):
    path = tmp_path / "t.csv"
    made = prepared(path, sentinel(far, usual))
    [note] = [note for note in made.notes if "far outside" in note]
    count = sentinel(far, usual).count(far)
    assert note.startswith(f"column 'x': '{far}' stands {count} times, far outside the rest ({rest}); if")
    assert f"give --missing {far}, and" in note
    again = prepared(path, sentinel(far, usual), missing=[far])
    assert next(c for c in again.data.preparation.columns if c.name == "x").missing
    assert not any("far outside" in note for note in again.notes)


@pytest.mark.parametrize(("usual", "labels"), [(lambda i: f"{10 + i * 7 % 23}.5", False), (lambda i: str(i % 3), True)])
def test_targets(tmp_path, usual, labels):
    made = prepared(tmp_path / "t.csv", [str(i % 17) for i in range(N)], sentinel("-999", usual))
    assert bool(made.data.preparation.labels) is labels
    [note] = [note for note in made.notes if "far outside" in note]
    assert note.startswith("the target 'y': '-999' stands") and note.endswith("no value, remove these lines")


def test_held_out_tasks_are_looked_at_too(tmp_path):
    made = prepared(tmp_path / "t.csv", [str(i % 17) for i in range(N)])
    held_out = made.loaded.split.test[0]
    x = ["-999" if f"s{i % 10}" == held_out else str(i % 17) for i in range(N)]
    made = prepared(tmp_path / "t.csv", x)
    assert any("'-999' stands 20 times" in note for note in made.notes)
    assert next(c for c in made.data.preparation.columns if c.name == "x").low == 0


def test_rows_to_adapt_to_and_to_ask_about(tmp_path):
    made = prepared(tmp_path / "t.csv", [str(i % 17) for i in range(N)])
    preparation = made.data.preparation
    rows = Rows("n.csv", ("x", "h", "y"), [["3", "0.1", "9.5"], ["3", "0.1", "-999"], ["-999", "0.1", "9"]], [2, 3, 4])
    told = []
    read_support(rows, preparation, say=told.append)
    assert told == [
        f"line 3: the target y -999 is outside the range of the training, {preparation.low:.6g} to "
        f"{preparation.high:.6g}; if that means there is no value, leave it out"
    ]
    [note] = row_notes(preparation, rows, preparation.settled(rows))[2]
    assert note == (
        "x -999 is outside the range of the training, 0 to 16; if that means there is no value, leave it out"
    )
    import dataclasses

    old = dataclasses.replace(preparation, low=None, high=None)  # as runs of before have it
    assert len(far_targets(old, rows, old.target_settled)) == 1


@pytest.mark.parametrize("value", [5, 11, 99, 100, 111, -91])
def test_what_is_just_beyond_the_training_is_no_missing_value(value):
    assert bool(no_value(value, 0.0, 10.0)) is (value in (99, 111))
