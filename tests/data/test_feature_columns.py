"""Which columns of a file of embeddings are features: what says something of rows is left out, and said."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData, check_same
from fastadapt.data.embeddings.feature_columns import feature_columns
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.errors import DataError

ROWS = 24
RNG = np.random.default_rng(0)
WIDE = {f"emb_{i}": RNG.normal(size=ROWS).round(3) for i in range(4)}
BARE = dict(zip(("red", "round", "sweet"), RNG.normal(size=(3, ROWS)).round(3), strict=True))
LABELS = [f"c{i % 3}" for i in range(ROWS)]
ORDER = RNG.permutation(ROWS)
OF_ROWS = {
    "": ORDER,
    "Unnamed: 0": ORDER,
    "index": ORDER + 100,
    "image_id": RNG.integers(0, 9, ROWS),
    "photoId": ORDER * 3,
    "Fold": RNG.integers(0, 3, ROWS),
    "when": 1_700_000_000 + ORDER * 60 + 7,  # whole and different everywhere
    "position": ORDER,
}
"""Columns that say something of the rows, by name or by what they hold."""


def csv(path, columns, sep=","):
    names = list(columns)
    lines = [sep.join(str(columns[name][row]) for name in names) for row in range(len(columns[names[0]]))]
    path.write_text("\n".join([sep.join(names), *lines]))
    return path


def parquet(path, columns):
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), path)
    return path


@pytest.mark.parametrize("features", [WIDE, BARE], ids=["numbered", "words"])
@pytest.mark.parametrize("name", OF_ROWS)
@pytest.mark.parametrize("write", [csv, parquet])
def test_what_tells_rows_apart_is_no_feature(write, name, features, tmp_path, caplog):
    called = "__index_level_0__" if (write, name) == (parquet, "") else name
    path = write(tmp_path / f"f.{write.__name__}", {called: OF_ROWS[name], "label": LABELS, **features})
    with caplog.at_level(logging.WARNING):
        made = read_embeddings(path)
    assert made.columns == tuple(features)
    np.testing.assert_allclose(made.features, np.array(list(features.values())).T, rtol=1e-6)
    shown = called or "column 1"
    assert f"the column '{shown}' is left out, as it " in caplog.text


def test_of_a_frame_of_pandas_the_index_is_none_whatever_its_name(tmp_path, caplog):
    table = pa.table({**WIDE, "label": LABELS, "weight of": list(WIDE["emb_0"])})
    told = b'{"index_columns": ["weight of"], "columns": [], "pandas_version": "2"}'
    pq.write_table(table.replace_schema_metadata({b"pandas": told}), tmp_path / "f.parquet")
    assert read_embeddings(tmp_path / "f.parquet").columns == tuple(WIDE)
    assert "'weight of' is left out, as it is the index" in caplog.text


@pytest.mark.parametrize(("name", "values"), [("year", 2000 + ORDER % 5), ("age", ORDER / 2), ("caption", LABELS)])
def test_beside_numbered_columns_others_are_left_out_and_told(name, values, tmp_path, caplog):
    path = csv(tmp_path / "f.csv", {"species": LABELS, name: values, **WIDE})
    assert read_embeddings(path, class_column="species").columns == tuple(WIDE)
    assert f"'{name}' is left out, as it is not numbered as emb_0 to emb_3 are" in caplog.text


def test_a_list_beside_numbered_columns_is_the_features_only_if_it_is_called_so(tmp_path):
    boxes = [[0, 0, 5, 7]] * ROWS
    with pytest.raises(DataError, match="a column of lists and numbered ones beside the classes"):
        read_embeddings(parquet(tmp_path / "f.parquet", {"label": LABELS, "box": boxes, **WIDE}))
    made = read_embeddings(parquet(tmp_path / "f.parquet", {"label": LABELS, "Embedding": boxes, **WIDE}))
    assert made.features.shape == (ROWS, 4) and made.columns == ()
    assert read_embeddings(parquet(tmp_path / "f.parquet", {"label": LABELS, "box": boxes, "age": ORDER})).columns == ()


def test_features_that_nothing_vouches_for_are_told(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        made = read_embeddings(csv(tmp_path / "f.csv", {"label": LABELS, "year": 2000 + ORDER % 5, **BARE}))
    assert made.columns == ("year", *BARE) and "the features are the columns 'year', 'red', " in caplog.text
    halves = {f"{stem}{i}": WIDE["emb_0"] for stem in ("image", "text") for i in range(3)}
    assert feature_columns({**halves, "year": ORDER % 5})[2] == "image0 to image2, text0 to text2, 'year'"


def test_whole_features_and_small_files_stay(tmp_path):
    """Whole numbers that repeat, or few rows of them, count nothing."""
    wholes = {f"f{i}": RNG.integers(0, 9, ROWS) for i in range(3)}
    assert read_embeddings(csv(tmp_path / "f.csv", {"label": LABELS, **wholes})).columns == tuple(wholes)
    few = {"label": ["a", "b", "a"], "red": [3, 1, 7], "round": [5, 2, 9]}
    assert read_embeddings(csv(tmp_path / "f.csv", few)).columns == ("red", "round")


SHUFFLED = [3, 1, 0, 2]


@pytest.mark.parametrize("classes", [True, False])
@pytest.mark.parametrize("write", [csv, parquet])
def test_features_are_matched_by_name_whatever_their_order(write, classes, tmp_path, caplog):
    names = list(WIDE)
    columns = {
        "extra": ORDER / 7,
        **{names[i]: WIDE[names[i]] for i in SHUFFLED},
        **({"label": LABELS} if classes else {}),
    }
    path = write(tmp_path / f"f.{write.__name__}", columns)
    made = read_embeddings(path, classes=classes, columns=names)
    np.testing.assert_allclose(made.features, np.array(list(WIDE.values())).T, rtol=1e-6)
    assert made.columns == tuple(names) and "'extra' is left out, as it is none of the training" in caplog.text


def test_a_feature_of_the_training_is_one_whatever_its_name(tmp_path):
    """Even one that is called as classes, names or rows are, where the training took it."""
    columns = {"y": WIDE["emb_0"], "id": ORDER, "kind": LABELS}
    made = read_embeddings(csv(tmp_path / "f.csv", columns), class_column="kind", columns=("id", "y"))
    assert made.columns == ("id", "y") and made.features[:, 0].tolist() == ORDER.tolist()
    assert read_embeddings(csv(tmp_path / "f.csv", columns), classes=False, columns=("y", "id")).columns == ("y", "id")


def test_other_names_are_refused(tmp_path):
    others = {f"dim{i}": values for i, values in enumerate(WIDE.values())}
    path = csv(tmp_path / "f.csv", {"label": LABELS, **others})
    with pytest.raises(DataError, match="has none of the columns of the training, emb_0 to emb_3, but dim0 to dim3"):
        read_embeddings(path, columns=list(WIDE))
    some = {"Emb_3" if name == "emb_3" else name: values for name, values in WIDE.items()}
    with pytest.raises(DataError, match=r"has no column 'emb_3'; .* is 'Emb_3' meant"):
        read_embeddings(csv(tmp_path / "f.csv", {"label": LABELS, **some}), columns=list(WIDE))


def test_a_run_keeps_the_names_and_one_without_goes_on_by_length(tmp_path, caplog):
    names = list(WIDE)
    path = tmp_path / "f.csv"
    data = EmbeddingsData(ways=2, shots=1, queries=2, train_queries=2, val_fraction=0, folder=str(path))
    labels = [f"c{i % 6}" for i in range(ROWS)]
    path = csv(path, {"label": labels, **WIDE})
    found = data.of(read_embeddings(path))
    assert found.columns == tuple(names) and found.input["columns"] == names
    csv(path, {**{names[i]: WIDE[names[i]] for i in SHUFFLED}, "label": labels})
    assert "does not hold the embeddings" not in caplog.text and found.load().digest == found.digest
    caplog.clear()
    np.savez(tmp_path / "f.npz", features=np.array(list(WIDE.values())).T, labels=labels)
    check_same(found.input, read_embeddings(tmp_path / "f.npz", columns=names), "f.npz")
    assert "f.npz does not say what its features are called: they are taken in the order" in caplog.text
    old = {name: value for name, value in found.input.items() if name != "columns"}
    caplog.clear()
    check_same(old, read_embeddings(path), "f.csv")
    assert "the columns of f.csv are taken in their order, emb_3 to emb_2" in caplog.text


def test_a_column_that_is_named_twice_in_parquet_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(LABELS), *map(pa.array, WIDE.values())], ["label", "a", "b", "a", "c"])
    pq.write_table(table, tmp_path / "f.parquet")
    with pytest.raises(DataError, match="the column 'a' is named twice"):
        read_embeddings(tmp_path / "f.parquet")


@pytest.mark.parametrize("cell", ["1_000", "1,5", "0x1f", "one"])
def test_a_cell_that_is_no_plain_number_is_refused(cell, tmp_path):
    columns = {"label": LABELS, **WIDE, "emb_1": [cell, *WIDE["emb_1"][1:]]}
    with pytest.raises(DataError, match=f"line 2: '{cell}' in column 'emb_1' is no number"):
        read_embeddings(csv(tmp_path / "f.csv", columns, sep=";"))


@pytest.mark.parametrize(
    ("index", "told"),
    [(ORDER, "counts the rows"), (ORDER * 3 + 5, "is another whole number"), (np.arange(ROWS), "counts the rows")],
)
def test_an_index_among_the_numbers_of_an_array_is_told(index, told, tmp_path, caplog):
    features = np.array([WIDE["emb_0"], index, WIDE["emb_1"]]).T
    np.savez(tmp_path / "f.npz", features=features, labels=LABELS)
    assert read_embeddings(tmp_path / "f.npz").features.shape == (ROWS, 3)
    assert f"number 2 of each row {told}" in caplog.text and "leave it out if it is an index" in caplog.text
    caplog.clear()
    np.savez(tmp_path / "f.npz", features=RNG.integers(-128, 127, (ROWS, 3)), labels=LABELS)
    read_embeddings(tmp_path / "f.npz")
    assert not caplog.text
