"""The parts of the measurement on a GPU, each a generator of rows; `python gpu.py --child` runs them."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gpu_work import GPU_WORKLOADS, WAYS, Plain, by_form, error, synchronize, timed, tiny, ways
from torch.func import vmap

from fastadapt.data.images.classes import ClassImages
from fastadapt.data.settings import OmniglotData
from fastadapt.engine.recorder import OnCuda
from fastadapt.layers.convolution import conv2d
from fastadapt.layers.forms import forced
from fastadapt.runs.presets import PRESETS
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

Row = dict[str, Any]
PRESET = "maml-omniglot-5w1s"
SHAPES = (
    *((5, 1, 64, 28, 32), (5, 64, 64, 14, 32), (5, 64, 64, 7, 32), (5, 64, 64, 3, 32)),
    *((75, 1, 64, 28, 32), (75, 64, 64, 14, 32), (25, 3, 32, 84, 4), (25, 32, 32, 42, 4), (75, 32, 32, 42, 4)),
)
"""Images of a task, channels, filters, side of the map, tasks."""


def _seconds(blocks: list[float]) -> Row:
    return {"seconds": statistics.median(blocks), "seconds min": min(blocks), "seconds max": max(blocks)}


def workload(name: str, device: torch.device, smoke: bool) -> Iterator[Row]:
    """Yield a row for each way: seconds of an outer step, peak memory, error of the gradient against float64."""
    work = tiny(GPU_WORKLOADS[name]) if smoke else GPU_WORKLOADS[name]
    reference: dict[str, torch.Tensor] = {}
    try:
        reference = Plain(work, device, torch.float64).gradient()
    except Exception as problem:
        yield {"way": "float64", "status": _failed(problem)}
    for way in ways(work):
        _clear(device)
        try:
            with by_form(way):
                made = WAYS[way](work, device)
                gradient = made.gradient()
                off = error(gradient, reference, work.ignored) if reference else None
                began = time.perf_counter()
                made.step()
                synchronize(device)
                first = time.perf_counter() - began
                row: Row = {"way": way, "status": "ok", "error": off, "first step s": first}
                row |= _seconds(timed(made.step, device, 0.05 if smoke else 0.6))
            if device.type == "cuda" and not way.startswith("JAX"):  # JAX has an allocator of its own
                row["peak_mb"] = torch.cuda.max_memory_reserved(device) / 2**20
            engine = getattr(getattr(made, "learner", None), "engine", None)
            if refused := [*getattr(getattr(engine, "graphs", None), "refused", {}).values()]:
                row["status"] = f"not a graph: {refused[0]}"
            yield row
        except ModuleNotFoundError as problem:
            yield {"way": way, "status": f"not installed: {problem.name}"}
        except Exception as problem:
            yield {"way": way, "status": _failed(problem)}
        made = None  # its memory is the next one's


def convolutions(device: torch.device, smoke: bool) -> Iterator[Row]:
    """Yield the seconds of each form of a convolution with filters of each task, and of its two gradients."""
    for images, channels, filters, side, tasks in SHAPES[:1] if smoke else SHAPES:
        x = torch.randn(tasks, images, channels, side, side, device=device)
        w = torch.randn(tasks, filters, channels, 3, 3, device=device)
        g = torch.randn(tasks, images, filters, side, side, device=device)
        shape = {"images": images, "channels": channels, "filters": filters, "side": side, "tasks": tasks}
        for form in ("one by one", "patches", "grouped"):
            _clear(device)
            convolve: Any = F.conv2d if form == "grouped" else conv2d

            def run(convolve: Any = convolve, x: Any = x, w: Any = w, g: Any = g) -> Any:
                def one(x: Any, w: Any, g: Any) -> Any:
                    y, back = torch.func.vjp(lambda x, w: convolve(x, w, padding=1), x, w)
                    return y, *back(g)

                return vmap(one)(x, w, g)

            try:
                with by_form("one by one") if form == "grouped" else forced(form):  # type: ignore[arg-type]
                    step = _replayed(run, device)
                    yield {
                        **shape,
                        "way": form,
                        "status": "ok",
                        **_seconds(timed(step, device, 0.02 if smoke else 0.3)),
                    }
            except Exception as problem:
                yield {**shape, "way": form, "status": _failed(problem)}


def _replayed(run: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Return `run`, as a graph where there are any: launches would hide what a kernel takes."""
    if device.type != "cuda":
        return run
    recorder = OnCuda(device)
    recorder.warm(run, strict=False)
    recorder.warm(run, strict=True)
    kept, replay = recorder.record(run)
    return lambda kept=kept: replay()


def train(device: torch.device, smoke: bool) -> Iterator[Row]:
    """Yield how many outer steps a training of the preset makes in a second, from its start, all of it counted."""
    config = PRESETS[PRESET][1]
    minutes = 0.02 if smoke else 1.0
    sources, data = _omniglot(config.data)
    learner: Any = config.build()
    settings = Training(**{**vars(config.training), "minutes": minutes})
    began = time.perf_counter()
    learner.to(device)
    trained = meta_train(
        learner, sources["train"], settings, validation=sources["val"], protocol=config.validation, quiet=True
    )
    synchronize(device)
    seconds = time.perf_counter() - began
    yield {
        **{"way": f"train {PRESET}", "status": "ok", "steps": trained.step, "training s": seconds, "data": data},
        **{"steps/s": trained.step / seconds, "skipped": trained.skipped},
    }


def _omniglot(settings: OmniglotData) -> tuple[dict[str, Any], str]:
    """Return the training and validation tasks, of noise in Omniglot's sizes where the data are not on this machine."""
    try:
        loaded = settings.load(download=False)
        return {part: settings.source(part, loaded) for part in ("train", "val")}, "Omniglot"
    except Exception:
        return {"train": _noise(1200, "train"), "val": _noise(100, "val")}, "noise in Omniglot's sizes"


def _noise(classes: int, part: str) -> ClassImages:
    rng = np.random.default_rng(classes)
    images = torch.from_numpy(rng.integers(0, 256, (classes * 20, 28, 28), dtype=np.uint8))
    names = tuple(f"{part} {c}" for c in range(classes))
    labels = np.arange(classes * 20) // 20
    return ClassImages(images, labels, names, 5, 1, 1, rotation="per_class", invert=True)


def _clear(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def _failed(problem: Exception) -> str:
    return f"failed: {type(problem).__name__}: {' '.join(str(problem).split())[:300]}"


def rows(part: str, device: torch.device, smoke: bool) -> Iterator[Row]:
    """Yield the rows of one part."""
    if part == "train":
        yield from train(device, smoke)
    elif part == "convolutions":
        yield from convolutions(device, smoke)
    else:
        yield from workload(part, device, smoke)
