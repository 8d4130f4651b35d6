"""Columns as numbers: against numpy, with unknown and missing values, and without a look at held-out rows."""

import json

import numpy as np
import pytest
import torch

from fastadapt.data.tables.columns import Column, Preparation
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.fit_columns import MOST_CATEGORIES, fit_preparation
from fastadapt.data.tables.rows import Rows
from fastadapt.errors import ConfigError, DataError


def rows_of(text, by=","):
    header, *cells = [line.split(by) for line in text.strip().splitlines()]
    return Rows("t.csv", tuple(header), cells, list(range(2, len(cells) + 2)))


def fit(rows, training=None, **settings):
    training = range(len(rows)) if training is None else training
    return fit_preparation(rows, training, task="g", target="y", **settings)


def test_numbers_are_standardised_and_missing_ones_marked():
    rows = rows_of("g,a,b,y\n1,1,10,0.5\n1,2,,1.5\n2,4,30,2.5\n2,NA,50,9.5")
    prepared = fit(rows).preparation
    a, b = np.array([1.0, 2.0, 4.0]), np.array([10.0, 30.0, 50.0])
    wanted = np.zeros((4, 4))
    wanted[[0, 1, 2], 0] = (a - a.mean()) / a.std()
    wanted[3, 1] = 1
    wanted[[0, 2, 3], 2] = (b - b.mean()) / b.std()
    wanted[1, 3] = 1
    x, y = prepared.samples(rows)
    torch.testing.assert_close(x, torch.tensor(wanted, dtype=torch.float32))
    target = np.array([0.5, 1.5, 2.5, 9.5])
    torch.testing.assert_close(y, torch.tensor((target - target.mean()) / target.std()).float().unsqueeze(1))
    assert (prepared.mean, prepared.std) == (target.mean(), target.std())
    assert prepared.inputs == 4 and prepared.outputs == 1


def test_categories_have_a_place_for_the_unknown():
    rows = rows_of("g,c,y\n1,red,1.5\n1,blue,2.5\n2,blue,3.5\n2,red,4.5\n2,odd,5.5")
    prepared = fit(rows).preparation
    [column] = prepared.columns
    assert column.categories == ("blue", "red")  # "odd" occurs in one task only
    assert prepared.features(rows).tolist() == [[0, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert prepared.features(rows_of("c\nnever seen\n?")).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_missing_categories_have_an_indicator_where_they_occurred():
    rows = rows_of("g,c,y\n1,red,1.5\n1,,2.5\n2,red,3.5\n2,n/a,4.5")
    prepared = fit(rows).preparation
    assert prepared.columns[0].missing
    assert prepared.features(rows).tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]]


def test_only_the_most_frequent_categories_are_kept():
    cells = [f"{g},c{i:02d},{i + 0.5}" for i in range(MOST_CATEGORIES + 5) for g in (1, 2)]
    cells += [f"{g},c54,1.5" for g in (1, 2)]
    [column] = fit(rows_of("g,c,y\n" + "\n".join(cells))).preparation.columns
    assert len(column.categories) == MOST_CATEGORIES and "c54" in column.categories


def test_columns_that_say_nothing_are_left_out_with_a_reason():
    fitted = fit(rows_of("g,a,b,c,d,y\n1,1,5,x,,1.5\n1,2,5,y,,2.5\n2,3,5,z,,3.5"))
    assert [column.name for column in fitted.preparation.columns] == ["a"]
    assert fitted.left_out == {
        "b": "every value is the same",
        "c": "no category occurs in two training tasks",
        "d": "every value is missing",
    }


def test_numbers_may_be_taken_for_categories_and_columns_ignored():
    rows = rows_of("g,a,b,y\n1,1,5,1.5\n1,2,6,2.5\n2,1,7,3.5\n2,2,8,4.5")
    prepared = fit(rows, categorical=["a"], ignore=["b"]).preparation
    assert [(column.name, column.holds, column.categories) for column in prepared.columns] == [
        ("a", "category", ("1", "2"))
    ]


def test_a_decimal_comma_is_found_out():
    prepared = fit(rows_of("g;a;y\n1;1,5;2,5\n2;2,5;4,5", ";")).preparation
    assert prepared.columns[0].mean == 2.0 and prepared.mean == 3.5


