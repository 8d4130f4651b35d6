"""Files of embeddings: four formats with the same contents, and nothing misread in silence."""

import json
import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from fastadapt.data.embeddings.arrays import as_bytes
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData, check_same, support_of
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.data.embeddings.vectors import ClassVectors
from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import ConfigError, DataError

ROWS = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, 3.0], [4.0, 5.0, 6.5], [7.0, 8.0, 9.0]], dtype=np.float32)
WORDS = ["dog", "cat", "dog", "owl"]


def npz(path, features=ROWS, labels=WORDS, **more):
    np.savez(path, features=features, labels=np.array(labels), **more)
    return path


def safetensors(path):
    save_file(
        {"embeddings": torch.from_numpy(ROWS), "labels": torch.tensor([1, 0, 1, 2])},
        path,
        metadata={"facts": json.dumps({"class_names": ["cat", "dog", "owl"]})},
    )
    return path


def parquet(path):
    pq.write_table(pa.table({"label": WORDS, "embedding": ROWS.tolist()}), path)
    return path


def wide_parquet(path):
    pq.write_table(pa.table({"Class": WORDS, **{f"f{i}": ROWS[:, i] for i in range(3)}}), path)
    return path


def csv(path):
    lines = [f"{word},{','.join(map(str, row))}" for word, row in zip(WORDS, ROWS.tolist(), strict=True)]
    path.write_text("\n".join(["label,a,b,c", *lines]))
    return path


def pandas_csv(path):
    lines = [
        f"{n},{word},{','.join(map(str, row))}" for n, (word, row) in enumerate(zip(WORDS, ROWS.tolist(), strict=True))
    ]
    path.write_text("\n".join([",label,a,b,c", *lines]))
    return path


def listed_csv(path):
    lines = [f'{word};"{row}"' for word, row in zip(WORDS, ROWS.tolist(), strict=True)]
    path.write_text("\n".join(["label;embedding", *lines]))
    return path


@pytest.mark.parametrize(
    ("write", "ending"),
    [
        (npz, "npz"),
        (safetensors, "safetensors"),
        (parquet, "parquet"),
        (wide_parquet, "parquet"),
        (csv, "csv"),
        (pandas_csv, "csv"),
        (listed_csv, "csv"),
    ],
)
def test_all_formats_hold_the_same(write, ending, tmp_path):
    made = read_embeddings(write(tmp_path / f"f.{ending}"))
    np.testing.assert_array_equal(made.features.numpy(), ROWS)
    assert made.features.dtype == torch.float32
    assert [made.class_names[label] for label in made.labels] == WORDS
    assert made.counts == {"cat": 1, "dog": 2, "owl": 1}


@pytest.mark.parametrize("ending", [".npz", ".safetensors"])
def test_what_is_written_is_read_with_all_that_is_known_and_the_same_bytes(ending, tmp_path):
    made = Embeddings(torch.from_numpy(ROWS), np.array([0, 1, 0, 1]), ("é", "b"), tuple("wxyz"), "net 1", {"b": "test"})
    content = as_bytes(made, ending)
    (tmp_path / f"f{ending}").write_bytes(content)
    again = read_embeddings(tmp_path / f"f{ending}")
    assert (again.names, again.backbone, again.parts) == (made.names, "net 1", {"b": "test"})
    assert [again.class_names[label] for label in again.labels] == ["é", "b", "é", "b"]
    assert torch.equal(again.features, made.features) and as_bytes(made, ending) == content


