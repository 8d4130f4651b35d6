"""Learn the starts from which `fastadapt fit` begins, tune their rivals, measure both, and put them into the package.

    python benchmarks/starts.py photo   # 15 minutes of one core for the training; needs mini-ImageNet (FASTADAPT_DATA)
    python benchmarks/starts.py sound   # 12 minutes; needs espeak-ng and udhr2.zip
    python benchmarks/starts.py page    # the figures of docs/fit.md anew, from the committed records

The folder `src/fastadapt/shipped/starts` gets the weights and a record of how they came about: data, recipe, what was
tuned on validation signals, and the curves of both starts on test signals. A training goes on where it was stopped.
"""

import argparse
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from fastadapt import Reptile, Training, meta_train
from fastadapt.atomic import write_text
from fastadapt.compare.by_step import reached
from fastadapt.data.fields.fields import Fields
from fastadapt.evaluation import confidence
from fastadapt.losses import PSNR, SNR
from fastadapt.nets.siren import Siren
from fastadapt.report.style import save_picture
from fastadapt.rules.rules import SGD, Adam, Rule
from fastadapt.showcases.photos import small_photos
from fastadapt.showcases.speech import shuffled
from fastadapt.showcases.voices import recordings, windows
from fastadapt.signals.starts import FOLDER

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fit.md"
BEGIN, END = "<!-- starts -->", "<!-- /starts -->"
SHOWN = (0, 1, 2, 3, 5, 10)
"""Steps of which the page tells."""
MOST = 500_000  # bytes of both starts with their records
TUNED_AT = (1, 2, 4, 8, 16)
"""Steps whose mean score chooses net and rule: a curve as a whole, with few steps counting as much as many."""
LAST = 20
AT_ONCE = 4
INNER = Adam(1e-3, beta1=0.0)
RULES: dict[str, Rule] = {f"Adam {lr:g}": Adam(lr, beta1=0.9) for lr in (2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3)}


@dataclass(frozen=True)
class Recipe:
    """What is learned from what.

    Args:
        net: arguments of `Siren` that all its nets share.
        frequency: the argument of `Siren` that says how fine a detail a net begins with.
        learned: that frequency where the start is learned.
        random: those that are tried for a random start.
        steps: outer steps.
        meta_batch: signals of an outer step.
        points: of an inner step in training; None takes all of a signal.
        batch: points of a step afterwards; None takes all.
        counts: training, validation and test signals.
        about: what they are, in words.
        terms: under which they may be used.
    """

    net: Mapping[str, Any]
    frequency: str
    learned: float
    random: Sequence[float]
    steps: int
    meta_batch: int
    points: int | None
    batch: int | None
    loss: Any
    counts: tuple[int, int, int]
    about: str
    terms: str
    rules: Mapping[str, Rule] = field(default_factory=dict)


RECIPES = {
    "photo": Recipe(
        {"inputs": 2, "width": 128, "depth": 4, "outputs": 3},
        "w0",
        30.0,
        (15.0, 30.0, 60.0),
        600,
        4,
        512,
        1024,
        PSNR(),
        (64 * 150, 16, 100),
        "photographs of the 64 training classes of mini-ImageNet, made 64x64",
        "the photographs are ImageNet's, whose terms don't allow handing them on: none is shown or shipped",
        {"SGD 0.02": SGD(0.02)},
    ),
    "sound": Recipe(
        {"inputs": 1, "width": 128, "depth": 3, "outputs": 1, "output_shift": 0.0},
        "first_w0",
        400.0,
        (100.0, 200.0, 400.0, 800.0),
        400,
        8,
        None,
        None,
        SNR(),
        (0, 16, 100),
        "windows of 93 ms of the Universal Declaration of Human Rights, read by espeak-ng in 30 languages",
        "the texts are in the public domain; espeak-ng is a program under GPL 3, and none of it is shipped",
    ),
}


