"""Speech in many languages, made on the spot by espeak-ng from the Universal Declaration of Human Rights."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastadapt.data.files import shown
from fastadapt.data.udhr import udhr_archive
from fastadapt.errors import DataError

RATE = 11_025
"""Samples a second: every two of espeak-ng's 22,050 are averaged."""
WINDOW, HOP = 1024, 256
QUIETEST, LOUDNESS = 0.03, 0.3
"""Windows below the first are left out; the others get this root mean square."""
SPEAKERS = ("m3", "f2")
FIRST, LAST = 200, 420
"""Characters of the text that are read."""

LANGUAGES = {
    "train": {
        "af": "afr", "bg": "bul", "bn": "ben", "ca": "cat", "cs": "ces", "cy": "cym", "da": "dan", "de": "deu",
        "el": "ell_monotonic", "en-us": "eng", "es": "spa", "fa": "pes_1", "fi": "fin", "fr-fr": "fra", "gu": "guj",
        "hi": "hin", "hr": "hrv", "hy": "hye", "id": "ind", "it": "ita", "kn": "kan", "nb": "nob", "nl": "nld",
        "pl": "pol", "pt": "por_PT", "ro": "ron", "ru": "rus", "sv": "swe", "tr": "tur", "uk": "ukr",
    },
    "val": {"sl": "slv", "et": "est", "ur": "urd", "mr": "mar"},
    "test": {
        "eu": "eus", "is": "isl", "ga": "gle", "sw": "swh", "ka": "kat", "vi": "vie", "hu": "hun", "ta": "tam",
        "lv": "lav", "sq": "als",
    },
}  # fmt: skip
"""Voices of espeak-ng and the files of the texts that they read; a language is in one part alone."""


def spoken(language: str, text: str, speaker: str) -> np.ndarray:
    """Return a text as espeak-ng reads it, `[n]`, values -1..1 at 11,025 samples a second.

    Raises:
        DataError: if espeak-ng is missing, or fails.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise DataError(
            "espeak-ng, which reads the texts, is not installed; get it from your system's packages (apt-get install "
            "espeak-ng, brew install espeak-ng)"
        )
    words = [program, "-v", f"{language}+{speaker}", "--stdout"]
    done = subprocess.run(words, input=text.encode(), capture_output=True, timeout=60, check=False)
    begin = done.stdout.find(b"data") + 8  # the length in the header of a stream is none
    if done.returncode or begin < 8:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise DataError(
            f"espeak-ng can't read with the voice {language}+{speaker}: {reason[0] if reason else 'it gave no sound'}; "
            "version 1.51 is known to"
        )
    whole = np.frombuffer(done.stdout[begin : begin + (len(done.stdout) - begin) // 4 * 4], "<i2")
    return whole.reshape(-1, 2).mean(1).astype(np.float32) / 32768


def recordings(part: str, data: Path | None = None, most: int | None = None) -> dict[str, list[np.ndarray]]:
    """Return up to 8 seconds by each speaker in each language of a part.

    Args:
        part: "train", "val" or "test".
        data: where the texts are looked for.
        most: languages at most; None takes all.

    Raises:
        DataError: if texts or espeak-ng are missing.
    """
    archive = udhr_archive(data)
    found: dict[str, list[np.ndarray]] = {}
    try:
        with zipfile.ZipFile(archive) as texts:
            for voice, code in list(LANGUAGES[part].items())[:most]:
                text = " ".join(texts.read(f"udhr2/{code}.txt").decode("utf-8").split())[FIRST:LAST]
                found[voice] = [spoken(voice, text, speaker)[: 8 * RATE] for speaker in SPEAKERS]
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise DataError(f"{shown(archive)} can't be read: {error}; get it again") from error
    return found


def windows(sounds: dict[str, list[np.ndarray]], hop: int = HOP) -> Tensor:
    """Return what is loud enough, `[M, 1024, 1]`, equally loud, one window of each recording after another."""
    cut: list[list[np.ndarray]] = []
    for sound in (each for speakers in sounds.values() for each in speakers):
        pieces = [sound[i : i + WINDOW] for i in range(0, len(sound) - WINDOW + 1, hop)]
        power = [float(np.sqrt(np.mean(piece**2))) for piece in pieces]
        cut.append([piece * (LOUDNESS / p) for piece, p in zip(pieces, power, strict=True) if p > QUIETEST])
    order = [pieces[i] for i in range(max(map(len, cut), default=0)) for pieces in cut if i < len(pieces)]
    return torch.from_numpy(np.stack(order))[..., None]
