"""What a workbook or a Parquet file stores as a number is that number, whatever it looks like as text."""

import datetime
import decimal

import numpy as np
import pytest

from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.evidence import Settled, look, settle, settle_again
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.stored import Stored
from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.data.tables.values import read_numbers
from fastadapt.errors import DataError

N = 90
EIGHTHS = [1.125, 7.375, 0.625, 112.875]  # three decimals each, as thousands have


def eighths(kind=float):
    return [kind(EIGHTHS[i % 4]) for i in range(N)]


def columns(**more):
    rng = np.random.default_rng(0)
    shops = [f"s{i % 9}" for i in range(N)]
    return {"shop": shops, **more, "y": [float(v) for v in rng.normal(size=N).round(2)]}


def workbook(path, table):
    book = pytest.importorskip("openpyxl").Workbook()
    book.active.append(list(table))
    for row in zip(*table.values(), strict=True):
        book.active.append(row)
    book.save(path)
    return path


def parquet(path, table):
    arrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(arrow.table(table), path)
    return path


FILES = [(workbook, "t.xlsx"), (parquet, "t.parquet")]


def numbers_of(path):
    rows = read_rows(path)
    [found], problems, notes = settle([look(rows, "x")], rows)[0].values(), *settle([look(rows, "x")], rows)[1:]
    assert not problems and not notes
    values, wrong = read_numbers(rows, "x", found)
    assert not wrong
    return values


@pytest.mark.parametrize(("write", "file"), FILES)
@pytest.mark.parametrize("beside", [{}, {"price": [f"{i},5" for i in range(N)]}, {"price": ["1.234,5"] * N}])
def test_three_decimals_are_never_thousands(tmp_path, write, file, beside):
    path = write(tmp_path / file, columns(x=eighths(), **beside))
    made = prepare_table(path, task="shop", target="y", shots=(2,))
    column = next(c for c in made.data.preparation.columns if c.name == "x")
    assert (column.low, column.high) == (0.625, 112.875) and not any("'x'" in note for note in made.notes)


@pytest.mark.parametrize(
    ("kind", "exact"),
    [(decimal.Decimal, True), (np.float32, True), (lambda v: v * 1e20, False), (lambda v: v * 1e-9, False)],
)
def test_other_types_of_numbers(tmp_path, kind, exact):
    values = numbers_of(parquet(tmp_path / "t.parquet", columns(x=eighths(kind))))
    wanted = np.array([float(kind(v)) for v in EIGHTHS] * N)[:N]
    assert (values == wanted).all() if exact else np.allclose(values, wanted, rtol=1e-15)


def test_a_target_keeps_its_type_too(tmp_path):
    table = columns(x=[f"{i},5" for i in range(N)]) | {"y": eighths()}
    made = prepare_table(parquet(tmp_path / "t.parquet", table), task="shop", target="y", shots=(2,))
    assert made.data.preparation.high == 112.875 and made.data.preparation.mean < 40