def signals(kind: str, part: str, recipe: Recipe) -> Tensor:
    """Return the signals of one part, in an order that has nothing to do with their classes."""
    count = dict(zip(("train", "val", "test"), recipe.counts, strict=True))[part]
    if kind == "photo":
        classes = {"train": 64, "val": 16, "test": 20}[part]
        return small_photos(part, -(-count // classes), 64)[:count]
    heard = shuffled(windows(recordings(part)))
    return heard[:count] if count else heard


def net_of(recipe: Recipe, frequency: float) -> Siren:
    """Return a random net, the same each time."""
    torch.manual_seed(0)
    return Siren(**{**recipe.net, recipe.frequency: frequency})


def learn(kind: str, recipe: Recipe, folder: Path) -> tuple[Siren, dict[str, Any]]:
    """Return the learned start, and what it cost."""
    net, file = net_of(recipe, recipe.learned), folder / "start.safetensors"
    spent = folder / "spent.json"
    if not file.is_file():
        source = Fields(signals(kind, "train", recipe), points=recipe.points and 2 * recipe.points, query="same")
        learner = Reptile(net, recipe.loss, rule=INNER, steps=8, batch=recipe.points)
        training = Training(
            steps=recipe.steps,
            meta_batch=recipe.meta_batch,
            optimizer="sgd",
            lr=1.0,
            final_lr=0.05,
            schedule="linear",
            checkpoint_every=100,
        )
        began = time.monotonic()
        done = meta_train(learner, source, training, folder=folder)
        if done.stopped in ("SIGINT", "SIGTERM"):
            raise SystemExit(f"stopped ({done.stopped}); the same command goes on")
        cost = {"outer steps": recipe.steps, "seconds": round(time.monotonic() - began), "signals": len(source)}
        write_text(spent, json.dumps(cost))
        save_picture(save({key: value.contiguous() for key, value in net.state_dict().items()}), file)
    net.load_state_dict(load_file(file))
    return net, json.loads(spent.read_text(encoding="utf-8"))


def chosen(nets: Mapping[float, nn.Module], rules: Mapping[str, Rule], recipe: Recipe, val: Fields) -> dict[str, Any]:
    """Return the net and the rule whose curve on validation signals is highest, and all that were tried."""
    tasks, tried = portions(val), {}
    for frequency, net in nets.items():
        for name, rule in rules.items():
            means = reached(net, rule, tasks, TUNED_AT, recipe.loss, recipe.batch).mean(0)
            tried[frequency, name] = float(means.mean())
            print(f"  {recipe.frequency} {frequency:g}, {name}: {tried[frequency, name]:.2f} dB", flush=True)
    frequency, name = max(tried, key=lambda pair: tried[pair] if tried[pair] == tried[pair] else float("-inf"))
    rule = rules[name]
    said = {"kind": "SGD", "lr": rule.lr} if isinstance(rule, SGD) else {"kind": "Adam", **asdict(rule)}
    told = {f"{recipe.frequency} {f:g}, {n}": round(value, 3) for (f, n), value in tried.items()}
    return {"frequency": frequency, "name": name, "rule": said, "tried": told}


def portions(source: Fields) -> list[Any]:
    """Return all tasks of a source, some at once."""
    return [source.whole(range(i, min(i + AT_ONCE, len(source)))) for i in range(0, len(source), AT_ONCE)]


def ship(kind: str, folder: Path, train_only: bool) -> None:
    """Learn, tune, measure and write."""
    recipe = RECIPES[kind]
    learned, cost = learn(kind, recipe, folder)
    if train_only:
        return
    val, test = (Fields(signals(kind, part, recipe), points=None, query="same") for part in ("val", "test"))
    rules = {**RULES, **recipe.rules, "Adam 0.001, beta1 0": INNER}
    print("learned start", flush=True)
    choices = {"learned": chosen({recipe.learned: learned}, rules, recipe, val)}
    print("random start", flush=True)
    randoms = {frequency: net_of(recipe, frequency) for frequency in recipe.random}
    choices["random"] = chosen(randoms, rules, recipe, val)
    starts = {"learned": learned, "random": randoms[choices["random"]["frequency"]]}
    tasks, at, values = portions(test), tuple(range(LAST + 1)), {}
    for name, net in starts.items():
        values[name] = reached(net, rules[choices[name]["name"]], tasks, at, recipe.loss, recipe.batch)
        print(f"{name}: {' '.join(f'{v:.1f}' for v in values[name].mean(0).tolist())}", flush=True)
    gains = [confidence(column.tolist()) for column in (values["learned"] - values["random"]).unbind(1)]
    content = save({key: value.contiguous() for key, value in learned.state_dict().items()})
    record = {
        "kind": kind,
        "format": 1,
        "sha256": sha256(content).hexdigest(),
        "command": f"python benchmarks/starts.py {kind}",
        "trained on": recipe.about,
        "terms": recipe.terms,
        "method": f"Reptile, {recipe.meta_batch} signals an outer step, 8 inner steps of Adam 0.001 (beta1 0) on "
        f"{recipe.points or 'all'} points, rate 1 to 0.05",
        **cost,
        "batch": recipe.batch,
        "starts": {
            name: {
                "net": {**recipe.net, recipe.frequency: choice["frequency"]},
                "rule": choice["rule"],
                "tried": choice["tried"],
            }
            for name, choice in choices.items()
        },
        "tuned": {"signals": len(val), "on the mean after steps": list(TUNED_AT)},
        "measured": {
            "signals": len(test),
            "metric": type(recipe.loss).__name__,
            **{name: [round(v, 2) for v in curve.mean(0).tolist()] for name, curve in values.items()},
            "gain": [round(mean, 2) for mean, _ in gains],
            "gain ci95": [round(half, 2) for _, half in gains],
        },
    }
    save_picture(content, FOLDER / f"{kind}.safetensors")
    write_text(FOLDER / f"{kind}.json", json.dumps(record, indent=1) + "\n")
    size = sum(path.stat().st_size for path in FOLDER.iterdir())
    print(f"{kind}: {size:,} bytes of {MOST:,} are used")
    if size > MOST:
        raise SystemExit(f"the starts have {size:,} bytes, the most allowed are {MOST:,}")


def figures() -> str:
    """Return the part of docs/fit.md that the records say."""
    lines = []
    for kind in RECIPES:
        record = json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))
        found, starts = record["measured"], record["starts"]
        last = len(found["gain"]) - 1
        steps = sorted({k for k in SHOWN if k <= last} | {last})
        rows = [
            f"**{kind.capitalize()}s.** `{record['command']}`: {record['method']}; {record['outer steps']:,} outer "
            f"steps, {record['seconds']} s on one core, on {record['trained on']}. {found['metric']} in dB over "
            f"{found['signals']} test signals; the lead with its 95 % interval, signal by signal.",
            "",
            f"| start | {' | '.join(map(str, steps))} steps |",
            "|---" * (len(steps) + 1) + "|",
        ]
        for name in ("learned", "random"):
            rule = starts[name]["rule"]
            frequency = {k: v for k, v in starts[name]["net"].items() if "w0" in k}
            said = f"{name} ({', '.join(f'{k} {v:g}' for k, v in frequency.items())}, {rule['kind']} {rule['lr']:g})"
            rows.append(f"| {said} | {' | '.join(f'{found[name][k]:.1f}' for k in steps)} |")
        gains = [f"{found['gain'][k]:+.1f} ± {found['gain ci95'][k]:.1f}" for k in steps]
        lines += [*rows, f"| lead | {' | '.join(gains)} |", ""]
    return "\n".join(lines).rstrip()


def page() -> str:
    """Return docs/fit.md with the figures of the committed records."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures()}\n{END}{after}"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=(*RECIPES, "page"))
    parser.add_argument("--runs", type=Path, default=Path("runs/starts"), help="folder of the trainings")
    parser.add_argument("--train-only", action="store_true", help="leave tuning and measuring to a later call")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.kind == "page":
        write_text(PAGE, page())
        return
    torch.set_num_threads(options.threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("fastadapt.engine").setLevel(logging.WARNING)
    ship(options.kind, options.runs / options.kind, options.train_only)


if __name__ == "__main__":
    main()
