"""A worker process, seen from the measuring side."""

import json
import os
import queue
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, BinaryIO

from variants import HERE, Variant, python_of

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


_LOOK = 0.5  # seconds between looks at the memory
RESERVE_MB = 1000.0


def available_mb() -> float | None:
    """Return how much memory the machine has left, in MiB; None where the system does not say."""
    info = Path("/proc/meminfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("MemAvailable:")), None)


class WorkerError(Exception):
    """A worker failed; the message says how."""


class Worker:
    """Start one implementation, and ask it one thing at a time."""

    def __init__(self, variant: Variant, peers: Path, threads: int, patience: float = 900.0) -> None:
        self.patience = patience
        environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), "JAX_PLATFORMS": "cpu"}
        environment["PYTHONPATH"] = str(HERE.parents[1] / "src")
        cores = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else []
        self.log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(python_of(variant.peer, peers)), str(HERE / "workers" / variant.file), *variant.arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
            text=True,
        )
        score = Path(f"/proc/{self.process.pid}/oom_score_adj")
        if score.exists():  # where memory runs out all the same, let it be this process that ends
            score.write_text("1000")
        if cores:  # XLA takes as many threads as there are cores that it may use
            os.sched_setaffinity(self.process.pid, cores)
        self.answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.answers.put(line)
        self.answers.put("")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Return the worker's answer.

        Raises:
            WorkerError: if it reports a failure, ends, takes longer than `patience` seconds or too much memory.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self._wait()
        except OSError:
            line = ""
        if not line:
            raise WorkerError(f"ended with exit code {self.process.wait()}: {self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _wait(self) -> str:
        """Return the next line; end a worker that takes too long, or that takes the machine's last memory."""
        for _ in range(round(self.patience / _LOOK)):
            try:
                return self.answers.get(timeout=_LOOK)
            except queue.Empty:
                free = available_mb()
            if free is not None and free < RESERVE_MB:
                self.close()
                raise WorkerError(f"stopped when only {free:.0f} MB of the machine's memory were left")
        self.close()
        raise WorkerError(f"no answer within {self.patience:.0f} s")

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it printed nothing"

    def close(self) -> None:
        """End the process."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()
