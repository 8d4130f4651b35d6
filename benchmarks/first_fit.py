"""Measure how long the page waits for a fit: a real server with one thread that computes, asked as the page asks it.

    taskset -c 0 python benchmarks/first_fit.py --page   # benchmarks/results/first_fit.json, and docs/fit.md

Warm, as `/readyz` says; one client. The time is until the line of the step at which the page stops to look (two of a
photograph, three of a sound), and until the last line.
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fastadapt.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULT, PAGE = ROOT / "benchmarks" / "results" / "first_fit.json", ROOT / "docs" / "fit.md"
BEGIN, END = "<!-- first fit -->", "<!-- /first fit -->"
TIMES = 5
HEADLINES = {"photo": 2, "sound": 3}


def ready(port: int) -> None:
    """Wait until the server has tried its first fits."""
    while True:
        try:
            asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            asked.request("GET", "/readyz")
            if asked.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)


def fitted(port: int, kind: str) -> tuple[float, float]:
    """Return the seconds until the step that is looked at, and until the end."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    since, first = time.perf_counter(), 0.0
    asked.request("POST", "/api/fit", json.dumps({"example": kind}), {"Content-Type": "application/json"})
    for line in asked.getresponse():
        if json.loads(line).get("step") == HEADLINES[kind]:
            first = time.perf_counter() - since
    return first, time.perf_counter() - since


def measure(port: int) -> dict:
    """Serve on one thread, ask, and return what was found."""
    words = [sys.executable, "-m", "fastadapt.cli", "serve", "drawing", "--port", str(port), "--workers", "1"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        ready(port)
        rows = {kind: [fitted(port, kind) for _ in range(TIMES)] for kind in HEADLINES}
    finally:
        server.terminate()
        server.wait(20)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "machine": platform.machine(),
        "cores": cores,
        "times": TIMES,
        **{
            kind: {
                "step looked at": HEADLINES[kind],
                "seconds until it": [round(first, 3) for first, _ in found],
                "seconds in all": [round(whole, 3) for _, whole in found],
            }
            for kind, found in rows.items()
        },
    }


def page(record: dict) -> str:
    """Return docs/fit.md with the figures of a record."""
    said = []
    for kind, steps in (("photo", 20), ("sound", 10)):
        row = record[kind]
        middle, worst = (choose(row["seconds until it"]) for choose in (statistics.median, max))
        whole = statistics.median(row["seconds in all"])
        what = "64x64 pixels" if kind == "photo" else "1.5 s"
        said.append(
            f"both fits of a {kind} ({what}) are there after {row['step looked at']} steps in {1000 * middle:.0f} ms "
            f"({1000 * worst:.0f} at worst), after all {steps} in {whole:.1f} s"
        )
    told = (
        f"`python benchmarks/first_fit.py` on {record['cores']} {record['machine']} core"
        f"{'s' * (record['cores'] > 1)}, {record['times']} times, server and all: {'; '.join(said)}. {record['note']}"
    ).rstrip()
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{told}\n{END}{after}"


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8799)
    parser.add_argument("--note", default="", help="what a reader has to know of the machine meanwhile")
    parser.add_argument("--page", action="store_true", help="write the figures into docs/fit.md as well")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    record = {**measure(options.port), "note": options.note}
    write_text(options.out, json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))
    if options.page:
        write_text(PAGE, page(record))


if __name__ == "__main__":
    main()