def with_nan(value):
    rows = ROWS.astype(np.float64)
    rows[2, 1] = value
    return rows


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"features": with_nan(np.nan), "labels": WORDS}, "1 of 4 rows hold what is no finite number.*row 3"),
        ({"features": with_nan(1e300), "labels": WORDS}, "no finite number in 32 bits"),
        ({"features": ROWS[:3], "labels": WORDS}, r"classes have shape \[4\], and there are 3 rows"),
        ({"features": ROWS, "labels": np.eye(4, dtype=int)}, r"classes have shape \[4, 4\]"),
        ({"features": ROWS[..., None], "labels": WORDS}, r"shape \[4, 3, 1\], and one row of numbers"),
        ({"features": ROWS.astype(str), "labels": WORDS}, "real numbers are needed"),
        ({"features": ROWS.astype(complex), "labels": WORDS}, "real numbers are needed"),
        ({"features": ROWS[:0], "labels": np.array([], int)}, "holds no sample"),
        ({"features": ROWS, "labels": [0.5, 1, 2, 3]}, "words or whole numbers"),
        ({"features": ROWS, "labels": ["a", "", "b", "c"]}, "row 2 has no class"),
        ({"features": ROWS}, "no array of classes, only 'features'"),
        ({"features": ROWS, "labels": WORDS, "y": WORDS}, "classes may be meant by each.*--class-column"),
        ({"a": ROWS, "b": ROWS, "labels": WORDS}, "several arrays that may be the features"),
        (
            {"features": ROWS, "labels": [0, 1, 2, 3], "class_names": ["a", "b"]},
            "numbers 0 to 3, and class_names has 2",
        ),
        ({"features": ROWS, "labels": [0, 1, -1, 1], "class_names": ["a", "b"]}, "numbers -1 to 1"),
    ],
)
def test_arrays_that_leave_something_open_are_refused(arrays, words, tmp_path):
    np.savez(tmp_path / "f.npz", **{name: np.array(array) for name, array in arrays.items()})
    with pytest.raises(DataError, match=words):
        read_embeddings(tmp_path / "f.npz")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label,a,b\ncat,1,2\ndog,1,x\n", "line 3: 'x' in column 'b' is no number"),
        ("label,a,b\ncat,1,2\ndog,1,\n", "line 3: an empty cell in column 'b'"),
        ("label,a,b\ncat,1,nan\ndog,1,2\n", "no finite number"),
        ("a,b\n1,2\n3,4\n", "no column of classes, only 'a', 'b'"),
        ("label\ncat\ndog\n", "no column of numbers beside the classes"),
        ("label;embedding\ncat;[1, 2]\ndog;[1, 2, 3]\n", "line 3: the list has 3 numbers, and that of line 2 has 2"),
        ("label;embedding\ncat;[1, 2]\ndog;[1 2]\n", "is no list of numbers"),
        ("label,a,b\ncat,1\n", "line 2 has 2 values"),
        ("label,class,a\ncat,x,1\n", "classes may be meant by each"),
        ("label,species,a\n1,cat,1\n0,dog,2\n", "'cat' in column 'species' is no number.*--class-column"),
    ],
)
def test_columns_that_leave_something_open_are_refused(text, words, tmp_path):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        read_embeddings(tmp_path / "f.csv")


def test_a_column_of_classes_may_be_named(tmp_path):
    (tmp_path / "f.csv").write_text("species,a,b\ncat,1,2\ndog,3,4\n")
    assert read_embeddings(tmp_path / "f.csv", class_column="species").class_names == ("cat", "dog")
    with pytest.raises(DataError, match="has no column 'kind', only 'species', 'a', 'b'"):
        read_embeddings(tmp_path / "f.csv", class_column="kind")


