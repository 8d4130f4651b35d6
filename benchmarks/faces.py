"""Unseen domains of faces: leave one domain out, train on the others, verify everybody of the one left out.

    python benchmarks/faces.py                       every target, three seeds; goes on where it was stopped
    python benchmarks/faces.py --targets orl --seeds 0 1 2
    python benchmarks/faces.py --summary             the table of what is there

All methods begin at the same base of a seed (CosFace on the source domains) and take as many outer steps. The outer
rate of each main method is chosen from one grid on the sources' validation identities; an ablation has the rate of its
parent. Nothing of the target is looked at before the measurement. Needs FASTADAPT_DATA with faces/.
"""

import argparse
import copy
import itertools
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastadapt import MAML, SGD, Learner, Training, meta_train
from fastadapt.atomic import write_text
from fastadapt.data.domains.face_files import read_faces
from fastadapt.data.domains.face_pairs import pair_splits
from fastadapt.data.domains.face_recipe import FaceRecipe
from fastadapt.data.domains.face_set import FaceSet
from fastadapt.faces.cdt import CDT
from fastadapt.faces.measure import Pixels, measured, scores_of, threshold_on
from fastadapt.faces.mfr import MFR
from fastadapt.faces.objectives import MarginLoss, PairLoss
from fastadapt.faces.verification import area
from fastadapt.methods.mldg import MLDG
from fastadapt.nets.face import FaceNet, WithIdentities

OUT = Path(__file__).parent / "results" / "faces.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "faces.md"
BEGIN, END = "<!-- results -->", "<!-- /results -->"
TOLD = ("mldg - cosface", "cdt - cosface", "agg - cosface", "mfr - agg", "mfr first order - agg")
"""Differences that the page tells: each method beside its own control."""
TARGETS = ("orl", "gt", "imm", "yaleb", "sketch", "thermal")
ONLY_TARGETS = ("umist", "yale")
RATES = (0.0125, 0.025, 0.05)
INNER = SGD(0.05)
FEATURES = 64
DEFAULTS: dict[str, Any] = {"base_steps": 300, "steps": 150, "batch": 8, "flip": True, "shift": 2}

Build = Callable[[torch.nn.Module], Learner]
MAIN: dict[str, tuple[str, Build]] = {
    "cosface": ("pooled", lambda net: MAML(net, MarginLoss(), steps=0, route="loop")),
    "agg": ("pooled", lambda net: MAML(net, PairLoss(), steps=0, route="loop")),
    "mldg": ("random", lambda net: MLDG(net, MarginLoss(), rule=INNER, route="loop")),
    "mfr": ("random", lambda net: MFR(net, rule=INNER, route="loop")),
    "mfr first order": ("random", lambda net: MFR(net, rule=INNER, meta_gradient="first_order", route="loop")),
    "cdt": ("random", lambda net: CDT(net, rule=INNER, route="loop")),
}
ABLATIONS: dict[str, tuple[str, Build]] = {
    "mfr without alignment": ("mfr", lambda net: MFR(net, PairLoss(alignment=0.0), rule=INNER, route="loop")),
    "mfr without hard pairs": ("mfr", lambda net: MFR(net, PairLoss(hard=0.0), rule=INNER, route="loop")),
    "mfr without soft classes": ("mfr", lambda net: MFR(net, PairLoss(soft=0.0), rule=INNER, route="loop")),
    "mfr without the step": ("mfr", lambda net: MFR(net, steps=0, route="loop")),
    "cdt without the step": ("cdt", lambda net: CDT(net, steps=0, route="loop")),
    "cdt with euclid": ("cdt", lambda net: CDT(net, rule=INNER, metric="euclid", route="loop")),
    "cdt within one domain": ("cdt", lambda net: CDT(net, rule=INNER, within=True, route="loop")),
}
ORDER = ("pixels", "untrained", "base", *MAIN, *ABLATIONS)
PLAIN = ("cosface", "agg", "mldg", "mfr")
"""What is run without contrast normalisation."""


def new_net(faces: FaceSet, recipe: FaceRecipe, sources: list[str], seed: int) -> WithIdentities:
    torch.manual_seed(seed)
    people = len(faces.people(sources, ["train"], least=2))
    return WithIdentities(FaceNet(recipe.size, (16, 32, 64), FEATURES), people, FEATURES)


def trained(
    learner: Learner,
    faces: FaceSet,
    recipe: FaceRecipe,
    sources: list[str],
    *,
    how: Any,
    steps: int,
    rate: float,
    seed: int,
    settings: dict[str, Any],
) -> float:
    """Train in place and return the seconds of a step."""
    source = pair_splits(
        faces,
        sources,
        "train",
        recipe=recipe,
        batch=settings["batch"],
        how=how,
        flip=settings["flip"],
        shift=settings["shift"],
    )
    optimizer = torch.optim.SGD(learner.parameters(), rate, momentum=0.9, weight_decay=5e-4)
    training = Training(
        steps=steps, meta_batch=1, lr=rate, schedule="cosine", clip_norm=5.0, seed=seed, log_every=steps
    )
    began = time.process_time()
    meta_train(learner, source, training, optimizer=optimizer, quiet=True)
    learner.eval()
    return (time.process_time() - began) / steps


