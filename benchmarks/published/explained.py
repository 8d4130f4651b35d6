"""The tables behind the causes of differences on docs/results.md, from causes.json and trainings of two lengths."""

import json
from pathlib import Path

from fastadapt.published.comparison import rows, share
from fastadapt.published.registry import EXPERIMENTS
from fastadapt.published.result_file import read_result

HERE = Path(__file__).resolve().parent


def causes() -> list[str]:
    """Return what experiments say of differences from the papers; of those that were not made, nothing."""
    file = HERE / "causes.json"
    found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    parts = [
        rates(found.get("maml-sinusoid, 5 points", [])),
        dense(found.get("maml-omniglot-noconv-5w5s", [])),
        strengths(found.get("how strong a pull can be", []), found.get("500 regressors from the same weights", [])),
        contexts(found.get("context-omniglot-5w1s", [])),
        lengths(),
    ]
    lines: list[str] = []
    for part in parts:
        lines += ["", *part] if part and lines else part
    return lines


def rates(found: list[dict]) -> list[str]:
    """Return how waves go astray at several inner rates."""
    if not found:
        return []
    steps = found[0]["steps"]
    lines = [
        "### Sine waves with five points: the inner rate",
        "",
        f"The trained `maml-sinusoid` on its {found[0]['tasks']} test waves (`python benchmarks/published/causes.py`), "
        "adapted at the paper's rate and at smaller ones. An adaptation has gone astray if its error is above 10.",
        "",
        f"| inner rate | {' | '.join(f'astray after {k}' for k in steps)} | "
        f"{' | '.join(f'mean of the others, {k}' for k in steps)} | {' | '.join(f'median, {k}' for k in steps)} |",
        "|---|" + "---|" * (3 * len(steps)),
    ]
    for row in found:
        cells = [*row["astray"], *(f"{x:.3f}" for x in row["mean of the others"]), *(f"{x:.3f}" for x in row["median"])]
        lines.append(f"| {row['rate']:g} | {' | '.join(map(str, cells))} |")
    return lines


def dense(found: list[dict]) -> list[str]:
    """Return the accuracy of the network without convolutions after several inner steps, at several rates."""
    if not found:
        return []
    lines = [
        "### The network without convolutions, five shots: the inner steps that were not trained",
        "",
        f"`maml-omniglot-noconv-5w5s` after {found[0]['outer steps']:,} outer steps, on {found[0]['tasks']} test tasks "
        "(`python benchmarks/published/causes.py --study dense`). It is trained with one inner step at the first rate, "
        "and reported after three.",
        "",
        f"| inner rate | {' | '.join(f'{k} step' + 's' * (k > 1) for k in found[0]['steps'])} |",
        "|---|" + "---|" * len(found[0]["steps"]),
    ]
    for row in found:
        pairs = zip(row["accuracy"], row["ci95"], strict=True)
        cells = [f"{100 * mean:.2f} ± {100 * half:.2f}" for mean, half in pairs]
        lines.append(f"| {row['rate']:g} | {' | '.join(cells)} |")
    return lines


def strengths(found: list[dict], together: list[dict]) -> list[str]:
    """Return how many regressors still learn their wave under growing pulls, and what their mean is from one start."""
    if not found:
        return []
    lines = [
        "### The mean of 500 regressors: how strong the pull can be",
        "",
        "The paper takes it as high as possible without significantly deterring performance, and gives no number. "
        f"{found[0]['of']} regressors for each strength (`python benchmarks/published/causes.py --study strengths`); "
        "one has learned its wave if its error came below 0.02 within 20,000 updates.",
        "",
        "| pulled towards | strength | have learned their wave | updates on average |",
        "|---|---|---|---|",
    ]
    where = {"none": "nothing", "zero": "zero", "mean": "the mean of those before it"}
    for row in found:
        strength = f"{row['strength']:g}" if row["pull"] != "none" else "–"
        lines.append(f"| {where[row['pull']]} | {strength} | {row['reached']} of {row['of']} | {row['updates']:,} |")
    for row in together:
        numbers = [f"{mean:.3f} ± {half:.3f}" for mean, half in zip(row["mse"], row["ci95"], strict=True)]
        steps = ", ".join(map(str, row["steps"]))
        lines += [
            "",
            "Without a pull, but all from the same random weights (`--study start`): "
            f"{', '.join(numbers)} after {steps} steps on five points.",
        ]
    return lines


def contexts(found: list[dict]) -> list[str]:
    """Return what a context of numbers and one of maps reach in the same short training."""
    if not found:
        return []
    lines = [
        "### The context: one number for the whole image, or one for each pixel",
        "",
        "`context-omniglot-5w1s`, trained alike with both (`python benchmarks/published/causes.py --study contexts`), "
        "from the same weights.",
        "",
        "| context | outer steps | test tasks | accuracy |",
        "|---|---|---|---|",
    ]
    for row in found:
        what = f"{row['size']} {'numbers' if row['context'] == 'numbers' else 'maps of 28x28 numbers'}"
        accuracy = f"{100 * row['accuracy']:.2f} ± {100 * row['ci95']:.2f}"
        lines.append(f"| {what} | {row['steps']:,} | {row['tasks']} | {accuracy} |")
    return lines


def lengths() -> list[str]:
    """Return the runs that were measured after trainings of two lengths, the shorter first."""
    pairs: list[dict] = []
    for path in sorted((HERE / "lengths").glob("*.json")):
        other = HERE / "results" / path.name
        if other.is_file():
            pairs += sorted([read_result(path), read_result(other)], key=lambda content: content["runs"][0]["steps"])
    if not pairs:
        return []
    lines = [
        "### The length of the training",
        "",
        "The same runs, trained for shorter and for longer (the one not above is in `benchmarks/published/lengths/`). "
        "Reptile's outer rate falls to zero over whatever length it has, as in the overlap ablation; the others go on "
        "where they were.",
        "",
        "| run | measured | outer steps | share | ours | published | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for content in pairs:
        steps = f"{content['runs'][0]['steps']:,}"
        for row in rows(EXPERIMENTS[content["experiment"]], content["runs"]):
            part = share(row.fraction)
            cells = [f"`{row.experiment}`", row.label, steps, part, row.text(), row.published or "–", row.remark()]
            lines.append(f"| {' | '.join(cells)} |")
    return lines
