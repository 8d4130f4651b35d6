"""Rows that stand in a table twice are told, unless the table is so coarse that they are the same by chance."""

import numpy as np
import pytest

from fastadapt.data.tables.repeats import repeated_rows
from fastadapt.data.tables.rows import Rows
from fastadapt.data.tables.table_settings import prepare_table

N = 240


def rows_of(*columns, names=None):
    names = names or tuple(f"c{i}" for i in range(len(columns)))
    cells = [list(map(str, row)) for row in zip(*columns, strict=True)]
    return Rows("t.csv", tuple(names), cells, list(range(2, len(cells) + 2)))


def fine(rng):
    return [
        rng.integers(12, size=N),
        rng.normal(size=N).round(2),
        rng.choice(["a", "b"], N),
        rng.normal(size=N).round(3),
    ]


def coarse(rng):
    school = rng.integers(12, size=N)
    return [school, school % 3, rng.integers(2, size=N), rng.choice(["pass", "fail"], N, p=[0.8, 0.2])]


def dependent(rng):
    hours = rng.integers(0, 20, N)
    return [rng.integers(12, size=N), hours, hours * 60, hours > 10, rng.integers(2, size=N)]


def zeros(rng):
    some = [np.where(rng.random(N) < 0.6, 0, rng.normal(size=N)) for _ in range(2)]
    return [rng.integers(12, size=N), *some]


def copied(columns, which):
    return [np.concatenate([column, np.asarray(column)[which]]) for column in columns]


def told(columns, **more):
    rows = rows_of(*columns, **more)
    return repeated_rows(rows, rows.header)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("table", [coarse, dependent, zeros, fine])
def test_what_is_the_same_by_chance_is_not_spoken_of(table, seed):
    assert told(table(np.random.default_rng(seed))) == []


@pytest.mark.parametrize("which", [slice(None), slice(0, 3), slice(100, 140), [5] * 4])
def test_copies_are(which):
    columns = copied(fine(np.random.default_rng(0)), which)
    count = len(columns[0]) - N
    [note] = told(columns)
    first = np.arange(N)[which][0] + 2
    assert note.startswith(f"t.csv: {count} of {N + count} rows repeat an earlier one in c0, c1, c2 and 1 more columns")
    assert f"such as line {N + 2} that of {first}; if they are copies, remove them" in note


def test_two_rows_may_be_the_same():
    assert told(copied(fine(np.random.default_rng(0)), slice(0, 2))) == []


@pytest.mark.parametrize(
    ("name", "ids", "says"),
    [
        ("number", range(2 * N), True),  # it counts
        ("pupil_id", np.random.default_rng(1).permutation(2 * N), True),
        ("column 5", [f"r{i}x" for i in range(2 * N)], True),
        ("seconds", np.random.default_rng(1).permutation(2 * N), False),  # a measured value, different everywhere
    ],
)
def test_an_id_makes_no_row_another(name, ids, says):
    columns = [*copied(fine(np.random.default_rng(0)), slice(None)), list(ids)]
    assert bool(told(columns, names=("a", "b", "c", "d", name))) is says


def test_training_says_it_and_column_left_out_do_not_count(tmp_path):
    columns = [*copied(fine(np.random.default_rng(0)), slice(None)), np.random.default_rng(1).random(2 * N)]
    lines = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["school,x,kind,y,noise", *lines]))
    for ignore, count in (((), 0), (("noise",), 1)):
        made = prepare_table(tmp_path / "t.csv", task="school", target="y", shots=(5,), ignore=ignore)
        assert sum("rows repeat an earlier one in school, y, x and 1 more" in note for note in made.notes) == count
