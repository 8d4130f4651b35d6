"""Measure outer steps on one GPU: seconds, peak memory, error of the gradient against float64.

    python benchmarks/speed/gpu.py                           # all of it, in less than six minutes
    python benchmarks/speed/gpu.py --parts sinusoid-k1 train
    python benchmarks/speed/gpu.py --device cpu --smoke      # the whole path at tiny sizes, without a GPU

It needs torch and this repository; JAX takes part where it is installed. Every part runs in a second process under a
limit of time: one that fails or hangs is a line of the result and not its end. The figures go to OUT/gpu.json after
each part, and `python benchmarks/speed/report.py` puts them into docs/performance.md.
"""

import argparse
import datetime
import json
import os
import queue
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "workers"), str(HERE.parents[1] / "src")]

LIMITS = {
    "sinusoid-k1": 20,
    "omniglot-k1-q1-exact": 30,
    "train": 85,
    "omniglot-k5-q15-exact": 40,
    "mini-imagenet-k5": 30,
    "sinusoid-k5": 15,
    "omniglot-k1-q15-exact": 25,
    "omniglot-k5-q1-exact": 25,
    "transformer-k1": 20,
    "transformer-k5": 20,
    "transformer-k20": 30,
    "resnet12-k1": 25,
    "reptile-omniglot": 20,
    "convolutions": 25,
    "omniglot-k1-q1-first-order": 15,
    "omniglot-k5-q1-first-order": 15,
    "omniglot-k1-q15-first-order": 15,
    "omniglot-k5-q15-first-order": 20,
}
"""The parts, the more important ones first, and the seconds after which one is ended."""
STARTING = 40
"""Seconds that the second process has to start."""
ALL = 345
"""Seconds after which no further part is begun, and the one that runs is ended."""


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(LIMITS), choices=list(LIMITS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--seconds", type=float, default=ALL, help="end after so many")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "speed")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def child(options: argparse.Namespace) -> None:
    """Run parts, and print every row as it is known."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    import torch
    from gpu_parts import rows

    def tell(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    tell(
        machine={
            "device": name,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "python": sys.version.split()[0],
        }
    )
    for part in options.parts:
        tell(part=part)
        try:
            for row in rows(part, device, options.smoke):
                tell(row=row)
        except Exception as error:
            tell(row={"way": "all", "status": f"failed: {type(error).__name__}: {str(error)[:300]}"})
    tell(done=True)


class Child:
    """Hold the second process, and read what it says."""

    def __init__(self, options: argparse.Namespace, parts: list[str]) -> None:
        words = ["--child", "--device", options.device, *(["--smoke"] if options.smoke else []), "--parts", *parts]
        environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "PYTHONWARNINGS": "ignore"}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path[:3])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "gpu.py"), *words], stdout=subprocess.PIPE, text=True, env=environment
        )
        self.said: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.put(line)
        self.said.put("")

    def next(self, until: float) -> dict[str, Any] | None:
        """Return what it says next; None where it says nothing until then; `{}` at its end."""
        try:
            line = self.said.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            return None
        return json.loads(line) if line else {}

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


def measured(options: argparse.Namespace, content: dict[str, Any], write: Any) -> None:
    """Let the second process run the parts, and start another one where it has to be ended."""
    end = time.monotonic() + options.seconds
    left = list(options.parts)
    while left:
        if time.monotonic() > end:
            for part in left:
                content["parts"][part] = [{"way": "all", "status": f"not run: {options.seconds:.0f} s were over"}]
            write()
            return
        one, part = Child(options, left), ""
        until = time.monotonic() + STARTING + (LIMITS[left[0]])
        try:
            while True:
                said = one.next(min(until, end + 5))
                if said is None or not said:
                    why = "ended: it took too long" if said is None else "ended: its process did"
                    content["parts"].setdefault(part or left[0], []).append({"way": "all", "status": why})
                    left = left[1:]
                    break
                if "machine" in said:
                    content["machine"] = said["machine"]
                elif "part" in said:
                    left = left[left.index(said["part"]) :]
                    part = said["part"]
                    content["parts"][part] = []
                    until = time.monotonic() + LIMITS[part]
                elif "row" in said:
                    content["parts"][part].append(said["row"])
                    print(line(part, said["row"]), flush=True)
                    if "CUDA error" in said["row"]["status"]:  # nothing runs in that process any more
                        left = left[1:]
                        break
                else:
                    left = []
                    break
                write()
        finally:
            one.close()
            write()


def line(part: str, row: dict[str, Any]) -> str:
    """Return a row as a line of text."""
    shape = "".join(f" {key} {row[key]}" for key in ("images", "channels", "side") if key in row)
    start = f"{part + shape:<44}{row['way']:<26}"
    if "steps/s" in row:
        return f"{start}{row['steps/s']:.1f} steps/s of {row['data']}"
    if "seconds" not in row:
        return f"{start}{row['status']}"
    off = f"  error {row['error']:.1e}" if row.get("error") is not None else ""
    peak = f"  {row['peak_mb']:.0f} MB" if "peak_mb" in row else ""
    return f"{start}{1e3 * row['seconds']:9.3f} ms{off}{peak}"


def main(words: list[str] | None = None) -> int:
    """Measure, print and store."""
    options = parse(words)
    if options.child:
        child(options)
        return 0
    if options.device.startswith("cuda"):
        import torch

        if not torch.cuda.is_available():
            print("this measures a CUDA GPU and torch sees none; --device cpu --smoke runs the whole path without one")
            return 2
    given = sys.argv[1:] if words is None else words
    kept = [w for i, w in enumerate(given) if w != "--out" and (i == 0 or given[i - 1] != "--out")]
    content: dict[str, Any] = {
        "command": shlex.join(["python", "benchmarks/speed/gpu.py", *kept]),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "smoke": options.smoke,
        "machine": {},
        "parts": {},
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / ("gpu-smoke.json" if options.smoke else "gpu.json")

    def write() -> None:
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)

    measured(options, content, write)
    return 0


if __name__ == "__main__":
    sys.exit(main())
