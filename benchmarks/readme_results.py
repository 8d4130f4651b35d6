"""Write the results section of README.md from the committed result files.

    python benchmarks/readme_results.py

A test holds the section to the files, so no number there can be without one.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
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


def omniglot() -> list[str]:
    """Return the table of the half-hour runs on real Omniglot."""
    lines = [
        "**Omniglot**, 5-way 1-shot, 600 tasks of the 423 test characters, "
        "at most 30 minutes of training on one CPU core:",
        "",
        "| method | accuracy ± 95 % CI | batch norm | outer steps | the paper, in full |",
        "|---|---|---|---|---|",
    ]
    rows = (
        ("MAML", "maml-omniglot-5w1s.json", "98.7 ± 0.4 (60,000 steps)"),
        ("Reptile", "reptile-omniglot-5w1s.json", "97.68 ± 0.04 (100,000 steps)"),
        ("Reptile", "reptile-omniglot-5w1s-one-query.json", "95.39 ± 0.09 (100,000 steps)"),
    )
    for name, file, paper in rows:
        if not (RESULTS / file).is_file():
            continue
        result = read(file)
        evaluation = result.get("evaluation", result)
        report = evaluation["protocol"]["report"]
        at = len(evaluation["mean"]) - 1 if report is None else report
        steps = result["steps"] if "steps" in result else read("reptile-omniglot-5w1s.json")["steps"]
        kind = "transductive" if evaluation["transductive"] else f"{evaluation['norm']}, not transductive"
        accuracy = f"{100 * evaluation['mean'][at]:.2f} ± {100 * evaluation['ci95'][at]:.2f} %"
        lines.append(f"| {name} | {accuracy} | {kind} | {steps:,} | {paper} |")
    note = (
        "The last column is quoted from Finn et al. 2017 and Nichol et al. 2018; these runs are a fraction of that "
        "training, and Reptile's inner rate was raised to 0.003 for it. Commands and curves are in the result files."
    )
    return [*lines, "", note]


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


def section() -> str:
    """Return the whole section, between its marks."""
    return "\n".join([BEGIN, *sinusoid(), "", *omniglot(), *speed(), END])


def main() -> None:
    """Put the section into README.md."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    path.write_text(before + section() + after, encoding="utf-8")


if __name__ == "__main__":
    main()
