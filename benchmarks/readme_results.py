"""Write the results section of README.md from the committed result files.

    python benchmarks/readme_results.py

A test holds the section to the files, so no number there can be without one.
"""

import json
from pathlib import Path
from typing import Any

from fastadapt.published.comparison import rows, share
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.published.result_file import read_result

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
PUBLISHED = (
    "maml-sinusoid",
    "maml-sinusoid-k5",
    "pretrain-sinusoid",
    "multitask-mean-sinusoid",
    "maml-omniglot-5w1s",
    "maml-omniglot-5w5s",
    "maml-omniglot-noconv-5w1s",
    "reptile-omniglot-5w1s",
)
SPEED = ("sinusoid-k1", "sinusoid-k5", "omniglot-k1-q1-exact", "omniglot-k5-q15-exact", "mini-imagenet-k5")


def read(name: str) -> Any:
    """Return a result file."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def sinusoid() -> list[str]:
    """Return the table of `make demo`."""
    result = read("sinusoid.json")
    lines = [
        f"**Sine waves**, K = 10, mean squared error ± 95 % CI over 600 test tasks, "
        f"after {result['training']['steps']:,} outer steps "
        f"({result['seconds']:.0f} s for all three on 2 CPU cores). `make demo`:",
        "",
        "| | 0 steps | 1 step | 5 steps | 10 steps |",
        "|---|---|---|---|---|",
    ]
    for name, by_shots in result["results"].items():
        curve = by_shots["10"]
        last = len(curve["mean"]) - 1
        cells = [f"{curve['mean'][min(j, last)]:.3f} ± {curve['ci95'][min(j, last)]:.3f}" for j in (0, 1, 5, 10)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    rate = result["step sizes of fine-tuning"]["10"]
    note = (
        f"Pretraining is fine-tuned with the best of six step sizes on separate tasks ({rate}). The outer rate and the "
        "number of outer steps were chosen while looking at this same stream of test tasks."
    )
    return [*lines, "", note]


def published() -> list[str]:
    """Return a few rows of the page of reproduced results: those with a published number."""
    lines = [
        "**The papers' experiments**, run again under their protocols on two CPU cores with a limit of time: accuracy "
        "in percent or mean squared error, ± 95 % CI over the test tasks. All of it, with what differs and why, is in "
        "[docs/results.md](docs/results.md); `fastadapt reproduce NAME` repeats a row.",
        "",
        "| run | measured | ours | published | share of the published outer steps |",
        "|---|---|---|---|---|",
    ]
    for name in PUBLISHED:
        path = ROOT / "benchmarks" / "published" / "results" / f"{name}.json"
        if not path.is_file():
            continue
        for row in rows(EXPERIMENTS[name], read_result(path)["runs"]):
            if row.published is None:
                continue
            measured = f"{row.label}, {row.step} inner step{'s' * (row.step != 1)}"
            lines.append(
                f"| {EXPERIMENTS[name].what} | {measured} | {row.text()} | {row.published} | {share(row.fraction)} |"
            )
    return lines


def speed() -> list[str]:
    """Return a short table of `make speed`: a few workloads, each peer's ratio; nothing before it was measured."""
    if not (RESULTS / "speed" / "speed.json").is_file():
        return []
    content = read("speed/speed.json")
    names = ("fastadapt", "plain", "learn2learn", "higher", "torchopt", "jax")
    found = [w for name in SPEED if (w := content["workloads"].get(name))]
    threads = {content["runs"][w["run"]]["threads"] for w in found}
    lines = [
        "",
        "**An outer step** against other libraries, in turns on the same machine with "
        f"{' or '.join(map(str, sorted(threads)))} threads: our seconds, and how many times as long the others take. "
        "`make speed`, all of it in [docs/performance.md](docs/performance.md):",
        "",
        f"| workload | {' | '.join(names)} |",
        "|---" * (len(names) + 1) + "|",
    ]
    for workload in found:
        timed = [row for row in workload["rows"] if row.get("ratio")]
        cells = []
        for name in names:
            rows = [row for row in timed if row["peer"] == name]
            best = min(rows, key=lambda row: row["seconds"], default=None)
            cells.append(
                "-" if best is None else f"{best['seconds']:.3g} s" if name == "fastadapt" else f"{best['ratio']:.2f}x"
            )
        lines.append(f"| {workload['title']} | {' | '.join(cells)} |")
    return lines


def speedrun() -> list[str]:
    """Return the table of `make speedrun`, an entry a line; nothing before there is one."""
    if not (RESULTS / "speedrun.json").is_file():
        return []
    content = read("speedrun.json")
    lines = [
        "",
        f"**One number**: minutes from an empty folder with the data to {100 * content['bar']:.1f} % on the test "
        f"tasks of `{content['protocol']}`, {content['bar is']}; all from the start of the process counts, and it is "
        "tested only where validation says that it is there. `make speedrun` on any machine:",
        "",
        "| minutes | accuracy in percent | outer steps | hardware | what changed | date | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for entry in content["entries"]:
        minutes = f"{entry['minutes']:.1f}"
        accuracy = f"{100 * entry['accuracy']:.2f} ± {100 * entry['ci95']:.2f}" if "accuracy" in entry else "-"
        where = f", {entry['tasks']} tasks of {entry['measured on']}" if "accuracy" in entry else ""
        busy = f"load {entry['load before']:g} before it began" if entry["load before"] >= 0.5 else "idle before"
        cells = (
            f"**{minutes}**" if entry["reached"] else f"not reached in {minutes}",
            accuracy + where,
            f"{entry['steps']:,}",
            f"{entry['hardware']}, {entry['cores']} cores, {entry['threads']} threads, {busy}, torch {entry['torch']}",
            entry["what"],
            entry["date"],
            entry["commit"],
        )
        lines.append(f"| {' | '.join(str(cell or '-') for cell in cells)} |")
    return lines


def section() -> str:
    """Return the whole section, between its marks."""
    return "\n".join([BEGIN, *sinusoid(), "", *published(), *speed(), *speedrun(), END])


def main() -> None:
    """Put the section into README.md."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(before + section() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
