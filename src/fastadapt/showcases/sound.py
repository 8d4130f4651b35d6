"""A sound of any length, rebuilt window by window, and written where it can be listened to."""

import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fastadapt.compare.by_step import traced
from fastadapt.data.fields.fields import Fields
from fastadapt.report.style import save_picture
from fastadapt.rules.rules import Rule
from fastadapt.showcases.voices import LOUDNESS, RATE, WINDOW

SILENCE = 1e-4  # root mean square below which a window stays silent


def rebuilt(sound: np.ndarray, net: nn.Module, rule: Rule, steps: int, loss: Any, device: torch.device) -> np.ndarray:
    """Return a sound whose windows of 1,024 samples were each fitted in some steps; what is left at its end is cut.

    Args:
        sound: `[n]`.
        net: where each window begins.
        rule: that steps.
        steps: of each window.
        loss: that is descended.
        device: where it is computed.
    """
    pieces = sound[: len(sound) // WINDOW * WINDOW].reshape(-1, WINDOW)
    power = np.sqrt(np.mean(pieces**2, axis=1, keepdims=True))
    scale = np.where(power > SILENCE, LOUDNESS / np.maximum(power, SILENCE), 0)
    tasks = Fields((pieces * scale)[..., None].astype(np.float32), points=None, query="same")
    trace = traced(net, rule, tasks.whole(range(len(tasks))).to(device), (steps,), loss)
    assert trace.outputs is not None
    fitted = np.stack([output.reshape(WINDOW).cpu().numpy() for output in trace.outputs])
    return np.where(scale > 0, fitted / np.maximum(scale, 1e-9), 0).reshape(-1)


def write_wav(file: Path, sound: np.ndarray) -> Path:
    """Write a sound, values -1..1 at 11,025 samples a second, with 16 bits a sample.

    Raises:
        CheckpointError: if the file can't be written.
    """
    content = io.BytesIO()
    with wave.open(content, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return save_picture(content.getvalue(), file)
