"""`fastadapt predict PREDICTOR FILE...`: the class of an image, the value at a point or for a row of a table."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from fastadapt.commands import predict_policy
from fastadapt.data.embeddings.embeddings import Embeddings
from fastadapt.data.embeddings.embeddings_settings import check_same
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.data.files import complain, shown
from fastadapt.data.images.images import Fit, ImageRecipe
from fastadapt.data.tables.columns import Preparation
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.decoding import Encoding
from fastadapt.data.tables.evidence import Decimal
from fastadapt.data.tables.points import read_inputs
from fastadapt.data.tables.remarks import row_notes
from fastadapt.data.tables.rows import Rows
from fastadapt.errors import CheckpointError, ConfigError, DataError
from fastadapt.predictor import Predictor
from fastadapt.runs.predictor_file import load_predictor

logger = logging.getLogger("fastadapt")
_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Answer files with a predictor: the class of an image, the value at each point or row of a CSV."""

    predictor: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PREDICTOR")]
    """The folder that adapt wrote."""
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE...")]
    """Images, embeddings, CSV files of inputs with a header such as x, or tables with the columns of the training; for
    a policy goals such as goal=0.3,-0.2, by default the one that it was adapted to."""
    json: bool = False
    """Print one JSON array instead of a table."""
    fit: Fit | None = None
    """What to do with an image that is not square; by default what was chosen for adapt."""
    encoding: Encoding = "auto"
    """How the characters of a table are written, where it is neither UTF-8 nor as in the training."""
    decimal: Decimal = "auto"
    """The decimal mark of a table, where numbers such as 1,234 leave it open."""


def main(argv: Sequence[str]) -> int:
    """Parse the command line and predict."""
    return run(tyro.cli(PredictSettings, args=list(argv), prog="fastadapt predict"))


def run(settings: PredictSettings) -> int:
    """Print the answer for every file, or for none: if one is broken, the error names all that are.

    Returns:
        The exit code, 0.

    Raises:
        FastadaptError: if the predictor or a file can't be used; nothing was printed then.
    """
    predictor = load_predictor(settings.predictor)
    recipe = predictor.details.get("input")
    kind = recipe.get("kind") if isinstance(recipe, dict) else None
    if kind == "environment":
        return predict_policy.run(predictor, [str(word) for word in settings.files], as_json=settings.json)
    if not settings.files:
        raise ConfigError("there is nothing to predict: give at least one file")
    if kind not in ("image", "points", "table", "features") or not isinstance(recipe, dict):
        raise CheckpointError(
            f"{shown(settings.predictor)} does not say what its input is; load it in Python and call it with a tensor"
        )
    if kind == "image":
        _print_classes(classify(predictor, settings.files, settings.fit), settings)
    elif kind == "features":
        _print_rows(classify_embeddings(predictor, settings.files), settings)
    elif kind == "table":
        _print_rows(answer_rows(predictor, settings.files, settings.encoding, settings.decimal), settings)
    else:
        _print_values(evaluate(predictor, settings.files), settings)
    return 0


def classify(predictor: Predictor, files: Sequence[Path], fit: Fit | None = None) -> list[dict[str, float]]:
    """Return for each image the probability of each class, the most probable first.

    Raises:
        DataError: if a file can't be used; all that can't are named.
    """
    recipe = ImageRecipe(**predictor.details["input"])
    recipe = recipe if fit is None else replace(recipe, fit=fit)
    logits = _answers(predictor, torch.stack(_read_all(files, recipe.read)), files)
    labels = predictor.labels or [str(number) for number in range(logits.shape[-1])]
    rows = logits.double().softmax(-1).tolist()
    pairs = [sorted(zip(labels, row, strict=True), key=lambda pair: -pair[1]) for row in rows]
    return [dict(row) for row in pairs]


def evaluate(predictor: Predictor, files: Sequence[Path]) -> list[tuple[Tensor, Tensor]]:
    """Return `(x: [n, d], y: [n, 1])` for each file of points.

    Raises:
        DataError: if a file can't be used; all that can't are named.
    """
    recipe = predictor.details["input"]
    called = {name: recipe[name] for name in ("columns", "target") if name in recipe}
    tables: list[Tensor] = _read_all(files, lambda path: read_inputs(path, inputs=int(recipe["inputs"]), **called))
    return [(x, _answers(predictor, x, [path] * len(x))) for path, x in zip(files, tables, strict=True)]


@dataclass(frozen=True)
class Answered:
    """Hold the answers to the rows of a table, each with its line and notes, and the notes on the table as a whole."""

    rows: list[dict[str, Any]]
    notes: list[str]


def answer_rows(
    predictor: Predictor, files: Sequence[Path], encoding: Encoding = "auto", decimal: Decimal = "auto"
) -> list[Answered]:
    """Return for each row of each table its line with the value, or with the label and every label's probability.

    Args:
        predictor: what `adapt` wrote.
        files: the tables.
        encoding: how their characters are written.
        decimal: their decimal mark, where it is open.

    Raises:
        DataError: if a file can't be used; all that can't are named.
    """
    recipe = predictor.details["input"]
    preparation = Preparation.from_plain(recipe["preparation"])

    def read(path: Path) -> tuple[Rows, Tensor, list[str], list[list[str]]]:
        rows = read_rows(path, encoding, usual=recipe["encoding"])
        told = list(rows.notes)
        settled = preparation.settled(rows, decimal, say=told.append)
        return rows, preparation.features(rows, decimal), told, row_notes(preparation, rows, settled)

    answers = []
    for path, (rows, x, told, notes) in zip(files, _read_all(files, read), strict=True):
        outputs = _answers(predictor, x, [path] * len(x)).double()
        if preparation.labels:
            labels = predictor.labels or preparation.labels  # fewer, for a method that compares
            values = [_ranked(labels, row) for row in outputs.softmax(-1).tolist()]
        else:
            values = [{"value": value} for value in (preparation.mean + preparation.std * outputs[:, 0]).tolist()]
        entries = zip(rows.lines, values, notes, strict=True)
        answers.append(Answered([{"line": line, **value, "notes": note} for line, value, note in entries], told))
    return answers


