"""`fastadapt adapt RUN DATA --out FOLDER`: adapt a run to a few samples of your own, and write the predictor."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import tyro
from torch import Tensor

from fastadapt.commands import adapt_policy
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData, support_of
from fastadapt.data.embeddings.reading import read_embeddings
from fastadapt.data.files import shown
from fastadapt.data.images.folder import read_class_folders
from fastadapt.data.images.images import Fit, ImageRecipe
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.decoding import Encoding
from fastadapt.data.tables.evidence import Decimal
from fastadapt.data.tables.points import read_named_points
from fastadapt.data.tables.remarks import row_notes
from fastadapt.data.tables.table import read_support
from fastadapt.data.tables.table_settings import TableData
from fastadapt.errors import ConfigError, DataError, DivergenceError
from fastadapt.layers.norm import Norm
from fastadapt.methods.head_settings import CentroidMethod, HeadMethod, NearestSampleMethod
from fastadapt.predictor import Predictor
from fastadapt.runs.predictor_file import check_target, save_predictor

if TYPE_CHECKING:
    from fastadapt.runs.run_files import LoadedRun

MOST_NOTES = 5
"""Notes on the rows of a table; what is unusual about more of them is counted."""
NORM_IN_WORDS = {
    "transductive": "all samples of one call share their statistics, so an answer depends on the others",
    "support": "every sample is answered with the statistics of your samples, whatever else is asked",
    "support+query": "every sample is answered alone beside your samples, whatever else is asked",
    "running": "every sample is answered with the statistics of the training, whatever else is asked",
    "per_step": "every sample is answered with the statistics of the training, whatever else is asked",
}


@dataclass(frozen=True, kw_only=True)
class AdaptSettings:
    """Adapt a trained run to a few samples of your own, and write the predictor."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """The trained run, a folder."""
    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Your samples: a folder with one sub-folder of images for each class, embeddings with a class for each, or a CSV
    with a header: points such as x,y, or rows of a table as in the training; for a policy goal=0.3,-0.2 or task=7."""
    out: Path
    """The folder to write the predictor to."""
    steps: int | None = None
    """Inner steps; by default those with which the run is evaluated."""
    norm: Norm | None = None
    """Batch-norm mode of the predictor; by default the run's, but support+query for a transductive one."""
    shots: int | None = None
    """Samples to take (of each class), the first by name; by default all."""
    fit: Fit | None = None
    """What to do with an image that is not square: refuse it, pad it, or crop its centre; by default as in training."""
    encoding: Encoding = "auto"
    """How the characters of a table are written, where it is neither UTF-8 nor as in the training."""
    decimal: Decimal = "auto"
    """The decimal mark of a table, where numbers such as 1,234 leave it open."""
    overwrite: bool = False
    """Replace the predictor that OUT holds."""


@dataclass(frozen=True)
class _Samples:
    """Hold the support set, what to note of it in the predictor, how to speak of it, and the unit of its target."""

    support: tuple[Tensor, Tensor]
    details: dict[str, Any]
    words: str
    hints: tuple[str, ...] = ()
    scale: float = 1.0


def main(argv: Sequence[str]) -> int:
    """Parse the command line and adapt."""
    return run(tyro.cli(AdaptSettings, args=list(argv), prog="fastadapt adapt"))


