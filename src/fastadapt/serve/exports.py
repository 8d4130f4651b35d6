"""What a user can take away: the adapted model, the same as ONNX, the lines of Python that use it, the task itself."""

import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fastadapt.predictor import Predictor
from fastadapt.runs.predictor_file import save_predictor
from fastadapt.serve.archive import write_archive
from fastadapt.serve.behind import RunBehind, head_alone
from fastadapt.serve.jobs import Job
from fastadapt.serve.problems import Problem, internal
from fastadapt.serve.samples import as_png
from fastadapt.serve.served import ServedModel
from fastadapt.serve.store import Adapted, StoredTask
from fastadapt.serve.to_onnx import NOT_EXPORTABLE

logger = logging.getLogger("fastadapt.serve")

Format = Literal["model", "onnx", "snippet", "zip"]
FOLDER = "adapted"
_NEEDED = ("onnx", "onnxscript")
_PREFIX = "fastadapt-export-"  # and the process that made it, so that another one knows what is left over
_LOOK = 0.05  # seconds between two looks at the process that exports

_SNIPPET = '''"""Use the model that was adapted by {method} in {steps} steps; unpack {file} beside this file."""

import fastadapt as fa
{imports}
predictor = fa.load_predictor("{folder}")
{read}
{answer}
'''


@dataclass(frozen=True)
class Export:
    """A file to hand out."""

    name: str
    kind: str
    content: bytes


def export(model: ServedModel, task: StoredTask, kind: Format, method: str, job: Job) -> Export:
    """Return what was asked for.

    Args:
        model: the served model.
        task: the task, adapted unless it is the task itself that is wanted.
        kind: what is wanted.
        method: by which method it was adapted.
        job: is asked now and then whether to stop.

    Raises:
        Problem: 409 if the task was not adapted by that method; 501 if what ONNX needs is not installed; 422 if there
            are no images to pack, or the model can't be written as ONNX.
    """
    stem = f"fastadapt-{model.name}-{method}"
    if kind == "zip":
        return Export(f"fastadapt-{model.name}-task.zip", "application/zip", task_archive(model, task))
    adapted = task.adapted.get(method)
    if adapted is None:
        raise not_adapted(method)
    if kind == "snippet":
        return Export(f"{stem}.py", "text/x-python; charset=utf-8", snippet(model, adapted, method, f"{stem}.zip"))
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as place:
        folder = save_predictor(_described(model, task, adapted, method), Path(place) / FOLDER)
        if kind == "model":
            members = [(f"{FOLDER}/{path.name}", path.read_bytes()) for path in sorted(folder.iterdir())]
            return Export(f"{stem}.zip", "application/zip", write_archive(members))
        return Export(f"{stem}.onnx", "application/octet-stream", _onnx(folder, job))


def not_adapted(method: str) -> Problem:
    """Return the answer for a model that there is not yet."""
    return Problem(409, "not_adapted", f"this task was not adapted by {method!a} yet; adapt it first", "method")


def task_archive(model: ServedModel, task: StoredTask) -> bytes:
    """Return the task's images as the model sees them, as a zip of `CLASS/N.png`.

    Uploaded again it is the same task, to the last bit.

    Raises:
        Problem: 422 if the task has no images.
    """
    if model.recipe is None or task.classes is None:
        raise Problem(422, "no_images", f"{model.name} takes numbers, so there are no images to pack", "format")
    x, y = task.support
    members = []
    for number, name in enumerate(task.classes):
        images = x[y == number]
        members += [(f"{name}/{i + 1}.png", as_png(image, model.recipe)) for i, image in enumerate(images)]
    return write_archive(members)


