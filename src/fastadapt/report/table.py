"""Numbers as a Markdown table: one row for each number of inner steps, nothing dropped."""

import math
from collections.abc import Mapping, Sequence

from fastadapt.evaluation import Evaluation


def evaluation_table(result: Evaluation) -> str:
    """Return an evaluation as Markdown: mean with its interval, median and non-finite tasks after each step.

    Accuracies are in percent. The row of the headline result is marked with an arrow.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> from fastadapt.evaluation import Protocol, evaluate
        >>> result = evaluate(MAML(MLP(1, (8,), 1)), Sinusoid(), Protocol(tasks=4, steps=2))
        >>> evaluation_table(result).splitlines()[0]
        '| inner steps | mse, mean ± 95 % CI | median | non-finite tasks |'
    """
    unit = " (%)" if result.metric == "accuracy" else ""
    rows = [f"| inner steps | {result.metric}{unit}, mean ± 95 % CI | median | non-finite tasks |"]
    rows.append("| ---: | ---: | ---: | ---: |")
    tasks = len(result.per_task)
    for j, (step, bad) in enumerate(zip(result.after, result.nonfinite, strict=True)):
        rest = f" (mean of the other {tasks - bad}: {_number(result.finite_mean[j], result.metric)})" if bad else ""
        arrow = "→ " if step == result.step else ""
        median = _number(result.median[j], result.metric)
        rows.append(f"| {arrow}{step} | {plus_minus(result, step)}{rest} | {median} | {bad} of {tasks} |")
    return "\n".join(rows) + "\n" + _by_class(result)


def _by_class(result: Evaluation) -> str:
    """Return the accuracy of each class as a table of its own; nothing where classes have equal numbers of queries."""
    found = result.by_class
    if found is None:
        return ""
    told = f"{100 * found.balanced:.2f} ± {100 * found.half:.2f} %"
    rows = [
        f"\nA task has more queries of one class than of another. Balanced over its classes, the accuracy is {told}.\n",
        "| class | queries | accuracy (%) |",
        "| ---: | ---: | ---: |",
    ]
    each = zip(found.labels, found.queries, found.accuracy, strict=True)
    rows += [f"| {label} | {queries:,} | {100 * share:.2f} |" for label, queries, share in each]
    return "\n".join(rows) + "\n"


def comparison_table(results: Mapping[str, Evaluation], steps: Sequence[int] = (0, 1, 5, 10)) -> str:
    """Return several evaluations side by side as Markdown, a row for each after the given numbers of steps.

    A method without inner steps has the same number in every column. Where tasks are not finite the cell gives their
    number and the mean of the rest.
    """
    if not results:
        return ""
    metric = next(iter(results.values())).metric
    unit = " (%)" if metric == "accuracy" else ""
    rows = [[f"{metric}{unit} ± 95 % CI", *(f"{j} step{'' if j == 1 else 's'}" for j in steps)]]
    for name, result in results.items():
        level = result.after == [0]
        rows.append([name, *(_cell(result, 0 if level else j) if level or j in result.after else "-" for j in steps)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])])
    width = [f"<{widths[0]}", *(f">{w}" for w in widths[1:])]  # names to the left, numbers to the right
    lines = [" | ".join(format(cell, w) for cell, w in zip(row, width, strict=True)) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def plus_minus(result: Evaluation, step: int) -> str:
    """Return the mean after `step` inner steps with its interval, `1.2346 ± 0.0123`; accuracies in percent."""
    column = result.after.index(step)
    mean, half = result.mean[column], result.ci95[column]
    return f"{_number(mean, result.metric)} ± {_number(half, result.metric)}"


def _cell(result: Evaluation, step: int) -> str:
    column = result.after.index(step)
    bad = result.nonfinite[column]
    if not bad:
        return plus_minus(result, step)
    rest = _number(result.finite_mean[column], result.metric)
    return f"{plus_minus(result, step)} ({bad} of {len(result.per_task)} not finite, the rest {rest})"


def _number(value: float, metric: str) -> str:
    if not math.isfinite(value):
        return str(value)
    if metric == "accuracy":
        return f"{100 * value:.2f}"
    return f"{value:.4f}" if abs(value) < 1e4 else f"{value:.3e}"
