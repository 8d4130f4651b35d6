"""Measure what docs/reliability.md promises of training, and count the cases of what tests promise of the service.

    python benchmarks/promises.py [--only writes stops ...] [--out benchmarks/results/reliability.json]

A part replaces its own figures in OUT and leaves the others. All of it takes a quarter of an hour on a free core.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import fastadapt as fa  # noqa: E402
from fastadapt.data.sinusoid import Sinusoid  # noqa: E402

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


def writes(place: Path) -> dict[str, Any]:
    """Kill a run before each of its writes and resume it: how many end with the bits of one that was not killed."""
    from reliability.killed import count_and_whole, outcome
    from reliability.short_run import train

    count, whole = count_and_whole(train, place / "whole")
    wrong = [found for b in range(1, count + 1) if (found := outcome(train, place / str(b), b, whole))]
    return {"writes": count, "same bits": count - len(wrong), "wrong": wrong}


def children() -> float:
    """Return the processor's seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stops(place: Path) -> dict[str, Any]:
    """Send a signal to a training: the seconds until it has ended, and the steps that its last checkpoint lacks."""
    found: dict[str, Any] = {}
    for name in ("SIGTERM", "SIGINT"):
        run = place / name
        words = ["train", "maml-sinusoid", "--run", str(run), "--training.steps", "100000", "--threads", "1", "--quiet"]
        words += ["--training.validate-every", "0", "--training.checkpoint-every", "20"]
        running = subprocess.Popen([sys.executable, "-m", "fastadapt", *words], env=ENVIRONMENT, stdout=subprocess.PIPE)
        while not list(run.glob("checkpoints/step-*")):
            time.sleep(0.02)
        since, spent = time.monotonic(), children() + _spent(running.pid)
        running.send_signal(getattr(signal, name))
        out, _ = running.communicate(timeout=600)
        told = int(out.decode().split("stopped at step ")[1].split(";")[0])
        newest = max(int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*"))
        found[name] = {
            "seconds": time.monotonic() - since,
            "processor seconds": children() - spent,
            "exit code": running.returncode,
            "steps lost": told - newest,
        }
    return found


def seeds(place: Path) -> dict[str, Any]:
    """Train three times from each of two seeds: the SHA-256 of the weights."""

    def digest(seed: int) -> str:
        torch.manual_seed(seed)
        learner = fa.MAML(fa.MLP(1, (40, 40), 1), rule=fa.SGD(0.01))
        fa.meta_train(learner, Sinusoid(), fa.Training(steps=50, meta_batch=4, seed=seed), quiet=True)
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in learner.parameters())).hexdigest()

    return {str(seed): sorted({digest(seed) for _ in range(3)}) for seed in (0, 1)}


def finite(place: Path) -> dict[str, Any]:
    """Give every third task a value that is not finite: what is skipped, and what became of the weights."""

    def sample(rng: Any) -> Any:
        task = Sinusoid().sample(rng)
        if rng.random() < 1 / 3:
            task.support[1][0] = math.nan
        return task

    learner = fa.MAML(fa.MLP(1, (40, 40), 1), rule=fa.SGD(0.01))
    training = fa.Training(steps=300, meta_batch=1, log_every=1000)
    with contextlib.redirect_stderr(io.StringIO()):
        trained = fa.meta_train(learner, sample, training, quiet=True)
    good = all(bool(p.isfinite().all()) for p in learner.parameters())
    return {"steps": trained.step, "skipped": trained.skipped, "weights are finite": good}


def images(place: Path) -> dict[str, Any]:
    """Check a folder of every kind of bad file, and one of a thousand good ones."""
    from drawn_folder import FILES, make_folder, spoil
    from fastadapt.cli import main

    def check(folder: Path) -> tuple[Any, float]:
        out, since = io.StringIO(), time.process_time()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main(["check", str(folder), "--json"])
        return json.loads(out.getvalue()), time.process_time() - since

    spoiled, good = make_folder(place / "spoiled"), make_folder(place / "good", 20, 50, side=105)
    spoil(spoiled)
    facts, _ = check(spoiled)
    _, seconds = check(good)
    return {"bad files of": len(FILES), "problems": len(facts["problems"]), "processor seconds of 1,000 files": seconds}


def memory(place: Path) -> dict[str, Any]:
    """Take 10,000 outer steps, and ten runs in one process: the growth of resident memory."""
    from reliability.test_memory_slope import resident, trained

    found: dict[str, Any] = {}
    for route in ("loop", "vmap"):
        seen: list[float] = []
        learner = fa.MAML(fa.MLP(1, (40, 40), 1), rule=fa.SGD(0.01), steps=2, route=route)
        at: Any = learner
        at.at_step = lambda step, seen=seen: seen.append(resident()) if step % 1000 == 0 else None
        fa.meta_train(learner, Sinusoid(), fa.Training(steps=10_000, meta_batch=4, log_every=1000), quiet=True)
        found[f"MB in 1,000 steps, {route}"] = (seen[-1] - seen[2]) / (len(seen) - 3)
    trained(50, "auto")
    trained(50, "auto")
    before = resident()
    for _ in range(10):
        trained(50, "auto")
    return {**found, "MB in ten runs": resident() - before}


def disk(place: Path) -> dict[str, Any]:
    """Fill a file system of 3 MB, and mount one read-only."""
    return cases(place, "tests/reliability/test_full_disk.py")


def split(place: Path) -> dict[str, Any]:
    """Ask for more than a folder has, and give one image to two parts."""
    return cases(place, "tests/data/test_folder_split.py", "tests/data/test_folder_tasks.py")


def service(place: Path) -> dict[str, Any]:
    """Count what is refused of a client, and how many bodies nobody thought of were sent."""
    return {
        "weights": cases(place, "tests/runs/test_predictor_file.py"),
        "guard": cases(place, "tests/serve/test_guard.py"),
        "fuzz": cases(place, "tests/serve/test_fuzz.py"),
    }


def cases(place: Path, *files: str) -> dict[str, int]:
    """Run test files, and return how many of their cases passed, failed and were left out."""
    report = place / "report.xml"
    words = ["-m", "pytest", "-q", "-m", "not slow", f"--junitxml={report}", *files]
    subprocess.run([sys.executable, *words], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=False)
    suite = ET.parse(report).getroot()[0].attrib
    wrong, skipped = int(suite["failures"]) + int(suite["errors"]), int(suite["skipped"])
    return {"passed": int(suite["tests"]) - wrong - skipped, "failed": wrong, "left out": skipped}


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    part.__name__: part for part in (stops, seeds, finite, images, disk, split, service, memory, writes)
}


def main() -> None:
    """Measure the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "reliability.json")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.only:
        found = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.exists() else {}
        with tempfile.TemporaryDirectory() as place:
            found[name] = PARTS[name](Path(place))
        found["command"] = "python benchmarks/promises.py"
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(name, found[name])


if __name__ == "__main__":
    main()