def classify_embeddings(predictor: Predictor, files: Sequence[Path]) -> list[Answered]:
    """Return for each embedding of each file its label, with the probability of every label.

    Raises:
        DataError: if a file can't be used, or is of another backbone; all that can't are named.
    """
    recipe = predictor.details["input"]

    def read(path: Path) -> Embeddings:
        made = read_embeddings(path, classes=False, columns=recipe.get("columns", ()))
        check_same(recipe, made, shown(path))
        return made

    answers = []
    for path, made in zip(files, _read_all(files, read), strict=True):
        outputs = _answers(predictor, made.features, [path] * len(made)).double()
        names = made.names or [str(number + 1) for number in range(len(made))]
        ranked = [_ranked(predictor.labels or [], row) for row in outputs.softmax(-1).tolist()]
        rows = [{"line": name, **value, "notes": []} for name, value in zip(names, ranked, strict=True)]
        answers.append(Answered(rows, []))
    return answers


def _ranked(labels: Sequence[str], row: list[float]) -> dict[str, Any]:
    probabilities = dict(sorted(zip(labels, row, strict=True), key=lambda pair: -pair[1]))
    label = next(iter(probabilities))
    return {"label": label, "probability": probabilities[label], "probabilities": probabilities}


def _read_all(files: Sequence[Path], read: Any) -> list[Any]:
    found, problems = [], []
    for path in files:
        try:
            found.append(read(path))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise complain(problems, f"the list of {len(files)} files")
    return found


@torch.no_grad()
def _answers(predictor: Predictor, x: Tensor, files: Sequence[Path]) -> Tensor:
    """Return the outputs for all rows of `x`, each independent of the others unless the norm is transductive."""
    # One row at a time, so that not even the rounding of an answer depends on what else is asked.
    chunk = _CHUNK if not predictor.layered else len(x) if predictor.norm == "transductive" else 1
    outputs = torch.cat([predictor(rows) for rows in x.split(chunk)])
    finite = outputs.isfinite().flatten(1).all(1)
    if not finite.all():
        name = shown(files[int((~finite).nonzero()[0])])
        raise DataError(f"the answer for {name} is not a finite number; check its values, or adapt with fewer steps")
    return outputs


def _print_classes(answers: list[dict[str, float]], settings: PredictSettings) -> None:
    if settings.json:
        rows: list[Any] = []
        for path, probabilities in zip(settings.files, answers, strict=True):
            label, probability = next(iter(probabilities.items()))
            rows.append({"file": str(path), "label": label, "probability": probability, "probabilities": probabilities})
        print(json.dumps(rows, indent=1))
        return
    table = []
    for path, probabilities in zip(settings.files, answers, strict=True):
        [(label, probability), *others] = probabilities.items()
        second = f"{shown(others[0][0])} ({others[0][1]:.3f})" if others else ""
        table.append((shown(path), shown(label), f"{probability:.3f}", second))
    _print_table(("file", "label", "probability", "runner-up"), table)


def _print_values(answers: list[tuple[Tensor, Tensor]], settings: PredictSettings) -> None:
    if settings.json:
        points = [
            {"file": str(path), "x": x.tolist(), "y": y.squeeze(-1).tolist()}
            for path, (x, y) in zip(settings.files, answers, strict=True)
        ]
        print(json.dumps(points, indent=1))
        return
    for path, (x, y) in zip(settings.files, answers, strict=True):
        if len(settings.files) > 1:
            print(f"{shown(path)}:")
        for row, value in zip(x.tolist(), y.squeeze(-1).tolist(), strict=True):
            print(f"{', '.join(f'{number:.6g}' for number in row)} -> {value:.6g}")


def _print_rows(answers: list[Answered], settings: PredictSettings) -> None:
    """Print the answers; the column of notes is there if any row has one."""
    pairs = list(zip(settings.files, answers, strict=True))
    if settings.json:
        told = [{"file": str(path), "rows": found.rows, "notes": found.notes} for path, found in pairs]
        print(json.dumps(told, indent=1))
        return
    for note in (note for found in answers for note in found.notes):
        logger.info("note: %s", note)
    noted = any(row["notes"] for found in answers for row in found.rows)
    table = []
    for path, found in pairs:
        for row in found.rows:
            told = f"{row['value']:.6g}" if "value" in row else f"{shown(row['label'])} ({row['probability']:.3f})"
            table.append((shown(path), shown(str(row["line"])), told, "; ".join(row["notes"]))[: 3 + noted])
    _print_table(("file", "line", "answer", "note")[: 3 + noted], table)


def _print_table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print a table for a person at a terminal, or tab-separated lines for a pipe."""
    if not sys.stdout.isatty():
        for row in (header, *rows):
            print("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*(Text(cell, overflow="fold") for cell in row))
    Console().print(table)