def test_lists_of_one_length_in_parquet(tmp_path):
    pq.write_table(pa.table({"label": ["a", "b"], "embedding": [[1.0, 2.0], [3.0]]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="row 2: the list has 1 numbers"):
        read_embeddings(tmp_path / "f.parquet")
    pq.write_table(pa.table({"label": ["a", "b"], "embedding": [[1.0, None], [3.0, 2.0]]}), tmp_path / "f.parquet")
    with pytest.raises(DataError, match="no finite number"):
        read_embeddings(tmp_path / "f.parquet")
    pq.write_table(pa.table({"label": ["a", "b"], "embedding": [None, [3.0, 2.0]]}), tmp_path / "f.parquet")
    with pytest.raises(DataError):
        read_embeddings(tmp_path / "f.parquet")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.npy", b"x", "one array without classes"),
        ("f.pt", b"x", "a pickle, which may run code"),
        ("f.pkl", b"x", "a pickle, which may run code"),
        ("f.txt", b"x", "embeddings are read from .npz"),
        ("f.npz", b"PK no archive", "can't read .*f.npz as .npz"),
        ("f.safetensors", b"\xff" * 20, "can't read .*f.safetensors as .safetensors"),
        ("f.parquet", b"PAR1 PAR1", "damaged Parquet"),
        ("f.npz", b"", "the file is empty"),
    ],
)
def test_other_files_are_refused_with_what_to_do(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_embeddings(tmp_path / name)
    with pytest.raises(DataError, match="there is no such file"):
        read_embeddings(tmp_path / "nothing.npz")


def test_no_pickle_is_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    np.savez(tmp_path / "f.npz", features=ROWS, labels=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        read_embeddings(tmp_path / "f.npz")


def test_copies_and_zeros_are_told(tmp_path, caplog):
    rows = np.array([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    with caplog.at_level(logging.WARNING):
        read_embeddings(npz(tmp_path / "f.npz", features=rows, extra=np.zeros(3)))
    assert "1 of 4 rows of zeros" in caplog.text and "'extra'" in caplog.text
    assert "1 rows that are copies of others, 1 of them in another class" in caplog.text


def test_the_tasks_are_those_of_images_with_the_same_classes():
    labels = np.random.default_rng(0).permutation(np.arange(48) // 6)
    images = torch.arange(48, dtype=torch.uint8).view(48, 1, 1).expand(48, 4, 4)
    sizes = {"ways": 3, "shots": 2, "queries": 3}
    pictures = ClassImages(images, labels, tuple("abcdefgh"), **sizes)
    vectors = ClassVectors(torch.arange(48.0).view(48, 1), labels, tuple("abcdefgh"), **sizes)
    for seed in range(5):
        one, other = (each.sample(np.random.default_rng(seed)) for each in (pictures, vectors))
        for a, b in ((one.support, other.support), (one.query, other.query)):
            assert torch.equal((255 * a[0][:, 0, 0, 0]).round(), b[0][:, 0]) and torch.equal(a[1], b[1])
    with pytest.raises(ConfigError, match="taken as they are"):
        ClassVectors(torch.zeros(48, 2), labels, tuple("abcdefgh"), rotation="per_class", **sizes)
    with pytest.raises(DataError, match=r"floats \[M, d\]"):
        ClassVectors(torch.zeros(48, dtype=torch.long), labels, tuple("abcdefgh"), **sizes)


def made(classes=9, each=5, d=4, **facts):
    labels = np.repeat(np.arange(classes), each)
    rng = torch.Generator().manual_seed(0)
    names = tuple(f"c{i}" for i in range(classes))
    return Embeddings(torch.randn(classes * each, d, generator=rng), labels, names, **facts)


def test_classes_are_divided_by_seed_and_by_what_the_folder_said():
    data = EmbeddingsData(ways=2, shots=1, queries=2, train_shots=1, train_queries=2)
    split = [
        data.of(made()).split,
        data.of(made()).split,
        EmbeddingsData(**{**vars(data), "split_seed": 7}).of(made()).split,
    ]
    assert split[0] == split[1] != split[2]
    assert sorted(sum(split[0].values(), ())) == [f"c{i}" for i in range(9)]
    parts = {f"c{i}": "train" if i < 5 else "val" if i < 7 else "test" for i in range(9)}
    assert data.of(made(parts=parts)).test_classes == ("c7", "c8")
    assert data.of(made(parts=parts), by_parts=False).split == split[0]
    found = data.of(made())
    drawn = found.source("test", made()).origin(np.random.default_rng(0)).classes
    assert set(drawn) <= set(found.test_classes)


def test_too_few_classes_or_samples_are_told():
    data = EmbeddingsData(ways=4, shots=1, queries=2)
    with pytest.raises(DataError, match="4-way tasks take 4 classes in each of train, val, test"):
        data.of(made())
    with pytest.raises(DataError, match="has 5 embeddings, and 4 shots and 2 queries take 6"):
        EmbeddingsData(ways=2, shots=4, queries=2, train_queries=1).of(made())


def test_embeddings_of_another_backbone_are_refused():
    wanted = {"inputs": 4, "backbone": "net 1"}
    check_same(wanted, made(backbone="net 1"), "f")
    check_same(wanted, made(), "f")  # a file from elsewhere says nothing
    with pytest.raises(DataError, match="was computed by net 2, and the run is for net 1"):
        check_same(wanted, made(backbone="net 2"), "f")
    with pytest.raises(DataError, match="embeddings of 3 numbers, and the run was made for 4"):
        check_same(wanted, made(d=3), "f")


def test_a_support_set_is_the_first_of_each_class():
    (x, y), labels = support_of(made(classes=3), 2, "f")
    assert y.tolist() == [0, 0, 1, 1, 2, 2] and labels == ["c0", "c1", "c2"]
    assert torch.equal(x, made(classes=3).features[[0, 1, 5, 6, 10, 11]])
    with pytest.raises(DataError, match="has 5 of the 6 samples asked for; add 1"):
        support_of(made(), 6, "f")
    with pytest.raises(DataError, match="alone, and a head needs 2"):
        support_of(made(classes=1), None, "f")