def on_validation(net: torch.nn.Module, faces: FaceSet, recipe: FaceRecipe, sources: list[str]) -> float:
    """Return the mean area under the curve over the sources' validation identities, by which rates are chosen."""
    values = []
    for domain in sources:
        if len(faces.people([domain], ["val"])) > 1:
            scores = scores_of(net, faces, recipe, [domain], ["val"])
            values.append(area(scores.genuine, scores.impostor))
    return float(np.mean(values))


def result(
    net: torch.nn.Module, faces: FaceSet, recipe: FaceRecipe, sources: list[str], targets: list[str], **told: Any
) -> dict[str, Any]:
    """Return what is told of one network: every target, and the sources' test identities."""
    threshold = threshold_on(net, faces, recipe, sources)
    at_home = []
    for domain in sources:
        scores = scores_of(net, faces, recipe, [domain], ["test"])
        at_home.append(area(scores.genuine, scores.impostor))
    on = {d: measured(net, faces, recipe, d, threshold=threshold["value"]).to_plain() for d in targets}
    return {**told, "threshold": threshold, "sources_auc": float(np.mean(at_home)), "targets": on}


def row(faces: FaceSet, target: str, seed: int, contrast: bool, settings: dict[str, Any], keep: Path) -> None:
    """Run what is missing of one target, seed and input."""
    recipe = FaceRecipe(faces.side, 32, contrast=contrast)
    targets = list(ONLY_TARGETS) if target == "all" else [target]
    sources = [domain for domain in TARGETS if domain != target]

    def cell(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        path = keep / f"{target} {seed} {'contrast' if contrast else 'plain'} {name}.json"
        if not path.is_file():
            began = time.process_time()
            made = {
                "target": target,
                "seed": seed,
                "contrast": contrast,
                "method": name,
                "settings": settings,
                **make(),
            }
            write_text(path, json.dumps(made | {"cpu_seconds": round(time.process_time() - began, 1)}, indent=1) + "\n")
            print(f"{path.stem}: {time.process_time() - began:.0f} s", flush=True)
        return json.loads(path.read_text(encoding="utf-8"))

    common = {"faces": faces, "recipe": recipe, "sources": sources}
    cell("pixels", lambda: result(Pixels(), targets=targets, **common))
    cell("untrained", lambda: result(new_net(seed=seed, **common).eval(), targets=targets, **common))
    start: list[WithIdentities] = []

    def base() -> WithIdentities:
        if not start:
            net = new_net(seed=seed, **common)
            learner = MAML(net, MarginLoss(), steps=0, route="loop")
            trained(
                learner, how="pooled", steps=settings["base_steps"], rate=0.05, seed=seed, settings=settings, **common
            )
            start.append(net)
        return copy.deepcopy(start[0])

    cell("base", lambda: result(base(), targets=targets, **common))

    def run(how: str, build: Build, rates: tuple[float, ...]) -> dict[str, Any]:
        best: tuple[float, float, Any, float] | None = None
        for rate in rates:
            learner = build(base())
            told = {"how": how, "steps": settings["steps"], "rate": rate, "seed": seed + 1000}
            seconds = trained(learner, settings=settings, **told, **common)
            net: Any = learner.model
            score = on_validation(net, **common)
            if best is None or score > best[0]:
                best = score, rate, net, seconds
        assert best is not None
        score, rate, net, seconds = best
        return result(net, targets=targets, **common, rate=rate, validation_auc=score, seconds_a_step=seconds)

    rates: dict[str, float] = {}
    for name, (how, build) in MAIN.items():
        if contrast or name in PLAIN:
            rates[name] = cell(name, lambda how=how, build=build: run(how, build, RATES))["rate"]
    for name, (parent, build) in ABLATIONS.items() if contrast else ():
        how = MAIN[parent][0]
        cell(name, lambda how=how, build=build, parent=parent: run(how, build, (rates[parent],)))


# ---- the table --------------------------------------------------------------------------------------


def value(cell: dict[str, Any], number: str) -> float:
    """Return a number in per cent, the mean over the cell's targets."""
    return 100 * float(np.mean([each["numbers"][number]["value"] for each in cell["targets"].values()]))


def mean_and_half(values: list[float]) -> list[float | None]:
    """Return the mean and 1.96 standard errors, None of a single value."""
    half = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return [round(float(np.mean(values)), 2), None if half is None else round(half, 2)]


def over_seeds(cells: list[dict[str, Any]], number: str) -> list[float | None]:
    """Return mean and half-width over seeds; of one seed and one target the ends of its interval too."""
    found = mean_and_half([value(cell, number) for cell in cells])
    targets = list(cells[0]["targets"].values())
    if len(cells) > 1 or len(targets) > 1 or "low" not in targets[0]["numbers"][number]:
        return found
    return [*found, *(round(100 * targets[0]["numbers"][number][end], 2) for end in ("low", "high"))]


def summary(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return means by input, method and target, and paired differences to the controls over target and seed."""
    made: dict[str, Any] = {}
    for contrast in (True, False):
        own = [cell for cell in cells if cell["contrast"] == contrast]
        by = {(c["method"], c["target"], c["seed"]): c for c in own}
        methods = [name for name in ORDER if any(c["method"] == name for c in own)]
        table: dict[str, Any] = {}
        for method in methods:
            places = [key for key in by if key[0] == method]
            table[method] = {
                number: {
                    target: over_seeds([by[key] for key in places if key[1] == target], number)
                    for target in dict.fromkeys(key[1] for key in places)
                }
                for number in ("tar@0.01", "rank-1", "auc")
                if all(number in each["numbers"] for key in places for each in by[key]["targets"].values())
            }
            table[method]["sources_auc"] = round(100 * float(np.mean([by[key]["sources_auc"] for key in places])), 2)
        paired = {}
        for method, control in itertools.product(methods, ("cosface", "agg")):
            both = [key for key in by if key[0] == method and (control, *key[1:]) in by]
            if method != control and both:
                gaps = [value(by[key], "tar@0.01") - value(by[(control, *key[1:])], "tar@0.01") for key in both]
                paired[f"{method} - {control}"] = [*mean_and_half(gaps), len(gaps)]
        made["contrast" if contrast else "plain"] = {"methods": table, "paired tar@0.01": paired}
    return made


def told(pair: list[float | None]) -> str:
    """Return a mean with its interval over seeds, in words of a table; of one seed that over identities."""
    mean, half, *ends = pair
    if half is not None:
        return f"{mean:.1f} ± {half:.1f}"
    return f"{mean:.1f} [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else f"{mean:.1f}"


def section(record: dict[str, Any]) -> str:
    """Return the part of the page that says what a result file says."""
    lines = [BEGIN]
    for kind, words in (("contrast", "with"), ("plain", "without")):
        methods = record[kind]["methods"]
        if not methods:
            continue
        targets = list(dict.fromkeys(t for each in methods.values() for t in each["tar@0.01"]))
        seeds = sorted({cell["seed"] for cell in record["cells"] if cell["contrast"] == (kind == "contrast")})
        lines += [
            "",
            f"TAR at FAR 1 % of everybody in the domain left out, in per cent, {words} contrast normalisation;",
            f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}"
            + (", ± 1.96 standard errors over seeds:" if len(seeds) > 1 else ", and intervals over identities:"),
            "",
            f"| method | {' | '.join('umist, yale' if t == 'all' else t for t in targets)} | AUC at home |",
            "|---" * (len(targets) + 2) + "|",
        ]
        for name, each in methods.items():
            cells = [told(each["tar@0.01"][t]) if t in each["tar@0.01"] else "" for t in targets]
            lines.append(f"| {name} | {' | '.join(cells)} | {each['sources_auc']:.1f} |")
        pairs = record[kind]["paired tar@0.01"]
        gaps = [f"{name} {told(gap[:2])}" for name, gap in pairs.items() if name in TOLD and gap[1] is not None]
        if gaps:
            lines += ["", f"Paired over target and seed: {'; '.join(gaps)} points."]
    return "\n".join([*lines, END])


def write_page(record: dict[str, Any]) -> None:
    """Put the section into the page."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN), text.index(END) + len(END)
    write_text(PAGE, text[:begin] + section(record) + text[end:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=[*TARGETS, "all"], choices=[*TARGETS, "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--contrast", nargs="+", choices=["on", "off"], default=["on", "off"])
    parser.add_argument("--steps", type=int, default=DEFAULTS["steps"])
    parser.add_argument("--base-steps", type=int, default=DEFAULTS["base_steps"])
    parser.add_argument("--cells", type=Path, default=Path("runs/faces"), help="where each result is kept meanwhile")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--summary", action="store_true", help="run nothing")
    asked = parser.parse_args()
    settings = {**DEFAULTS, "steps": asked.steps, "base_steps": asked.base_steps}
    if not asked.summary:
        faces = read_faces(Path(os.environ["FASTADAPT_DATA"]))
        asked.cells.mkdir(parents=True, exist_ok=True)
        for target, contrast, seed in itertools.product(asked.targets, asked.contrast, asked.seeds):
            row(faces, target, seed, contrast == "on", settings, asked.cells)
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(asked.cells.glob("*.json"))]
    if not cells:
        raise SystemExit(f"there are no results in {asked.cells}; run it without --summary")
    record = {
        "protocol": "faces-loo-v1",
        "settings": {**settings, "rates": RATES, "inner rate": INNER.lr, "features": FEATURES},
        "torch": torch.__version__,
        **summary(cells),
        "cells": [{k: v for k, v in cell.items() if k != "settings"} for cell in cells],
    }
    write_text(asked.out, json.dumps(record, indent=1) + "\n")
    if asked.out == OUT:
        write_page(json.loads(OUT.read_text(encoding="utf-8")))
    print(section(json.loads(json.dumps(record))))


if __name__ == "__main__":
    main()
