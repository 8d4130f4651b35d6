"""What a user can take away: the adapted model, the same as ONNX, the lines of Python that use it, the task itself."""

import importlib.util
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from fastadapt.predictor import Predictor
from fastadapt.predictor_file import save_predictor
from fastadapt.serve.archive import write_archive
from fastadapt.serve.problems import Problem
from fastadapt.serve.samples import as_png
from fastadapt.serve.served import ServedModel
from fastadapt.serve.store import Adapted, StoredTask

Format = Literal["model", "onnx", "snippet", "zip"]
FOLDER = "adapted"
_NEEDED = ("onnx", "onnxscript")
_ONNX_SECONDS = 120

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


def export(model: ServedModel, task: StoredTask, kind: Format, method: str) -> Export:
    """Return what was asked for.

    Raises:
        Problem: 409 if the task was not adapted by that method; 501 if what ONNX needs is not installed; 422 if there
            are no images to pack.
    """
    stem = f"fastadapt-{model.name}-{method}"
    if kind == "zip":
        return Export(f"fastadapt-{model.name}-task.zip", "application/zip", task_archive(model, task))
    adapted = task.adapted.get(method)
    if adapted is None:
        raise not_adapted(method)
    if kind == "snippet":
        return Export(f"{stem}.py", "text/x-python; charset=utf-8", snippet(model, adapted, method, f"{stem}.zip"))
    with tempfile.TemporaryDirectory(prefix="fastadapt-") as place:
        folder = save_predictor(_described(model, task, adapted, method), Path(place) / FOLDER)
        if kind == "model":
            members = [(f"{FOLDER}/{path.name}", path.read_bytes()) for path in sorted(folder.iterdir())]
            return Export(f"{stem}.zip", "application/zip", write_archive(members))
        return Export(f"{stem}.onnx", "application/octet-stream", _onnx(folder))


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
    if model.recipe is not None:
        imports = "import torch\nfrom fastadapt.data.images import ImageRecipe\n"
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
    details: dict[str, Any] = {"input": taken, "net": run.net, "run": model.name, "method": method, "steps": steps}
    if task.classes is None:
        return {**details, "support": task.shots[0]}
    return {**details, "labels": task.classes, "support": dict(zip(task.classes, task.shots, strict=True))}


def _described(model: ServedModel, task: StoredTask, adapted: Adapted, method: str) -> Predictor:
    predictor = adapted.predictor
    details = {**details_of(model, task, method, adapted.steps), "norm": predictor.norm}
    moments = [
        (getattr(predictor, f"support_mean_{i}"), getattr(predictor, f"support_var_{i}"))
        for i in range(predictor.calls)
    ]
    return Predictor(predictor.model, predictor.norm, moments, predictor.beside, details).eval()


def _onnx(folder: Path) -> bytes:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise Problem(
            501,
            "extra_missing",
            f"an ONNX export needs {' and '.join(missing)} on the server: pip install 'fastadapt[export]'",
            "format",
        )
    file = folder.parent / "model.onnx"
    command = [sys.executable, "-m", "fastadapt.serve.to_onnx", str(folder), str(file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ONNX_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise Problem(413, "too_slow", f"the export took more than {_ONNX_SECONDS} seconds", "format") from None
    if done.returncode != 0 or not file.is_file():
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Problem(422, "not_exportable", f"this model can't be written as ONNX ({last[:200]})", "format")
    return file.read_bytes()