@pytest.mark.parametrize(
    ("target", "settings", "labels"),
    [
        (["a", "b", "a", "b"], {}, ("a", "b")),
        (["1.5", "2.5", "3.5", "4.5"], {}, ()),
        (["1", "0", "1", "0"] * 5, {}, ("0", "1")),
        (["10", "9", "10", "9"] * 5, {}, ("9", "10")),
        (["1", "0", "1", "0"] * 5, {"problem": "regression"}, ()),
        ([str(i) for i in range(40)], {}, ()),
        (["1.5", "2.5", "1.5", "2.5"], {"problem": "classification"}, ("1.5", "2.5")),
    ],
)
def test_what_a_target_is(target, settings, labels):
    text = "g,a,y\n" + "\n".join(f"{i % 2},{i},{value}" for i, value in enumerate(target))
    prepared = fit(rows_of(text), **settings).preparation
    assert prepared.labels == labels and prepared.outputs == max(1, len(labels))
    y = prepared.samples(rows_of(text))[1]
    if labels:
        assert y.dtype == torch.int64 and [labels[i] for i in y.tolist()] == target
    else:
        assert y.shape == (len(target), 1)


def test_held_out_rows_are_never_looked_at():
    good = ["1,1,red,1.5", "1,2,blue,2.5", "2,3,red,3.5", "2,5,blue,4.5"]
    alone = fit(rows_of("\n".join(["g,a,c,y", *good]))).preparation
    for poison in ("3,1e300,red,1e300", "3,inf,POISON,nan", "3,text,,-5", "3,,red,also text"):
        rows = rows_of("\n".join(["g,a,c,y", *good, poison, poison]))
        assert fit(rows, range(4)).preparation == alone


@pytest.mark.parametrize(
    ("text", "settings", "sentence"),
    [
        ("g,a,z\n1,1,2", {}, "^t.csv has no column 'y'; it has g, a, z$"),
        ("g,a,y\n1,1,2", {"ignore": ["b"]}, "has no column 'b'"),
        (
            "g,a,y\n1,1,1.5\n1,2,2.5\n2,oops,3.5",
            {},
            r"column 'a' holds numbers, but text in 1 of 3 rows \('oops' in line 4\); correct them, or give "
            "--categorical a$",
        ),
        ("g,a,y\n1,1,1.5\n1,inf,2.5\n2,3,3.5", {}, "line 3: 'inf' in column 'a' is not finite"),
        ("g,a,y\n1,5,1.5\n2,5,2.5", {}, "no column to predict 'y' from .'a': every value is the same"),
        ("g,a,y\n1,5,7.5\n2,6,7.5", {}, "'y' has one value in all training tasks; nothing is to learn"),
        ("g,a,y\n1,5,a\n2,6,a", {}, "the target 'y' has 1 labels; classification needs 2 to 100"),
        ("g,a,y\n1,5,1.5\n2,6,2.5\n2,7,x", {}, "column 'y' holds numbers, but text .* or give --classification$"),
    ],
)
def test_what_can_not_be_fitted(text, settings, sentence):
    with pytest.raises(DataError, match=sentence):
        fit(rows_of(text), **settings)


@pytest.mark.parametrize(
    "settings", [{"ignore": ["y"]}, {"categorical": ["g"]}, {"categorical": ["a"], "ignore": ["a"]}]
)
def test_a_column_has_one_role(settings):
    with pytest.raises(ConfigError, match="is named for two things"):
        fit(rows_of("g,a,y\n1,1,2\n2,2,3"), **settings)


def test_all_values_that_can_not_be_used_come_at_once():
    prepared = fit(rows_of("g,a,b,y\n1,1,2,1.5\n1,2,3,2.5\n2,3,5,3.5")).preparation
    with pytest.raises(DataError) as caught:
        prepared.samples(rows_of("a,b,y\nx,1,1\n1,2,\n1,nothing,2\n1e99,2,3"))
    said = str(caught.value)
    assert "has 4 problems" in said
    for part in (
        "line 3: the target 'y' is missing",
        "line 2: 'x' in column 'a' is not a number",
        "line 4: 'nothing' in column 'b'",
        "line 5: '1e99' in column 'a' is far too large",
    ):
        assert part in said
    with pytest.raises(DataError, match=r"has 2 problems:\n.*no column 'a'.*\n.*no column 'b'"):
        prepared.features(rows_of("c\n1"))


def test_a_label_that_was_never_seen_is_named():
    prepared = Preparation("g", "y", (Column("a"),), ("no", "yes"))
    with pytest.raises(DataError, match=r"line 3: 'maybe' is none of the labels of 'y' \(no, yes\)"):
        prepared.samples(rows_of("a,y\n1,yes\n2,maybe"))


def test_a_preparation_survives_json(tmp_path):
    rows = rows_of("g,a,c,y\n1,1,red,x\n1,2,blue,y\n2,,blue,x\n2,4,red,y")
    prepared = fit(rows).preparation
    assert Preparation.from_plain(json.loads(json.dumps(prepared.to_plain()))) == prepared
    with pytest.raises(DataError, match="this is not the preparation of a table"):
        Preparation.from_plain({"columns": []})
    (tmp_path / "t.csv").write_text("a,c\n3,blue\n")
    assert prepared.features(read_rows(tmp_path / "t.csv")).shape == (1, prepared.inputs)
