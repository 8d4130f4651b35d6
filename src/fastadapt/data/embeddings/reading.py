"""A file of embeddings: its format by its ending, its parts by their names, and nothing by a guess."""

from collections.abc import Callable, Sequence
from pathlib import Path

from fastadapt.data.embeddings.arrays import read_npz, read_safetensors
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.frames import read_csv, read_parquet
from fastadapt.data.embeddings.roles import Asked
from fastadapt.data.files import as_word, read_file, shown
from fastadapt.errors import DataError

MOST_BYTES = 4_000_000_000
READERS: dict[str, Callable[[Path, bytes, Asked], Embeddings]] = {
    ".npz": read_npz,
    ".safetensors": read_safetensors,
    ".parquet": read_parquet,
    ".csv": read_csv,
    ".tsv": read_csv,
}
"""How a file is read, by its ending."""
_OTHERS = {
    ".npy": "one array without classes; save both with np.savez(path, features=..., labels=...)",
    **dict.fromkeys(
        (".pt", ".pth", ".pkl", ".pickle", ".bin"),
        "a pickle, which may run code when it is read; save the arrays with np.savez(path, features=..., labels=...)",
    ),
}


def read_embeddings(
    path: str | Path, *, class_column: str | None = None, classes: bool = True, columns: Sequence[str] = ()
) -> Embeddings:
    r"""Read embeddings that were computed before.

    Args:
        path: `.npz` or `.safetensors` with a two-dimensional array of features and one of classes; `.parquet` with a
            column of lists, or `.csv` with a column for each number, and a column of classes.
        class_column: the name of the array or column of classes, where it is none of class, label and the like.
        classes: false reads a file that need not have any, and no classes of it.
        columns: what each feature is called, as `Embeddings.columns` of other rows says; a file in which a column is a
            feature is read by these names, whatever their order there. Empty takes the columns that are numbered alike,
            or else all that have a name and don't count the rows.

    Raises:
        DataError: if it can't be read, leaves open what is what, or lacks a column or a row's class.
        MissingExtraError: if a package that reads the format is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("label,a,b\ncat,0.5,1\ndog,2,3\n"), file.flush()
        ...     read_embeddings(file.name).features.tolist()
        [[0.5, 1.0], [2.0, 3.0]]
    """
    path = Path(path)
    ending = path.suffix.lower()
    if path.is_dir():
        mend = f"write those of its pictures with fastadapt embed {as_word(path)} --backbone ... --out FILE"
        raise DataError(f"{shown(path)} is a folder, and embeddings are a file; {mend}")
    if ending in _OTHERS:
        raise DataError(f"{shown(path)} holds {_OTHERS[ending]}")
    if ending not in READERS:
        raise DataError(f"{shown(path)}: embeddings are read from {', '.join(READERS)}; save them as one of these")
    content = read_file(path, limit=MOST_BYTES, kind="embeddings")
    return READERS[ending](path, content, Asked(shown(path), class_column, classes, tuple(columns)))
