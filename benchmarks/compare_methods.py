"""Compare the methods on the same tasks within the same time, and write the table of docs/choose.md from the results.

    python benchmarks/compare_methods.py                                  # writes the table from the committed results
    python benchmarks/compare_methods.py --run --budget 25m --data DIR    # first compares, or goes on with that
    python benchmarks/compare_methods.py --run --on omniglot-5w1s --methods protonet maml --budget 25m --data DIR

Every method that has a preset on the tasks takes part. The runs lie below `runs/compare`, where a comparison that was
stopped or killed is gone on with; the results go to `benchmarks/results/compare`, a file for each set of tasks, and the
pictures to `docs/images/compare`. A test holds the table to the files; a situation whose figures don't exist is no row.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastadapt.cli import main as fastadapt
from fastadapt.compare.contestants import TASKS
from fastadapt.compare.standings import Standing, standings
from fastadapt.compare.told import accuracy, budget_words

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PICTURES = ROOT / "docs" / "images" / "compare"
PAGE = ROOT / "docs" / "choose.md"
BEGIN, END = "<!-- evidence -->", "<!-- /evidence -->"
ALSO = {"omniglot-5w1s": ("digits", "mini-imagenet"), "omniglot-5w5s": ("digits", "mini-imagenet")}
"""The further images that a comparison is tested on."""
CLOSE = 0.02
"""Of methods whose accuracy is within so much of the best, the one that adapts fastest is named."""
# what somebody has -> the tasks that were compared, and the images that were tested on where these are others
SITUATIONS: tuple[tuple[str, str, str | None], ...] = (
    ("drawings or signs, 5 classes, 1 example of each", "omniglot-5w1s", None),
    ("drawings or signs, 5 classes, 5 examples of each", "omniglot-5w5s", None),
    ("drawings or signs, 20 classes, 1 example of each", "omniglot-20w1s", None),
    ("drawings or signs, 20 classes, 5 examples of each", "omniglot-20w5s", None),
    ("photographs, 5 classes, 1 example of each", "mini-imagenet-5w1s", None),
    ("photographs, 5 classes, 5 examples of each", "mini-imagenet-5w5s", None),
    ("signs of another hand than trained on, 1 example", "omniglot-5w1s", "digits"),
    ("signs of another hand than trained on, 5 examples", "omniglot-5w5s", "digits"),
    ("images of quite another kind than trained on, 1 example", "omniglot-5w1s", "mini-imagenet"),
    ("images of quite another kind than trained on, 5 examples", "omniglot-5w5s", "mini-imagenet"),
)


def read(name: str) -> Any:
    """Return a result file; None where there is none."""
    path = RESULTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def images() -> list[str]:
    """Return a line for each situation with images that was compared."""
    lines = []
    for words, tasks, other in SITUATIONS:
        record = read(f"compare/{tasks}.json")
        test = other or tasks
        found = standings(record, test) if record is not None and test in record["tests"] else []
        if not found:
            continue
        best, *rest = found
        alike = [s.method for s in rest if s.words not in ("better", "worse")]
        beaten = next((s for s in rest if s.words == "worse"), None)
        cells = [
            words,
            f"**{best.method}**: {accuracy(best)} %",
            ", ".join(alike) or "–",
            "–" if beaten is None else f"{beaten.method}: {accuracy(beaten)} %",
            fastest(record, found),
            f"`{tasks}`{f', tested on {other}' if other else ''}, {budget_words(record['budget'])} each",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def fastest(record: Any, found: Sequence[Standing]) -> str:
    """Return which method adapts to a new task in the shortest time, of those that are nearly as good as the best."""
    rows = {row["method"]: row for row in record["methods"]}
    near = [s.method for s in found if s.mean >= found[0].mean - CLOSE]
    name = min(near, key=lambda method: rows[method]["seconds to adapt"])
    return f"{name}: {1000 * rows[name]['seconds to adapt']:.3g} ms"


def numbers() -> list[str]:
    """Return a line for each situation without images that was measured: the schools' table, and waves."""
    lines = []
    school = read("school.json")
    if school is not None:
        result = school["together"][0]
        best, *_ = ranked = sorted(result["methods"], key=lambda row: row["mean"])
        learned = next(row for row in ranked if row["meta-learned"])
        more = f"{-learned['gain over the best baseline']:+.1f} ± {learned['gain ci95']:.1f} task by task"
        told = f"{learned['method']}: {learned['mean']:.1f} ± {learned['ci95']:.1f}, {more}"
        cells = [
            f"a table, {result['shots']} labelled rows of a new group, nearly linear",
            f"**{best['method']}**: mean squared error {best['mean']:.1f} ± {best['ci95']:.1f}",
            *(("–", told) if learned["verdict"] == "worse" else (told, "–")),
            "–",
            "[the School data](own_data.md#does-it-pay-the-school-data)",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    waves = read("sinusoid.json")
    if waves is not None:
        curves = {name: by_shots["10"] for name, by_shots in waves["results"].items() if name != "oracle"}
        best, other = sorted(curves, key=lambda name: curves[name]["mean"][-1])
        told = {name: f"{name}: {c['mean'][-1]:.3f} ± {c['ci95'][-1]:.3f}" for name, c in curves.items()}
        lines.append(
            f"| functions that differ from task to task, 10 points | **{best}**: mean squared error "
            f"{told[best].removeprefix(f'{best}: ')} after 10 steps | – | {told[other]} | – | `make demo` |"
        )
    return lines


def section() -> str:
    """Return the table between its marks."""
    columns = ("your situation", "try first", "not told apart from it", "the best that is worse")
    columns += ("adapts fastest within 2 points", "measured on")
    pictures = [
        f"![Methods on {tasks}](images/compare/{tasks}.png)" for tasks in TASKS if (PICTURES / f"{tasks}.png").is_file()
    ]
    lines = [BEGIN, f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *images(), *numbers()]
    return "\n".join([*lines, *(line for picture in pictures for line in ("", picture)), END])


def write() -> None:
    """Put the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(before + section() + after, encoding="utf-8")


def run(tasks: str, methods: Sequence[str], options: argparse.Namespace) -> int:
    """Compare on some tasks, keep the result and its picture, and return the exit code."""
    folder = options.runs / tasks
    words = ["compare", *methods, "--on", tasks, "--budget", options.budget, "--tasks", str(options.tasks)]
    words += ["--folder", str(folder), "--quiet"]
    words += ["--also", *ALSO[tasks]] if tasks in ALSO else []
    words += ["--data", str(options.data)] if options.data else []
    words += ["--threads", str(options.threads)] if options.threads else []
    code = fastadapt(words)
    if code == 0:
        record = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
        (RESULTS / "compare").mkdir(parents=True, exist_ok=True)
        (RESULTS / "compare" / f"{tasks}.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
        if (folder / "compare.png").is_file():
            PICTURES.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "compare.png", PICTURES / f"{tasks}.png")
    return code


def main() -> None:
    """Read the command line, compare if asked, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", action="store_true", help="compare, or go on with that, before the page is written")
    parser.add_argument("--on", nargs="+", choices=tuple(TASKS), default=["omniglot-5w1s"], help="the tasks")
    parser.add_argument("--methods", nargs="+", default=["*"], help="default: all with a preset on the tasks")
    parser.add_argument("--budget", default="25m", help="of each method, as 25m or 2000steps")
    parser.add_argument("--tasks", type=int, default=600, help="test tasks")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--data", type=Path, help="folder of the data sets; default FASTADAPT_DATA")
    parser.add_argument("--runs", type=Path, default=Path("runs/compare"), help="folder of the runs")
    options = parser.parse_args()
    for tasks in options.on if options.run else ():
        code = run(tasks, options.methods, options)
        if code:
            raise SystemExit(code)
    write()


if __name__ == "__main__":
    main()
