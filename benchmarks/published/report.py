"""Write docs/results.md from the committed result files of `fastadapt reproduce`.

    python benchmarks/published/report.py

A test holds the tables to the files. What can't be computed, the causes of differences in words, is kept in findings.md
beside this file and put at the end of the page.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from fastadapt.published.comparison import Row, rows, share
from fastadapt.published.experiment import Experiment
from fastadapt.published.gradients import COMBINATIONS, CURVES, FORMULAS, PANELS
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.published.result_file import read_result

sys.path.insert(0, str(Path(__file__).parent))
from explained import causes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "results.md"

INTRODUCTION = """# Results beside the papers'

Written by `python benchmarks/published/report.py` from the files in `benchmarks/published/results/`; each holds its
command, commit, hardware, seeds, curve and complete configuration. `fastadapt reproduce NAME` repeats a row, `fastadapt
list` shows all.

How to read it: ± is a 95 % interval over the test tasks; with several seeds, the mean of the seeds and the larger of
that interval and the one over the seeds. *Inside* means that ours and the published number differ by no more than the
two intervals together, `sqrt(ours² + theirs²)`. *Share* is the part of the published outer steps that was trained:
below 100 % the training was cut by a budget of time on a small machine, and the verdict is about the shorter
training. Accuracies are in percent. Published numbers are quoted from the papers named in each result file; none of
them was measured here. Their ± is taken as it is: MAML's is a 95 % interval over tasks, Reptile's probably a standard
deviation over three trainings, which its paper does not say."""


def results(folder: Path = HERE / "results") -> dict[str, dict]:
    """Return the result files by the name of their experiment; those of another version are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = read_result(path)
        experiment = EXPERIMENTS.get(content["experiment"])
        if experiment is not None and experiment.version == content["version"]:
            found[experiment.name] = content
    return found


def _picture(name: str, words: str) -> str:
    """Return the picture's place on the page; nothing while it has not been drawn."""
    path = f"images/published/{name}.png"
    return f"![{words}]({path})" if (PAGE.parent / path).is_file() else ""


def _line(row: Row) -> str:
    seeds = f"{row.seeds} (± {100 * row.spread:.2f})" if row.percent and row.spread is not None else str(row.seeds)
    if not row.percent and row.spread is not None:
        seeds = f"{row.seeds} (± {row.spread:.3f})"
    cells = [f"`{row.experiment}`", row.label, str(row.step), row.text(), row.published or "–"]
    return f"| {' | '.join([*cells, row.remark(), share(row.fraction), seeds])} |"