def run(settings: AdaptSettings, load: "Callable[[Path], LoadedRun] | None" = None) -> int:
    """Adapt, write the predictor and say what was done.

    Args:
        settings: what the user asked for.
        load: reads a trained run; None takes `fastadapt.runs.run_files.load_run`.

    Returns:
        The exit code, 0.

    Raises:
        FastadaptError: if anything can't be used; nothing was written then.
    """
    if load is None:
        from fastadapt.runs.run_files import load_run as load
    if settings.shots is not None and settings.shots < 1:
        raise ConfigError(f"--shots must be at least 1, got {settings.shots}")
    check_target(settings.out, overwrite=settings.overwrite)  # before the work rather than after it
    trained = load(settings.run)
    if trained.input["kind"] == "environment":
        of_samples = {"--norm": settings.norm, "--fit": settings.fit, "--shots": settings.shots}
        return adapt_policy.run(
            trained,
            str(settings.data),
            settings.out,
            steps=settings.steps,
            overwrite=settings.overwrite,
            of_samples=of_samples,
        )
    if trained.input["kind"] == "faces":
        if settings.norm is not None:
            raise ConfigError("a run on faces has no batch-norm mode to choose; leave --norm out")
        from fastadapt.commands import adapt_faces

        chosen = {"steps": settings.steps, "shots": settings.shots, "fit": settings.fit}
        return adapt_faces.run(trained, settings.data, settings.out, **chosen)  # type: ignore[arg-type]
    read = {"image": _images, "table": _table, "features": _features}.get(trained.input["kind"], _points)
    samples = read(settings, trained)
    if trained.input["kind"] in ("image", "features"):
        trained = trained.narrowed(len(samples.details["labels"]))
    learner = trained.learner
    own = getattr(learner, "norm", None)
    norm: Norm | None = settings.norm or ("support+query" if own == "transductive" else own)
    steps = learner.test_steps if settings.steps is None else settings.steps
    device = next((p.device for p in learner.parameters()), torch.device("cpu"))  # a head may have none
    support = (samples.support[0].to(device), samples.support[1].to(device))
    predictor = learner.adapt(support, steps=steps, norm=norm)
    if not all(bool(p.isfinite().all()) for p in predictor.parameters()):
        raise DivergenceError(
            f"{steps} inner steps on {shown(settings.data)} led to weights that are not finite; "
            "use fewer --steps, or scale the data" + "".join(f" ({hint})" for hint in samples.hints[:3])
        )
    # a network may be built around that of the run, and then says so itself
    described = getattr(predictor.model, "described", dict)(trained.net)
    predictor.details.update(samples.details, net=described, run=trained.name, steps=steps, norm=predictor.norm)
    folder = save_predictor(predictor, settings.out, overwrite=settings.overwrite)
    print(f"adapted {shown(trained.name)} to {samples.words} in {steps} {'step' if steps == 1 else 'steps'}")
    print(f"on these samples: {_achieved(predictor, support, samples)}")
    if predictor.layered:
        print(f"batch norm, {predictor.norm}: {NORM_IN_WORDS[predictor.norm]}")
    for hint in samples.hints:
        print(f"note: {hint}")
    print(f"wrote {shown(folder)}")
    return 0


def _images(settings: AdaptSettings, trained: "LoadedRun") -> _Samples:
    fit = {} if settings.fit is None else {"fit": settings.fit}
    recipe = ImageRecipe(**{**trained.input, **fit})
    support, labels = read_class_folders(
        settings.data, recipe, ways=trained.most_ways, fewest=trained.fewest_ways, shots=settings.shots
    )
    counts = Counter(support[1].tolist())
    each = {label: counts[number] for number, label in enumerate(labels)}
    least, most = min(each.values()), max(each.values())
    count = f"{least}" if least == most else f"{least} to {most}"
    words = f"{len(labels)} classes ({', '.join(map(shown, labels))}) from {count} image{'s' * (most > 1)} each"
    few = ", ".join(shown(label) for label in labels if each[label] < (trained.shots or 1))
    hints = (f"the run was trained for {trained.shots} images of each class; fewer are in {few}",) if few else ()
    return _Samples(support, {"input": asdict(recipe), "labels": labels, "support": each}, words, hints)


def _features(settings: AdaptSettings, trained: "LoadedRun") -> _Samples:
    if isinstance(trained.config.method, HeadMethod) and settings.steps:
        raise ConfigError(f"{trained.name} is a head that is fitted without inner steps; leave --steps out")
    data = trained.config.data
    assert isinstance(data, EmbeddingsData)
    made = read_embeddings(settings.data, class_column=data.class_column, columns=data.columns)
    data.check_same(made, shown(settings.data))
    support, labels = support_of(made, settings.shots, shown(settings.data))
    each = dict(zip(labels, torch.bincount(support[1]).tolist(), strict=True))
    words = f"{len(labels)} classes ({', '.join(map(shown, labels))}) from {len(support[1])} embeddings"
    unit = isinstance(trained.config.method, CentroidMethod | NearestSampleMethod) and trained.config.method.unit
    hints = ("the probabilities of this head are nearly equal, as features have length 1: read which is first",) * unit
    return _Samples(support, {"input": dict(trained.input), "labels": labels, "support": each}, words, hints)