def snippet(model: ServedModel, adapted: Adapted, method: str, file: str) -> bytes:
    """Return a few lines of Python that answer with the exported model."""
    if isinstance(model.run, RunBehind):
        imports = "import torch\nfrom fastadapt.data.embeddings.reading import read_embeddings\n"
        read = (
            f"# as fastadapt embed writes them with {model.run.by}\n"
            'x = read_embeddings("queries.safetensors", classes=False).features'
        )
        answer = "with torch.no_grad():\n    print(predictor.labels, predictor(x).softmax(-1).tolist())"
    elif model.recipe is not None:
        imports = "import torch\nfrom fastadapt.data.images.images import ImageRecipe\n"
        read = 'image = ImageRecipe(**predictor.details["input"]).read("query.png")'
        answer = (
            "with torch.no_grad():\n    probabilities = predictor(image.unsqueeze(0)).softmax(-1)[0]\n"
            "print(dict(zip(predictor.labels, probabilities.tolist())))"
        )
    else:
        imports = "import torch\n"
        read = f"x = torch.zeros(1, {model.run.input['inputs']})"
        answer = "with torch.no_grad():\n    print(predictor(x).tolist())"
    text = _SNIPPET.format(
        method=method, steps=adapted.steps, file=file, folder=FOLDER, imports=imports, read=read, answer=answer
    )
    return text.encode()


def details_of(model: ServedModel, task: StoredTask, method: str, steps: int) -> dict[str, Any]:
    """Return what is noted in an exported predictor."""
    run = model.run_for(None if task.classes is None else len(task.classes), method)
    taken = asdict(model.recipe) if model.recipe is not None else dict(run.input)
    taken = dict(run.config.data.input) if isinstance(run, RunBehind) else taken
    details: dict[str, Any] = {"input": taken, "net": run.net, "run": model.name, "method": method, "steps": steps}
    details["base"] = {"step": run.step, "sha256": model.digest(method)}
    if task.classes is None:
        return {**details, "support": task.shots[0]}
    return {**details, "labels": task.classes, "support": dict(zip(task.classes, task.shots, strict=True))}


def _described(model: ServedModel, task: StoredTask, adapted: Adapted, method: str) -> Predictor:
    predictor, run = adapted.predictor, model.run_for(None if task.classes is None else len(task.classes), method)
    if isinstance(run, RunBehind):  # what is taken away is the head, for embeddings by the same backbone
        predictor = head_alone(predictor)
    details = {**details_of(model, task, method, adapted.steps), "norm": predictor.norm}
    # a network may be built around that of the run, and then says so itself
    details["net"] = getattr(predictor.model, "described", dict)(details["net"])
    moments = [
        (getattr(predictor, f"support_mean_{i}"), getattr(predictor, f"support_var_{i}"))
        for i in range(predictor.calls)
    ]
    return Predictor(predictor.model, predictor.norm, moments, predictor.beside, details).eval()


def _onnx(folder: Path, job: Job) -> bytes:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Problem(
            501,
            "extra_missing",
            f"an ONNX export needs {' and '.join(missing)} on the server: pip install 'fastadapt[export]'",
            "format",
        )
    file, said = folder.parent / "model.onnx", folder.parent / "said.txt"
    command = [sys.executable, "-m", "fastadapt.serve.to_onnx", str(folder), str(file)]
    with said.open("w") as words, subprocess.Popen(command, stdout=words, stderr=words) as process:
        try:
            while process.poll() is None:
                job.check()
                time.sleep(_LOOK)
        except BaseException:
            process.kill()
            raise
    told = said.read_text(encoding="utf-8", errors="replace").strip()
    if process.returncode == NOT_EXPORTABLE:
        last = (told.splitlines() or ["no reason given"])[-1]
        raise Problem(422, "not_exportable", f"this model can't be written as ONNX ({last[:200]})", "format")
    if process.returncode != 0 or not file.is_file():
        logger.error("an ONNX export ended with %s: %s", process.returncode, told)
        raise internal()
    return file.read_bytes()


def sweep_exports() -> None:
    """Remove what servers that were killed in the middle of an export have left in the temporary folder."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdecimal() and not _runs(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True
