r"""A tenth of a second of speech in three gradient steps: a network time -> air pressure that learned how to begin.

    SNR = 10 log10(sum y^2 / sum (f(t) - y)^2)      of each window of 1,024 samples; then the mean over windows

The voices of the test speak languages that were in no training window.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fastadapt.compare.by_step import Start
from fastadapt.compare.closed_form_head import closed_form_head
from fastadapt.data.fields.fields import Fields
from fastadapt.evaluation import confidence
from fastadapt.losses import SNR
from fastadapt.methods.maml import MAML
from fastadapt.methods.reptile import Reptile
from fastadapt.nets.siren import Siren
from fastadapt.rules.rules import Adam, Rule
from fastadapt.showcases.bodies import shared_body
from fastadapt.showcases.race import Race, counted, crossing, leads, steps_to
from fastadapt.showcases.showcase import Shown, ShowSettings
from fastadapt.showcases.sound import rebuilt, write_wav
from fastadapt.showcases.speech_figure import draw_speech
from fastadapt.showcases.stages import Stages
from fastadapt.showcases.training import schooled
from fastadapt.showcases.voices import RATE, recordings, windows
from fastadapt.training.settings import Training

FIRST_W0 = 400.0
HEADLINES = (3, 5)
SHARES = {"Reptile": 0.2, "MAML": 0.2, "shared body": 0.2}
"""Of the minutes, for training. What is left goes to tuning, measuring and drawing."""
HEARD = 5
"""Steps of each window of the sounds that are written."""
LONG = 20.0
"""Minutes from which the curve goes on to 40 steps."""


@dataclass(frozen=True)
class Sizes:
    """What is smaller where only the direction counts."""

    width: int = 128
    depth: int = 3
    at: tuple[int, ...] = (0, 1, 2, 3, 5, 10, 20)
    languages: int | None = None
    shared: int = 40
    validate: int = 6
    most: int = 600
    first_w0: tuple[float, ...] = (100.0, 200.0, 400.0, 800.0)
    seconds: float = 4.0


DESK = Sizes()
SMALL = Sizes(24, 2, (0, 1, 2, 3, 5), 2, 4, 4, 8, (400.0,), 0.3)


def rules() -> dict[str, Rule]:
    """Return the rules that are tried with every start."""
    return {f"Adam {lr:g}": Adam(lr, beta1=0.9) for lr in (5e-4, 1e-3, 2e-3, 4e-3)}


def run(settings: ShowSettings) -> Shown:
    """Train, tune, measure and draw, see `fastadapt.showcases.showcase`."""
    sizes, stages, loss = (SMALL if settings.small else DESK), Stages(settings.out, settings.quiet), SNR()
    if settings.minutes >= LONG and not settings.small:
        sizes = replace(sizes, at=(*sizes.at, 40))
    stages.say("letting espeak-ng read")
    spoken = {part: recordings(part, settings.data, sizes.languages) for part in ("train", "val", "test")}
    heard = {part: shuffled(windows(sounds)) for part, sounds in spoken.items()}
    train, val, test = (Fields(heard[part], points=None, query="same") for part in ("train", "val", "test"))

    def net(first_w0: float = FIRST_W0) -> Siren:
        torch.manual_seed(settings.seed)
        return Siren(1, sizes.width, sizes.depth, 1, first_w0=first_w0, output_shift=0.0).to(settings.device)

    race = Race(
        settings,
        stages,
        sizes.at,
        loss,
        rules(),
        val.whole,
        test.whole,
        min(sizes.validate, len(val)),
        min(sizes.most, len(test)),
    )
    random = Start("random", {f"first w0 {w0:g}": net(w0) for w0 in sizes.first_w0})
    choices, pace = race.tuned(random)
    best = random.nets[choices[HEADLINES[0]].net]
    assert isinstance(best, Siren)

    kinds = {FIRST_W0: net(), best.body[1].w0: best}  # type: ignore[index,dict-item]
    shrink = race.shrinks(sum(SHARES.values()), pace, 2 + 2 * len(kinds), 4)
    shares = {name: share * shrink for name, share in SHARES.items()}
    by_reptile, by_maml, inner = net(), net(), Adam(1e-3, beta1=0.0)
    reptile = Reptile(by_reptile, loss, rule=inner, steps=8)
    maml = MAML(by_maml, loss, rule=inner, steps=HEADLINES[0])
    outer = Training(meta_batch=8, lr=1e-4, clip_norm=1.0, seed=settings.seed, checkpoint_every=100)
    moving = Training(meta_batch=8, lr=1.0, final_lr=0.05, optimizer="sgd", schedule="linear", seed=settings.seed)
    spent = {
        "Reptile": schooled(
            settings, stages, "Reptile", reptile, train, replace(moving, checkpoint_every=20), shares["Reptile"]
        ),
        "MAML": schooled(settings, stages, "MAML", maml, train, outer, shares["MAML"]),
    }
    shared, spent["shared body"] = shared_body(
        settings, stages, kinds, heard["train"][: sizes.shared], 512, shares["shared body"]
    )
    starts = [
        random,
        Start("shared body", shared),
        Start("MAML", {"MAML": by_maml}, {"its Adam": inner}),
        Start("Reptile", {"Reptile": by_reptile}, {"its Adam": inner}),
    ]
    record = race.run(starts, learned=("MAML", "Reptile"))
    bodies = {"random": best, "shared body": list(shared.values())[-1], "Reptile": by_reptile}
    count = record["test tasks"]
    record["closed form"] = stages.kept("closed form", lambda: _closed_form(bodies, test, count, settings))
    record["training"] = {name: {"outer steps": s.steps, "seconds": s.seconds} for name, s in spent.items()}
    record["languages"] = {part: list(sounds) for part, sounds in spoken.items()}
    told = sentence(record)
    sound = next(iter(spoken["test"].values()))[0][: int(sizes.seconds * RATE)]
    write_wav(settings.out / "report" / "true.wav", sound)
    for start in starts:
        chosen = next(row for row in record["starts"] if row["name"] == start.name)["chosen"]
        choice = chosen[record["steps"].index(HEARD)]
        rule = {**race.rules, **start.rules}[choice["rule"]]
        again = rebuilt(sound, start.nets[choice["net"]], rule, HEARD, loss, settings.device)
        write_wav(settings.out / "report" / f"{start.name.replace(' ', '-')}-{HEARD}-steps.wav", again)
    return Shown(record, draw_speech(record, starts, race.rules, test.whole([0]).to(settings.device), loss, told), told)


def shuffled(signals: torch.Tensor) -> torch.Tensor:
    """Return the windows in an order that has nothing to do with that of the languages."""
    return signals[torch.from_numpy(np.random.default_rng(0).permutation(len(signals)))]


def _closed_form(bodies: dict[str, Any], test: Fields, count: int, settings: ShowSettings) -> dict[str, Any]:
    """Return the SNR of each window whose samples a last layer is solved for, on each of the bodies."""
    x, y = test.whole(range(count)).query
    found = {}
    for name, net in bodies.items():
        with torch.no_grad():
            features = net.features(x[0].to(settings.device)).cpu()
        values = [float(SNR().metrics(closed_form_head(features, one), (None, one))["snr"]) for one in y]
        mean, half = confidence(values)
        found[name] = {"mean": round(mean, 3), "ci95": round(half, 3), "values": [round(v, 3) for v in values]}
    return found


def sentence(record: dict[str, Any]) -> str:
    """Return the sentence to remember, with the point where a rival catches up."""
    three, five = (record["steps"].index(k) for k in HEADLINES)
    own = max((row for row in record["starts"] if row["learned"]), key=lambda row: row["mean"][three])
    lead = leads(record, own["name"])
    caught, last = crossing(record, own["name"]), record["steps"][-1]
    needs = steps_to(record, own["mean"][three])
    later = f"{needs[0]} needs {counted(needs[1])} for that" if needs else f"no rival gets there in {last} steps"
    until = f"from {counted(caught)} on a rival is level or ahead" if caught else f"it stays ahead within {last} steps"
    return (
        f"After {HEADLINES[0]} gradient steps the start that {own['name']} learned has speech in a language never "
        f"heard at {own['mean'][three]:.1f} dB, {lead[three].gain:+.1f} ± {lead[three].ci95:.1f} dB against the best "
        f"tuned rival ({lead[three].rival}), and {lead[five].gain:+.1f} ± {lead[five].ci95:.1f} dB after "
        f"{HEADLINES[1]}; {later}; {until}."
    )
