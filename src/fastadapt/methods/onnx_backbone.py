"""A backbone in an ONNX file, run by onnxruntime: features of a network that exists in no other form."""

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, DataError, MissingExtraError, TaskError

KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
"""The types of samples that such a file may take."""


class OnnxBackbone(nn.Module):
    """Answer with an output of an ONNX file, as the backbone of a head on frozen features.

    It runs on the CPU and has no parameters, so that no gradient reaches it or passes through it. Samples are given to
    the file as they are: scale and normalise them as its authors did. A file that takes a fixed number of samples is
    given as many at a time. The contents of the file are remembered: a head that was fitted to one file refuses to
    answer by another. Needs `pip install 'fastadapt[export]'`.

    Args:
        path: the file, which has one input `[n, ...]` of numbers in floating point.
        output: the name of the output that is taken; None takes the first.

    Raises:
        MissingExtraError: if onnxruntime is not installed.
        DataError: if the file can't be read.
        ConfigError: if it has no such output, several inputs, or one of another type.
    """

    def __init__(self, path: str | Path, output: str | None = None) -> None:
        super().__init__()
        self.path = str(Path(path).expanduser().resolve())
        session, content = _opened(self.path)
        inputs, outputs = session.get_inputs(), [each.name for each in session.get_outputs()]
        if len(inputs) != 1 or inputs[0].type not in KINDS:
            found = ", ".join(f"{each.name} of {each.type}" for each in inputs)
            raise ConfigError(
                f"{path} takes {found}, and a backbone takes one input of floating point; export it with samples alone"
            )
        if output is not None and output not in outputs:
            raise ConfigError(f"{path} has no output {output!r}, only {', '.join(outputs)}")
        self.output = outputs[0] if output is None else output
        self.content: Tensor
        self.register_buffer("content", torch.tensor(list(content), dtype=torch.uint8))

    @property
    def sides(self) -> list[Any]:
        """The shape of one sample; what is no number is open."""
        return list(_opened(self.path)[0].get_inputs()[0].shape[1:])

    @property
    def digest(self) -> str:
        """The SHA-256 of the file, in hexadecimal."""
        return bytes(self.content.tolist()).hex()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output for samples `[n, ...]`, `[n, ...]`, on the device and of the type of `x`.

        Raises:
            TaskError: for samples of another shape than the file takes.
            DataError: if the file is gone, or is another than the one that a head was fitted to.
        """
        session, content = _opened(self.path)
        if bytes(self.content.tolist()) != content:
            raise DataError(f"{self.path} is another file than the one that this head was fitted to; adapt again")
        wanted = session.get_inputs()[0]
        sides = wanted.shape[1:]
        fits = len(sides) == x.dim() - 1 and all(
            not isinstance(side, int) or side == own for side, own in zip(sides, x.shape[1:], strict=False)
        )
        if not fits:
            raise TaskError(
                f"{self.path} takes samples of shape {_shown(sides)}, and these are {tuple(x.shape[1:])}; resize them"
            )
        rows = x.detach().cpu().numpy().astype(KINDS[wanted.type])
        at_once = wanted.shape[0] if isinstance(wanted.shape[0], int) else len(rows)
        found = [self._run(session, wanted.name, rows[i : i + at_once], at_once) for i in range(0, len(rows), at_once)]
        return torch.from_numpy(np.concatenate(found)).to(x)

    def _run(self, session: Any, name: str, rows: Any, at_once: int) -> Any:
        filled = np.concatenate([rows, np.repeat(rows[-1:], at_once - len(rows), 0)])  # as many as the file takes
        (answer,) = session.run([self.output], {name: filled})
        if answer.ndim == 0 or len(answer) != at_once:
            raise TaskError(
                f"output {self.output!r} of {self.path} has shape {answer.shape} for {at_once} samples; name one that "
                "has a row for each"
            )
        return answer[: len(rows)]


def _shown(sides: list[Any]) -> str:
    return f"({', '.join(str(side) if isinstance(side, int) else 'any' for side in sides)})"


def _opened(path: str) -> tuple[Any, bytes]:
    """Return what runs a file, and the digest of its contents; a file that was opened stays open until it changes."""
    try:
        changed = Path(path).stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise DataError(f"can't read {path}: {getattr(error, 'strerror', None) or error}; give an ONNX file") from error
    return _session(path, changed)


@lru_cache(maxsize=4)
def _session(path: str, changed: int) -> tuple[Any, bytes]:
    try:
        import onnxruntime  # type: ignore[import-not-found]
    except ImportError as error:
        raise MissingExtraError("a backbone in ONNX needs onnxruntime: pip install 'fastadapt[export]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        content = hashlib.sha256(Path(path).read_bytes()).digest()
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]), content
    except Exception as error:  # onnxruntime has classes of its own for each way in which a file is no ONNX
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is no ONNX file that onnxruntime runs: {first}") from error