def test_a_stored_number_does_not_tell_how_texts_are_written(tmp_path):
    table = columns(x=[0.5 + i for i in range(N)], price=["7,602", "1,388"] * (N // 2))
    with pytest.raises(DataError, match=r"'1,388' in column 'price' may be 1388 or 1\.388, and no other number tells"):
        prepare_table(workbook(tmp_path / "t.xlsx", table), task="shop", target="y", shots=(2,))


def test_numbers_and_texts_in_one_column(tmp_path):
    table = columns(x=[1.125 if i % 2 else "0,36" for i in range(N)])
    assert set(numbers_of(workbook(tmp_path / "t.xlsx", table))) == {1.125, 0.36}
    table = columns(x=[5.5 if i % 2 else "12 kg" for i in range(N)])
    with pytest.raises(DataError, match=r"different units, '5.5' .* and '12 kg'"):
        prepare_table(workbook(tmp_path / "t.xlsx", table), task="shop", target="y", shots=(2,))


@pytest.mark.parametrize(("write", "file"), FILES)
def test_a_stored_nan_is_no_value_whatever_words_say_so(tmp_path, write, file):
    table = columns(x=[None if write is workbook else float("nan")] * 3 + eighths()[3:])
    made = prepare_table(write(tmp_path / file, table), task="shop", target="y", shots=(2,), missing=("-999",))
    assert next(c for c in made.data.preparation.columns if c.name == "x").missing


@pytest.mark.parametrize(("write", "file"), FILES)
def test_lengths_of_time_are_hours_and_it_is_said(tmp_path, write, file):
    table = columns(x=[datetime.timedelta(minutes=20 * i) for i in range(N)])
    values = numbers_of(path := write(tmp_path / file, table))
    assert np.allclose(values, np.arange(N) / 3)
    assert read_rows(path).notes == (f"{path}: lengths of time in column 'x' are read as hours",)


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s"])
def test_lengths_of_time_in_every_unit(tmp_path, unit):
    arrow = pytest.importorskip("pyarrow")
    x = arrow.array([datetime.timedelta(hours=i) for i in range(N)], arrow.duration(unit))
    assert (numbers_of(parquet(tmp_path / "t.parquet", columns(x=x))) == np.arange(N)).all()


@pytest.mark.parametrize(
    ("unit", "count", "year"), [("us", 10**18, "33658"), ("s", -(10**11), "-1199"), ("ms", 10**16, "318857")]
)
def test_years_that_no_date_has_are_told(tmp_path, unit, count, year):
    arrow = pytest.importorskip("pyarrow")
    times = arrow.array([0] * (N - 1) + [count], arrow.timestamp(unit))
    path = parquet(tmp_path / "t.parquet", columns(x=times))
    with pytest.raises(DataError, match=rf"row {N}: column 'x' holds the time {year}-.*from 1 to 9999; correct it"):
        read_rows(path)


def further(x, recorded, **beside):
    table = {"x": x, **beside}
    rows = Rows("n.csv", tuple(table), [list(row) for row in zip(*table.values(), strict=True)], list(range(len(x))))
    return settle_again([look(rows, name) for name in table], rows, {"x": Settled(stored=True), **recorded})


@pytest.mark.parametrize(
    ("x", "beside", "recorded", "written"),
    [
        (["1.125", "7.375"], {}, {}, "1234.5"),
        (["1.125", "7.375"], {"z": ["0.5", "1"]}, {"z": Settled(stored=True)}, "1234.5"),
        (["1,125", "7,375"], {"z": ["0,5", "1"]}, {"z": Settled(stored=True)}, "1234,5"),
        (["1,125", "7,375"], {"p": ["0,5", "1"]}, {"p": Settled("1234,5")}, None),  # of texts, which always had it
        (["1,125", "7,375"], {}, {}, None),
        (["1.125", "7.375"], {"p": ["0,5", "1"]}, {"p": Settled("1234,5")}, None),
        ([Stored("1.125"), Stored("7.375")], {"p": ["0,5", "1"]}, {"p": Settled("1234,5")}, "1234.5"),
    ],
)
def test_a_run_on_stored_numbers_reads_text_as_the_other_stored_numbers_are_written(x, beside, recorded, written):
    found, problems, _ = further(x, recorded, **beside)
    if written is None:
        assert "say --decimal point or --decimal comma" in problems[0] and "x" not in found
    else:
        assert not problems and found["x"].written == written


@pytest.mark.parametrize("kind", ["binary", "large_binary", "fixed"])
def test_what_holds_no_single_values_is_refused(tmp_path, kind):
    arrow = pytest.importorskip("pyarrow")
    made = arrow.binary(2) if kind == "fixed" else getattr(arrow, kind)()
    path = parquet(tmp_path / "t.parquet", columns(x=arrow.array([b"ab"] * N, made)))
    with pytest.raises(DataError, match=r"column 'x' holds .*, no single values; leave it out"):
        read_rows(path)
