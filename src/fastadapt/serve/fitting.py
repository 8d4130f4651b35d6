"""A picture or a sound of a client's, fitted from a learned start and from a random one, as lines of JSON."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastadapt.errors import DataError
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.samples import from_base64
from fastadapt.serve.schemas import FitAsked
from fastadapt.signals.example import example
from fastadapt.signals.fit import HEADLINES, METRICS, USUAL_STEPS, Both, fits
from fastadapt.signals.picture import SIDE, SMALLEST, as_png
from fastadapt.signals.signal import SHORTEST, Signal, photo_of, sound_of
from fastadapt.signals.starts import KINDS, Kind, load_pair
from fastadapt.signals.told import sentence

USUAL_SECONDS = 1.5
Check = Callable[[], None]


def describe(limits: Limits) -> list[dict[str, Any]]:
    """Return what `GET /api/models` says of signals."""
    return [_described(kind, limits) for kind in KINDS]


def _described(kind: Kind, limits: Limits) -> dict[str, Any]:
    record = load_pair(kind).record
    size = (
        {"side": {"default": min(SIDE, limits.side), "fewest": SMALLEST, "most": limits.side}}
        if kind == "photo"
        else {"seconds": {"default": min(USUAL_SECONDS, limits.sound_seconds), "most": limits.sound_seconds}}
    )
    return {
        "kind": kind,
        "metric": METRICS[kind],
        "steps": {"default": min(USUAL_STEPS[kind], limits.steps), "most": limits.steps},
        "headline": HEADLINES[kind],
        **size,
        "trained_on": record["trained on"],
        "measured": record["measured"],
    }


def kind_of(asked: FitAsked) -> Kind:
    """Return what kind of signal is asked for.

    Raises:
        Problem: 422 unless it is exactly one.
    """
    given = [name for name in ("photo", "sound", "example") if getattr(asked, name) is not None]
    if len(given) != 1:
        said = " and ".join(given) if given else "none of them"
        raise Problem(422, "bad_signal", f"send one of photo, sound and example, this has {said}", "photo")
    return asked.example or ("photo" if asked.photo is not None else "sound")


def check_limits(asked: FitAsked, limits: Limits) -> int:
    """Return how many steps are taken.

    Raises:
        Problem: 422 for more than is allowed.
    """
    kind = kind_of(asked)
    steps = min(USUAL_STEPS[kind], limits.steps) if asked.steps is None else asked.steps
    limits.check_count(steps, limits.steps, "steps", "steps")
    if asked.side is not None and not SMALLEST <= asked.side <= limits.side:
        told = f"side is {asked.side}; a photograph is fitted at {SMALLEST} to {limits.side} pixels a side here"
        raise Problem(422, "bad_value", told, "side")
    if asked.seconds is not None and not SHORTEST <= asked.seconds <= limits.sound_seconds:
        most = limits.sound_seconds
        told = f"seconds is {asked.seconds:g}; {SHORTEST:g} to {most:g} seconds of a sound are fitted here"
        raise Problem(422, "bad_value", told, "seconds")
    return steps


def signal_of(asked: FitAsked, limits: Limits) -> Signal:
    """Return what is to be fitted.

    Raises:
        Problem: 400 for what can't be read.
    """
    side = min(SIDE, limits.side) if asked.side is None else asked.side
    seconds = min(USUAL_SECONDS, limits.sound_seconds) if asked.seconds is None else asked.seconds
    if asked.example is not None:
        return example(asked.example, side, seconds)
    kind = kind_of(asked)
    what = "image" if kind == "photo" else "sound"
    content = (
        from_base64(asked.photo, kind, "the picture")
        if asked.photo is not None
        else from_base64(asked.sound or "", kind, "the sound", "a WAV")
    )
    if kind == "photo" and len(content) > limits.image_bytes:
        told = f"the picture is larger than {limits.image_bytes / 1e6:g} MB; make it smaller"
        raise Problem(413, "too_large", told, kind)
    try:
        if kind == "photo":
            return photo_of(content, "the picture", side, most_pixels=limits.pixels)
        return sound_of(content, "the sound", seconds)
    except DataError as error:
        raise Problem(400, f"bad_{what}", str(error), kind) from None


def lines_of(signal: Signal, steps: int, check: Check) -> Iterator[dict[str, Any]]:
    """Yield what is told: the signal as it is fitted, both fits after each step, and what they come to.

    Args:
        signal: what is fitted.
        steps: of both.
        check: is called between two steps of a network, and raises to stop.
    """
    true = signal.target / 255 if signal.kind == "photo" else signal.target
    yield {"signal": signal.facts(), "target": coded(signal, true)}
    learned, random = [], []
    for both in fits(signal, load_pair(signal.kind), steps, check):
        learned.append(both.learned.decibels)
        random.append(both.random.decibels)
        yield _told(signal, both)
    yield {"done": True, "sentence": sentence(signal.kind, learned, random)}


def _told(signal: Signal, both: Both) -> dict[str, Any]:
    def one(fit: Any) -> dict[str, Any]:
        return {"decibels": round(fit.decibels, 3), "values": coded(signal, fit.values)}

    return {"step": both.step, "learned": one(both.learned), "random": one(both.random)}


def coded(signal: Signal, values: np.ndarray) -> str:
    """Return a signal's values as base64: of a PNG, or of 16-bit samples, little end first, the loudest possible 1."""
    if signal.kind == "photo":
        content = as_png(values)
    else:
        content = (np.clip(values, -1, 1) * 32767).round().astype("<i2").tobytes()
    return base64.b64encode(content).decode()