def _points(settings: AdaptSettings, trained: "LoadedRun") -> _Samples:
    if trained.input.get("kind") != "points" or trained.input["outputs"] != 1:
        raise ConfigError(
            f"this command knows images and points with one output, the run takes {trained.input}; call adapt in Python"
        )
    points = read_named_points(settings.data, inputs=trained.input["inputs"])
    x, y = points.x, points.y
    if settings.shots is not None:
        if len(x) < settings.shots:
            found = f"{shown(settings.data)} has {len(x)} of the {settings.shots} points asked for"
            raise DataError(f"{found}; add {settings.shots - len(x)}")
        x, y = x[: settings.shots], y[: settings.shots]
    few = len(x) < (trained.shots or 1)
    hints = (f"the run was trained for {trained.shots} points, these are fewer",) if few else ()
    recipe = {**trained.input, "columns": list(points.columns), "target": points.target}
    return _Samples((x, y), {"input": recipe, "support": len(x)}, f"{len(x)} points", hints)


def _table(settings: AdaptSettings, trained: "LoadedRun") -> _Samples:
    data = trained.config.data
    assert isinstance(data, TableData)
    preparation = data.preparation
    rows = read_rows(settings.data, settings.encoding, usual=data.encoding).filled()
    told: list[str] = []
    support = read_support(rows, preparation, settings.shots, settings.decimal, told.append)
    count = len(support[1])
    recipe = {**trained.input, "encoding": data.encoding, "preparation": preparation.to_plain()}
    details: dict[str, Any] = {"input": recipe, "support": count}
    if preparation.labels:
        details["labels"] = list(preparation.labels)
    if data.known:  # it answers with the labels of these rows alone
        present, numbers = torch.unique(support[1], return_inverse=True)
        support, details["labels"] = (support[0], numbers), [preparation.labels[int(i)] for i in present]
        lacking = [shown(label) for label in preparation.labels if label not in details["labels"]]
        if len(present) < 2:
            raise DataError(
                f"{shown(settings.data)} has rows of the label {shown(details['labels'][0])} alone, and this run "
                "compares with the rows that it is given; add some of another label"
            )
        told += [f"no row has the label {', '.join(lacking)}, which is never the answer then"] if lacking else []
    few = count < trained.shots
    hints = (f"the run was trained for {trained.shots} rows, these are fewer",) if few else ()
    unusual = Counter(note for notes in row_notes(preparation, rows, preparation.settled(rows, settings.decimal))
                      for note in notes)  # fmt: skip
    told += [f"{note}{f' ({times} rows)' if times > 1 else ''}" for note, times in unusual.most_common(MOST_NOTES)]
    told += [f"and {len(unusual) - MOST_NOTES} more such notes"] if len(unusual) > MOST_NOTES else []
    hints = (*rows.notes, *told, *hints)
    words = f"{count} row{'s' * (count != 1)} of {shown(settings.data)}"
    return _Samples(support, details, words, hints, scale=preparation.std)


@torch.no_grad()
def _achieved(predictor: Predictor, support: tuple[Tensor, Tensor], samples: _Samples) -> str:
    """Say how well the support set itself is fitted, its statistics being those of the inner loop."""
    x, y = support
    seen = predictor if predictor.norm in ("running", "per_step") else Predictor(predictor.model, "transductive")
    output = seen(x)
    if "labels" in samples.details:
        return f"{int((output.argmax(-1) == y).sum())} of {len(y)} right"
    return f"root mean squared error {samples.scale * float((output - y).square().mean().sqrt()):.4g}"
