"""Measure the outer step against other libraries: seconds, memory, and whether the gradient is right.

    python benchmarks/speed/run.py [--workloads main] [--peers fastadapt plain jax] [--threads 2]

Every implementation is a process of its own with the same tasks and weights. They take turns, one at a time, for
several rounds; a ratio is the median of the rounds' ratios. A gradient that is wrong is reported and not timed. The
figures go to OUT/speed.json after each workload, and replace there only the workloads that were measured.
"""

import argparse
import datetime
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]

import machine  # noqa: E402
import table  # noqa: E402
from measure import Settings, measure  # noqa: E402
from variants import PEERS, default_folder, install_notes  # noqa: E402
from worker import WorkerError  # noqa: E402
from workloads import chosen  # noqa: E402


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["all"], help="names, groups, main, sweeps or all")
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument("--peers-dir", type=Path, default=default_folder(), help="where install_peers.py put them")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=7, help="0 compares the gradients and times nothing")
    parser.add_argument("--minutes", type=float, help="stop repeating a workload after this; default: its own limit")
    parser.add_argument("--learner", type=json.loads, default={}, help="more arguments of our learner, as JSON")
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "speed")
    return parser.parse_args(words)


def command(words: list[str]) -> str:
    """Return the command for the record, without folders: they are one machine's own, and change no figure."""
    folders = ("--out", "--peers-dir")
    kept = [w for i, w in enumerate(words) if w not in folders and (i == 0 or words[i - 1] not in folders)]
    return shlex.join(["python", "benchmarks/speed/run.py", *kept])


def save(path: Path, run: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    """Put one workload into the result file, and drop the runs that no workload is left of."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"runs": {}, "workloads": {}}
    content["workloads"][name] = {"run": run["date"], **result}
    content["runs"][run["date"]] = run
    used = {w["run"] for w in content["workloads"].values()}
    content["runs"] = {date: facts for date, facts in sorted(content["runs"].items()) if date in used}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def main(words: list[str] | None = None) -> None:
    """Measure what is asked for, print a table of each and store it."""
    options = parse(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are ended too
    workloads = chosen(options.workloads)
    run = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(sys.argv[1:] if words is None else words),
        "threads": options.threads,
        "learner": options.learner,
        "machine": machine.facts(options.threads),
        "peers": {peer: install_notes(peer, options.peers_dir) for peer in options.peers},
    }
    settings = Settings(
        tuple(options.peers),
        options.peers_dir,
        options.threads,
        run["machine"]["GEMM GFLOP/s by threads"][str(options.threads)],
        options.rounds,
        options.minutes,
        options.learner,
    )
    print(f"{run['machine']}", flush=True)
    for name, workload in workloads.items():
        reason = workload.missing()
        if reason:
            print(f"{name}: skipped, {reason}\n", flush=True)
            continue
        try:
            result = measure(workload, settings)
        except WorkerError as error:
            print(f"{name}: not measured, plain autograd in float64 {error}\n", flush=True)
            continue
        save(options.out / "speed.json", run, name, result)
        print("\n".join([f"[{name}]", *table.lines(result), ""]), flush=True)


if __name__ == "__main__":
    main()
