"""One JSON file for each published run: the trainings that were made here, by seed, and on what."""

import datetime
import json
import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fastadapt.atomic import write_text
from fastadapt.errors import DataError
from fastadapt.published.experiment import Experiment
from fastadapt.version import __version__

# options that name folders of one machine and change no number
_FOLDERS = ("--data", "--runs", "--out")


def save_result(
    folder: Path, experiment: Experiment, record: dict[str, Any], *, words: Sequence[str], device: torch.device
) -> Path:
    """Put the result of one training into the experiment's file, in place of an earlier one of the same seed.

    Results of another version of the experiment are dropped: their settings were not these.

    Args:
        folder: the folder of the result files.
        experiment: the published run.
        record: what `reproduce` returned.
        words: the command line after "fastadapt reproduce".
        device: where it ran.

    Returns:
        The file, `folder/NAME.json`.

    Raises:
        CheckpointError: if it can't be written.
        DataError: if the file there is damaged.
    """
    path = folder / f"{experiment.name}.json"
    old = read_result(path) if path.is_file() else {}
    runs = old.get("runs", []) if old.get("version") == experiment.version else []
    run = {**record, "command": command(words), "made": made(device)}
    kept = [other for other in runs if other["seed"] != record["seed"]]
    content = {
        "experiment": experiment.name,
        "version": experiment.version,
        "what": experiment.what,
        "source": experiment.source,
        "runs": sorted([*kept, run], key=lambda r: r["seed"]),
    }
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def read_result(path: Path) -> dict[str, Any]:
    """Return the content of a result file.

    Raises:
        DataError: if it is no such file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _ = content["experiment"], content["version"], [run["seed"] for run in content["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a result of fastadapt reproduce ({error}); remove it, or restore it") from None
    return content


def command(words: Sequence[str]) -> str:
    """Return the command for the record, without the folders of one machine.

    Example:
        >>> command(["maml-sinusoid", "--data", "somewhere", "--budget", "20m"])
        'fastadapt reproduce maml-sinusoid --budget 20m'
    """
    kept = []
    skip = False
    for word in words:
        if not skip and not any(word.startswith(f"{option}=") for option in _FOLDERS) and word not in _FOLDERS:
            kept.append(word)
        skip = word in _FOLDERS
    return shlex.join(["fastadapt", "reproduce", *kept])


def made(device: torch.device) -> dict[str, Any]:
    """Return when, by which code and on what hardware a result was made."""
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "fastadapt": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "hardware": f"{hardware}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    """Return the commit of the code, "+" added where files differ from it; None where it is not a checkout."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "src"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}{'+' if changed else ''}"
