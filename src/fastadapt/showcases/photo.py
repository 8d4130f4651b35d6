r"""A photograph in two gradient steps: a network (row, column) -> (red, green, blue) that was taught how to begin.

    PSNR = 10 log10(1 / mse)      of all pixels, for each photo; then the mean over photos

References:
    Tancik et al. 2021, Learned Initializations for Optimizing Coordinate-Based Neural Representations
    (arXiv:2012.02189); Vyas et al. 2024, Learning Transferable Features for Implicit Neural Representations, STRAINER
    (arXiv:2409.09566), for the shared body.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastadapt.compare.by_step import Start
from fastadapt.compare.closed_form_head import closed_form_head, linear_bound
from fastadapt.data.fields.fields import Fields
from fastadapt.evaluation import confidence
from fastadapt.losses import PSNR
from fastadapt.methods.maml import MAML
from fastadapt.methods.reptile import Reptile
from fastadapt.nets.siren import Siren
from fastadapt.rules.rates import Stepwise, learned_rates
from fastadapt.rules.rules import SGD, Adam, Rule
from fastadapt.showcases.bodies import joint_start, shared_body
from fastadapt.showcases.photo_figure import Pictures, draw_photo, pictured
from fastadapt.showcases.photos import own_picture, small_photos
from fastadapt.showcases.race import Race, counted, crossing, leads, steps_to
from fastadapt.showcases.scene import scene
from fastadapt.showcases.showcase import Shown, ShowSettings
from fastadapt.showcases.stages import Stages
from fastadapt.showcases.training import schooled
from fastadapt.training.settings import Training

W0 = 30.0
HEADLINE = 2  # steps, those that MAML is trained for
SHARES = {"MAML": 0.32, "Reptile": 0.11, "shared body": 0.18, "mean image": 0.03}
"""Of the minutes, for training. What is left goes to tuning, measuring and drawing."""


@dataclass(frozen=True)
class Sizes:
    """What is smaller where only the direction counts."""

    side: int = 64
    width: int = 128
    depth: int = 4
    points: int = 512
    at: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    each: int = 150
    shared: int = 40
    validate: int = 6
    most: int = 600
    w0: tuple[float, ...] = (15.0, 30.0, 60.0)


DESK = Sizes()
SMALL = Sizes(16, 24, 2, 64, (0, 1, 2, 4), 20, 4, 4, 8, (30.0,))


def rules() -> dict[str, Rule]:
    """Return the rules that are tried with every start."""
    adam = {f"Adam {lr:g}": Adam(lr, beta1=0.9) for lr in (5e-4, 1e-3, 2e-3, 4e-3)}
    return {**adam, "SGD 0.02": SGD(0.02)}


def run(settings: ShowSettings) -> Shown:
    """Train, tune, measure and draw, see `fastadapt.showcases.showcase`."""
    sizes, stages, loss = (SMALL if settings.small else DESK), Stages(settings.out, settings.quiet), PSNR()
    pictures = [scene(n) for n in (sizes.side, 2 * sizes.side)]
    if settings.own is not None:
        pictures = own_picture(settings.own, (sizes.side, 2 * sizes.side))
    stages.say("reading photographs")
    data = {
        part: small_photos(part, each, sizes.side, settings.data, complete=not settings.small)
        for part, each in (("train", sizes.each), ("val", -(-sizes.validate // 16)), ("test", sizes.most // 20 or 1))
    }

    def net(w0: float = W0) -> Siren:
        torch.manual_seed(settings.seed)
        return Siren(2, sizes.width, sizes.depth, 3, w0=w0).to(settings.device)

    val, test = (Fields(data[part], points=None, query="same") for part in ("val", "test"))
    batch = None if settings.small else 2 * sizes.points
    race = Race(
        settings,
        stages,
        sizes.at,
        loss,
        rules(),
        val.whole,
        test.whole,
        min(sizes.validate, len(val)),
        len(test),
        batch,
    )
    random = Start("random", {f"w0 {w0:g}": net(w0) for w0 in sizes.w0})
    choices, pace = race.tuned(random)
    best = random.nets[choices[HEADLINE].net]
    assert isinstance(best, Siren)

    kinds = {W0: net(), best.body[1].w0: best}  # type: ignore[index]
    shrink = race.shrinks(sum(SHARES.values()), pace, 3 + 2 * len(kinds), 5)
    shares = {name: share * shrink for name, share in SHARES.items()}
    halves = Fields(data["train"], points=sizes.points)
    twice = Fields(data["train"], points=2 * sizes.points)
    by_maml, by_reptile = net(), net()
    rates = Stepwise(SGD(learned_rates(by_maml, 1e-2, per="tensor", steps=HEADLINE)))
    maml = MAML(by_maml, loss, rule=rates, steps=HEADLINE)
    reptile_rule = Adam(1e-3, beta1=0.0)
    reptile = Reptile(by_reptile, loss, rule=reptile_rule, steps=8, batch=sizes.points)
    outer = Training(meta_batch=4, lr=1e-4, clip_norm=1.0, seed=settings.seed, checkpoint_every=200)
    moving = Training(meta_batch=4, lr=1.0, final_lr=0.05, optimizer="sgd", schedule="linear", seed=settings.seed)
    spent = {
        "MAML": schooled(settings, stages, "MAML", maml, halves, outer, shares["MAML"]),
        "Reptile": schooled(settings, stages, "Reptile", reptile, twice, moving, shares["Reptile"]),
    }
    mean, spent["mean image"] = joint_start(settings, stages, net(), twice, shares["mean image"], "mean image")
    shared, spent["shared body"] = shared_body(
        settings, stages, kinds, data["train"][: sizes.shared], sizes.points, shares["shared body"]
    )
    starts = [
        random,
        Start("mean image", mean),
        Start("shared body", shared),
        Start("Reptile", {"Reptile": by_reptile}, {"its Adam": reptile_rule}),
        Start("MAML", {"MAML": by_maml}, {"its learned rates": rates}),
    ]
    record = race.run(starts, learned=("Reptile", "MAML"))
    count = record["test tasks"]
    bodies = {"random": best, "shared body": list(shared.values())[-1], "MAML": by_maml}
    record["closed form"] = stages.kept("closed form", lambda: _closed_form(bodies, data["test"][:count], settings))
    record["bound"] = stages.kept("bound", lambda: _bound(data["train"], data["test"][:count], sizes.width + 1))
    record["training"] = {name: {"outer steps": s.steps, "seconds": s.seconds} for name, s in spent.items()}
    told = sentence(record)
    seen = pictured(starts, record, race.rules, pictures, sizes.at, loss, batch, settings.device)
    figure = draw_photo(record, Pictures(pictures[0], pictures[1], *seen), told)
    return Shown(record, figure, told)


def _closed_form(bodies: dict[str, Any], photos: Tensor, settings: ShowSettings) -> dict[str, Any]:
    """Return the PSNR of each photo whose pixels a last layer is solved for, on each of the bodies."""
    x, y = Fields(photos, points=None, query="same").whole(range(len(photos))).query
    found = {}
    for name, net in bodies.items():
        with torch.no_grad():
            features = net.features(x[0].to(settings.device)).cpu()
        found[name] = _stated([_psnr(closed_form_head(features, photo), photo) for photo in y])
    return found


def _bound(train: Tensor, test: Tensor, numbers: int) -> dict[str, Any]:
    """Return what no head on `numbers - 1` features can exceed, computed by PCA of the channels of training photos."""
    rows = train[:3000].float().div(255).permute(0, 3, 1, 2).flatten(2).flatten(0, 1)
    basis = linear_bound(rows, min(numbers, len(rows), rows.shape[1]))
    channels = test.float().div(255).permute(0, 3, 1, 2).flatten(2)
    return _stated([_psnr(photo @ basis @ basis.T, photo) for photo in channels])


def _psnr(output: Tensor, y: Tensor) -> float:
    return float(PSNR().metrics(output, (None, y))["psnr"])


def _stated(values: Sequence[float]) -> dict[str, Any]:
    mean, half = confidence(values)
    return {"mean": round(mean, 3), "ci95": round(half, 3), "values": [round(v, 3) for v in values]}


def sentence(record: dict[str, Any]) -> str:
    """Return the sentence to remember, with the point where a rival catches up."""
    learned = [row for row in record["starts"] if row["learned"]]
    j = record["steps"].index(HEADLINE)
    own = max(learned, key=lambda row: row["mean"][j])
    lead = leads(record, own["name"])[j]
    caught = crossing(record, own["name"])
    needs = steps_to(record, own["mean"][j])
    last = record["steps"][-1]
    later = f"{needs[0]} needs {counted(needs[1])} for that" if needs else f"no rival gets there in {last} steps"
    until = f"from {counted(caught)} on a rival is level or ahead" if caught else f"it stays ahead within {last} steps"
    return (
        f"After {HEADLINE} gradient steps the start that {own['name']} learned has a photograph at "
        f"{own['mean'][j]:.1f} dB, {lead.gain:+.1f} ± {lead.ci95:.1f} dB against the best tuned rival ({lead.rival}); "
        f"{later}; {until}."
    )