def table(experiments: Iterable[Experiment], found: dict[str, dict]) -> list[str]:
    """Return the table of some experiments as lines of Markdown."""
    lines = [
        "| run | measured | inner steps | ours | published | verdict | share | seeds (std) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        if experiment.name not in found:
            lines.append(f"| `{experiment.name}` | not run yet | | | | | | |")
            continue
        lines += [_line(row) for row in rows(experiment, found[experiment.name]["runs"])]
    return lines


def regressors(found: dict[str, dict]) -> list[str]:
    """Return how many of the averaged regressors came as far as the paper's."""
    said = []
    for name in ("none", "zero", "mean"):
        content = found.get(f"multitask-{name}-sinusoid")
        for run in content["runs"] if content is not None else ():
            facts = run["regressors"]
            said.append(f"{facts['reached']} of {facts['tasks']} (`multitask-{name}-sinusoid`)")
    if not said:
        return []
    return [
        "The paper's averaged regressors came below an error of 0.02. Ours did within 20,000 updates: "
        f"{', '.join(said)}."
    ]


def pretraining(found: dict[str, dict]) -> list[str]:
    """Return MAML against joint pretraining: the loss before and after adaptation, on the same tasks."""
    names = ("maml-sinusoid", "fomaml-sinusoid", "pretrain-sinusoid", "oracle-sinusoid")
    lines = [
        "| trained by | before adaptation | 1 step | 5 steps | 10 steps |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        if name not in found:
            continue
        [*measured] = [m for run in found[name]["runs"] for m in run["measurements"] if m["name"] == "K=10"]
        last = len(measured[0]["mean"]) - 1
        cells = []
        for step in (0, 1, 5, 10):
            mean = sum(float(m["mean"][min(step, last)]) for m in measured) / len(measured)
            half = sum(float(m["ci95"][min(step, last)]) for m in measured) / len(measured)
            cells.append(f"{mean:.3f} ± {half:.3f}")
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def gradients(found: dict[str, dict]) -> list[str]:
    """Return the ten combinations, best first, with the accuracy at the end and the steps to 90 %."""
    scored = []
    for name in COMBINATIONS:
        content = found.get(f"gradients-{name}")
        if content is None:
            continue
        run = content["runs"][0]
        measured = run["measurements"][0]
        reached = next((point["step"] for point in run["curve"] if point.get("val accuracy", 0) >= 0.9), None)
        scored.append((float(measured["mean"][-1]), float(measured["ci95"][-1]), name, reached, run))
    lines = [
        "| outer step along | accuracy | outer steps to 90 % (validation) | outer steps | share |",
        "|---|---|---|---|---|",
    ]
    for mean, half, name, reached, run in sorted(scored, reverse=True):
        cells = [FORMULAS[name], f"{100 * mean:.2f} ± {100 * half:.2f}", f"{reached:,}" if reached else "not reached"]
        lines.append(f"| {' | '.join([*cells, format(run['steps'], ','), share(run['fraction'])])} |")
    return lines


def overlap(found: dict[str, dict]) -> list[str]:
    """Return the three panels of the overlap ablation, one row for each value."""
    lines = [
        f"| varied | value | {' | '.join(CURVES)} | outer steps | test tasks |",
        f"|---|---|{'---|' * (len(CURVES) + 2)}",
    ]
    for panel, values in PANELS.items():
        for value in values:
            cells, steps, tasks = [], set(), set()
            for curve in CURVES:
                content = found.get(f"overlap-{panel}-{value:g}-{curve}")
                if content is None:
                    cells.append("–")
                    continue
                measured = content["runs"][0]["measurements"][0]
                steps.add(content["runs"][0]["steps"])
                tasks.add(measured["protocol"]["tasks"])
                cells.append(f"{100 * float(measured['mean'][-1]):.1f} ± {100 * float(measured['ci95'][-1]):.1f}")
            lines.append(f"| {panel} | {value:g} | {' | '.join(cells)} | {_span(steps)} | {_span(tasks)} |")
    return lines


def _span(values: set[int]) -> str:
    """Return the smallest and the largest of some numbers."""
    return f"{min(values):,}–{max(values):,}" if len(values) > 1 else f"{min(values):,}" if values else "–"


def page(found: dict[str, dict]) -> str:
    """Return the page."""

    def of(*beginnings: str) -> list[Experiment]:
        return [e for e in EXPERIMENTS.values() if any(b in e.name for b in beginnings) and e.figure != "overlap"]

    parts: list[list[str]] = [[str(line) for line in INTRODUCTION.splitlines()]]
    parts.append(["## Sine waves", "", *table(of("sinusoid"), found)])
    parts.append(regressors(found))
    parts.append([_picture("sinusoid-steps", "Error against inner steps")])
    parts.append([_picture("sinusoid-adaptation", "One wave before and after adaptation")])
    parts.append([_picture("sinusoid-reptile", "One of Reptile's waves: before training, after MAML, after Reptile")])
    parts.append(
        [
            "### Pretraining against MAML, on identical data",
            "",
            "The same stream of waves trains all of them and the same 600 waves test them, K = 10. Before adaptation "
            "joint pretraining is as good as any single function can be (3.006 in expectation); after a step it has "
            "lost.",
            "",
            *pretraining(found),
        ]
    )
    parts.append(["## Omniglot", "", *table(of("-omniglot-"), found)])
    parts.append(["## mini-ImageNet", "", *table(of("-mini-imagenet"), found)])
    parts.append(
        [
            "## The models of drawings",
            "",
            "No paper's: they come with the package (`fastadapt demo`, `fastadapt adapt drawing`). The 423 test "
            "characters of Omniglot, every query answered on its own (not transductive); *share* is that of the 10,000 "
            "and 20,000 outer steps for which they are described.",
            "",
            *table(of("drawing"), found),
        ]
    )
    parts.append(
        [
            "## Which gradients make the outer step",
            "",
            "Omniglot, 5-way 5-shot, one task an outer step, 25 samples a minibatch; `g4` is first-order MAML with "
            "four steps, the sums are Reptile, `g1` is joint pretraining. The paper prints curves and no numbers: "
            "what it found is that g1 is ineffective, that the sum of all gradients learns faster than the last one "
            "alone and faster than their mean, and that g1 + g2 + g3 + g4 is best.",
            "",
            *gradients(found),
            "",
            _picture("gradients", "Gradient combinations"),
        ]
    )
    parts.append(
        [
            "## When the last batch overlaps with the others",
            "",
            "Omniglot, 5-way 5-shot, 20 training shots. *separate*: first-order MAML whose last minibatch is kept "
            "apart; *cycling* and *replacement*: it comes from the same samples as the others. 100 samples are seen "
            "once in 4 steps of 25.",
            "",
            *overlap(found),
            "",
            _picture("overlap", "Overlap"),
        ]
    )
    grouped: dict[str, dict[str, None]] = {}
    for experiment in EXPERIMENTS.values():
        name = f"{experiment.figure}-*" if experiment.figure in ("overlap", "gradients") else experiment.name
        for line in experiment.differs:
            grouped.setdefault(line, {})[name] = None
    differs = [f"- {line}: {', '.join(f'`{n}`' for n in names)}" for line, names in grouped.items()]
    parts.append(["## Where our settings differ from the papers'", "", *differs])
    parts.append(["## Where results differ, and why"])
    parts.append(causes())
    findings = HERE / "findings.md"
    if findings.is_file():
        parts.append(findings.read_text(encoding="utf-8").strip().splitlines())
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(results()), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
