"""Which array or column of a file is what: by names that say it, or as asked; two that may be meant are refused."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from fastadapt.data.files import shown
from fastadapt.errors import DataError

FEATURES = ("features", "embeddings", "embedding", "feature", "vectors", "vector", "x")
CLASSES = ("class", "classes", "label", "labels", "y", "target", "targets", "category")
NAMES = ("file", "files", "filename", "filenames", "path", "paths", "name", "names", "id", "ids")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """Hold what is asked of a file.

    Args:
        name: of the file, for the messages.
        class_column: the array or column that holds the classes; None goes by its name.
        classes: whether it must have classes.
        columns: what each feature is called in the training, where a column is a feature; empty where that is open.
    """

    name: str
    class_column: str | None = None
    classes: bool = True
    columns: tuple[str, ...] = ()

    def of_classes(self, present: Sequence[str], kind: str) -> str | None:
        """Return which of the arrays or columns holds the classes; None if none does and none has to.

        Raises:
            DataError: if several may, or none does.
        """
        if self.class_column is not None:
            if self.class_column not in present:
                raise DataError(f"{self.name} has no {kind} {self.class_column!r}, only {_listed(present)}")
            return self.class_column
        found = [name for name in named(present, CLASSES) if name not in self.columns]
        if len(found) > 1:
            raise DataError(
                f"{self.name} has the {kind}s {_listed(found)}, and classes may be meant by each; say which with "
                "--class-column"
            )
        if not found and self.classes:
            raise DataError(
                f"{self.name} has no {kind} of classes, only {_listed(present)}; call it label, or name it with "
                "--class-column"
            )
        return found[0] if found else None

    def of_names(self, present: Sequence[str]) -> str | None:
        """Return which of the arrays or columns names the samples; the first, where several may."""
        found = [name for name in named(present, NAMES) if name != self.class_column and name not in self.columns]
        return found[0] if found else None

    def left_out(self, names: Sequence[str], kind: str, reason: str = "") -> None:
        """Say what is not used, and why not."""
        if names:
            told = f"{_listed(names)} {'are' if len(names) > 1 else 'is'}"
            because = f", as each {reason}" if reason and len(names) > 1 else f", as it {reason}" if reason else ""
            logger.warning("note: %s: the %s%s %s left out%s", self.name, kind, "s" * (len(names) > 1), told, because)


def named(present: Sequence[str], meant: Sequence[str]) -> list[str]:
    """Return the names that are among those that are meant, whatever their case.

    Example:
        >>> named(["Label", "a"], CLASSES)
        ['Label']
    """
    return [name for name in present if name.strip().lower() in meant]


def _listed(names: Sequence[str]) -> str:
    first = ", ".join(repr(shown(name)) for name in names[:8])
    return (f"{first} and {len(names) - 8} more" if len(names) > 8 else first) or "none"
