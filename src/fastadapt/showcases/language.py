r"""One page of a new language: a small model that has never seen it reads 1,024 characters, and predicts later pages.

    bits per character = cross-entropy of the next character / ln 2      over 2,048 characters of each language

All languages say the same in the same order (the Universal Declaration of Human Rights), to every method alike.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastadapt.compare.by_step import Start, tune_steps
from fastadapt.compare.ngrams import WittenBell
from fastadapt.data.passages import Passages, Streams
from fastadapt.data.udhr import Languages, load_udhr
from fastadapt.evaluation import confidence
from fastadapt.losses import BitsPerCharacter
from fastadapt.methods.maml import MAML
from fastadapt.methods.pretrain import Pretrain
from fastadapt.methods.ttt import TTT
from fastadapt.nets.decoder import Decoder
from fastadapt.nets.lora import with_lora
from fastadapt.rules.rates import learned_rates
from fastadapt.rules.rules import SGD, Adam, Clip, Rule
from fastadapt.showcases.language_figure import draw_language
from fastadapt.showcases.language_told import best_of, sentence, thirds
from fastadapt.showcases.race import Race
from fastadapt.showcases.reading import Reader, reading_on
from fastadapt.showcases.showcase import Shown, ShowSettings
from fastadapt.showcases.stages import Stages
from fastadapt.showcases.texts import Pieces
from fastadapt.showcases.training import Schooling, schooled
from fastadapt.training.settings import Training

HEADLINE = 5
"""Steps that the learned starts are trained for."""
JUDGED_AT = 4200
"""Where the text that is predicted begins."""
READ = (256, 1024, 4096)
"""Characters whose counts are shown, beside those of the page that is adapted to."""
SHARES = {"pretraining": 0.09, "FOMAML": 0.34, "LoRA": 0.07, "reading on": 0.09}
"""Of the minutes, for training. Pretraining goes on for as long as FOMAML takes, unless it stops early."""
HALVES, QUARTERS = (0.5, 1.0), (0.25, 0.5, 0.75, 1.0)
FAR = 1100
"""Characters between support and query in training."""


@dataclass(frozen=True)
class Sizes:
    """What is smaller where only the direction counts."""

    width: int = 64
    depth: int = 2
    length: int = 64
    support: int = 16
    query: int = 8
    judged: int = 32
    at: tuple[int, ...] = (0, 1, 2, 3, 5, 10, 20)
    languages: int | None = None
    validate: int = 10
    rank: int = 4
    chunks: int = 28
    chunks_in_training: int = 12
    pieces: int = 4


DESK = Sizes()
SMALL = Sizes(16, 1, 32, 8, 4, 8, (0, 1, 5), 4, 2, 2, 4, 3, 2)


def rules() -> dict[str, Rule]:
    """Return the rules that are tried with every start."""
    found: dict[str, Rule] = {f"Adam {lr:g}": Adam(lr, beta1=0.9) for lr in (5e-4, 1e-3, 3e-3)}
    return {**found, **{f"SGD {lr:g}": SGD(lr) for lr in (0.3, 1.0)}}


@dataclass(frozen=True)
class Given:
    """Hold what all trainings have in common.

    Args:
        settings: of the showcase.
        stages: where finished parts are kept.
        sizes: of nets and tasks.
        loss: with bits per character as its metric.
        train: training languages.
        tuned_on: a few validation tasks.
    """

    settings: ShowSettings
    stages: Stages
    sizes: Sizes
    loss: BitsPerCharacter
    train: Languages
    tuned_on: Any


def run(settings: ShowSettings) -> Shown:
    """Train, tune, measure and draw, see `fastadapt.showcases.showcase`."""
    sizes, stages, loss = (SMALL if settings.small else DESK), Stages(settings.out, settings.quiet), BitsPerCharacter()
    train, val, test = (load_udhr(part, settings.data, most=sizes.languages) for part in ("train", "val", "test"))
    tasks = {
        part: Passages(texts.texts, sizes.length, sizes.support, sizes.judged)
        for part, texts in (("val", val), ("test", test))
    }
    race = Race(
        settings,
        stages,
        sizes.at,
        loss,
        rules(),
        lambda numbers: tasks["val"].at(numbers, 0, JUDGED_AT),
        lambda numbers: tasks["test"].at(numbers, 0, JUDGED_AT),
        min(sizes.validate, len(val.texts)),
        len(test.texts),
        fewest=len(test.texts),
    )
    given = Given(settings, stages, sizes, loss, train, race.portions(race.validation, race.validate))
    pretrained, spent = _pretrained(given)
    by_fomaml, spent["FOMAML"] = _fomaml(given, pretrained)
    further, spent["pretraining on"], scores = _further(given, pretrained)
    by_lora, lora_rule, spent["LoRA"] = _lora(given, pretrained)
    reader, reading_rule, spent["reading on"] = _reader(given, pretrained)

    starts = [
        Start("pretrained", {"pretrained": pretrained}),
        Start("pretrained on", further),
        Start("FOMAML", by_fomaml, {"its Adam": _inner()}),
        Start("LoRA", by_lora, {"its Adam": lora_rule, "Adam 0.01": Adam(1e-2, beta1=0.9)}),
    ]
    record = race.run(starts, learned=("FOMAML", "LoRA"))
    record["page"] = page = sizes.support * sizes.length
    pooled = WittenBell(train.texts, train.symbols)
    record["n-grams"] = stages.kept("n-grams", lambda: _counted(test, pooled, page, sizes.judged * sizes.length))
    readers = {
        "pretrained, dynamic evaluation": Reader({"pretrained": pretrained, **further}),
        "FOMAML, reading on": Reader(by_fomaml, {"its Adam": _inner()}, learned=True),
        "TTT": Reader({"TTT": reader}, {"its rates": reading_rule}, _last_mlp(reader), learned=True),
    }
    record["reading on"] = reading_on(
        readers,
        pretrained,
        pooled,
        val,
        test,
        sizes.chunks,
        sizes.pieces,
        sizes.length,
        race.validate,
        loss,
        stages,
    )
    record["languages"] = {"names": list(test.names), "nearest": list(test.nearest)}
    record["headline"] = HEADLINE
    record["thirds"] = thirds(record)
    record["went on"] = scores
    record["training"] = {name: {"outer steps": s.steps, "seconds": s.seconds} for name, s in spent.items()}
    told = sentence(record)
    best = best_of(record, "FOMAML")
    chosen = best.own["chosen"][sizes.at.index(best.steps)]
    rule = {**race.rules, "its Adam": _inner()}[chosen["rule"]]
    start = by_fomaml[chosen["net"]]
    drawn = draw_language(record, pretrained, start, rule, loss, test, tasks["test"], best.steps, told)
    return Shown(record, drawn, told)


def _inner() -> Adam:
    """Return the rule that FOMAML is trained through, the one that serves its rival."""
    return Adam(3e-3, beta1=0.9)


def _pretrained(given: Given) -> tuple[Decoder, dict[str, Schooling]]:
    """Return a network that was trained on pieces of all training languages."""
    torch.manual_seed(given.settings.seed)
    sizes = given.sizes
    net = Decoder(given.train.symbols, context=sizes.length, width=sizes.width, depth=sizes.depth)
    learner = Pretrain(net, given.loss)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    training = Training(
        meta_batch=1, lr=3e-3, schedule="cosine", final_lr=3e-5, clip_norm=1.0, seed=given.settings.seed
    )
    source = Pieces(given.train.texts, length=sizes.length)
    name, share = "pretraining", SHARES["pretraining"]
    spent = schooled(given.settings, given.stages, name, learner, source, training, share, optimizer=optimizer)
    return net, {name: spent}


def _further(given: Given, pretrained: Decoder) -> tuple[dict[str, nn.Module], Schooling, list[float]]:
    """Return the weights after each quarter of more pretraining, with what each scores after fine-tuning.

    It is given the time of FOMAML, and stops early where two quarters in a row bring nothing after fine-tuning.
    """
    net = copy.deepcopy(pretrained)
    learner = Pretrain(net, given.loss)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-4, betas=(0.9, 0.98), weight_decay=0.01)
    training = Training(meta_batch=1, lr=3e-4, clip_norm=1.0, seed=given.settings.seed + 1)
    source = Pieces(given.train.texts, length=given.sizes.length)

    def score(name: str, net: nn.Module) -> float:
        few = {rule: rules()[rule] for rule in ("Adam 0.001", "Adam 0.003")}
        start, at = Start(name, {name: net}), (HEADLINE,)
        kept = given.stages.kept(
            f"scored {name}", lambda: tune_steps(start, few, given.tuned_on, at, given.loss)[HEADLINE].score
        )
        return float(kept)

    scores = [score("pretrained", pretrained)]
    nets: dict[str, nn.Module] = {}
    total, seconds = 0, 0.0
    for part in QUARTERS:
        one = schooled(
            given.settings,
            given.stages,
            "pretraining on",
            learner,
            source,
            training,
            SHARES["FOMAML"],
            part,
            optimizer=optimizer,
        )
        total, seconds = one.steps, seconds + one.seconds
        nets[f"{one.steps} steps on"] = copy.deepcopy(net)
        scores.append(score(f"{one.steps} steps on", net))
        if len(scores) > 2 and min(scores[-2:]) >= min(scores[:-2]):
            break
    return nets, Schooling(total, round(seconds, 1)), [round(s, 4) for s in scores]


def _fomaml(given: Given, pretrained: Decoder) -> tuple[dict[str, nn.Module], Schooling]:
    """Return what FOMAML makes of the pretrained network: a small outer rate, and queries far from what was read."""
    net, sizes = copy.deepcopy(pretrained), given.sizes
    learner = MAML(net, given.loss, rule=_inner(), steps=HEADLINE, meta_gradient="first_order")
    source = Passages(given.train.texts, sizes.length, sizes.support, sizes.query, FAR)
    training = Training(meta_batch=4, lr=1e-4, clip_norm=1.0, seed=given.settings.seed, checkpoint_every=100)
    nets: dict[str, nn.Module] = {}
    total, seconds = 0, 0.0
    for part in HALVES:
        one = schooled(given.settings, given.stages, "FOMAML", learner, source, training, SHARES["FOMAML"], part)
        total, seconds = one.steps, seconds + one.seconds
        nets[f"after {one.steps} steps"] = copy.deepcopy(net)  # validation after adaptation chooses
    return nets, Schooling(total, round(seconds, 1))


def _lora(given: Given, pretrained: Decoder) -> tuple[dict[str, nn.Module], Rule, Schooling]:
    """Return the frozen network with factors that MAML has made ready: A and the rates are learned, B begins at 0."""
    torch.manual_seed(given.settings.seed)
    sizes = given.sizes
    net = with_lora(copy.deepcopy(pretrained), sizes.rank, "blocks.*", alpha=4 * sizes.rank)
    rule = Adam(learned_rates(net, 1e-2, per="tensor"), beta1=0.9)
    learner: Any = MAML(net, given.loss, rule=rule, steps=HEADLINE, adapt="lora")
    factors = [p for name, p in net.named_parameters() if name.endswith("lora_A")]
    optimizer = torch.optim.Adam([{"params": factors, "lr": 1e-3}, {"params": list(learner.rates), "lr": 1e-4}])
    source = Passages(given.train.texts, sizes.length, sizes.support, sizes.query, FAR)
    training = Training(meta_batch=4, lr=1e-3, clip_norm=1.0, seed=given.settings.seed, checkpoint_every=25)
    spent = schooled(
        given.settings, given.stages, "LoRA", learner, source, training, SHARES["LoRA"], optimizer=optimizer
    )
    return {"LoRA": net}, rule, spent


def _reader(given: Given, pretrained: Decoder) -> tuple[Decoder, Rule, Schooling]:
    """Return a network that has learned to read on: its last MLP adapts, a step a chunk, and all of it is learned."""
    net, sizes = copy.deepcopy(pretrained), given.sizes
    rule = Clip(SGD(learned_rates(net, 1.0, per="tensor")), 1.0)
    learner: Any = TTT(net, given.loss, rule=rule, adapt=_last_mlp(net), steps=sizes.chunks_in_training - 1)
    groups = [{"params": list(net.parameters()), "lr": 1e-4}, {"params": list(learner.rates), "lr": 1e-2}]
    source = Streams(given.train.texts, sizes.chunks_in_training, sizes.pieces, sizes.length)
    training = Training(meta_batch=4, lr=1e-4, clip_norm=1.0, seed=given.settings.seed, checkpoint_every=25)
    spent = schooled(
        given.settings,
        given.stages,
        "reading on",
        learner,
        source,
        training,
        SHARES["reading on"],
        optimizer=torch.optim.Adam(groups),
    )
    return net, rule, spent


def _last_mlp(net: Decoder) -> Sequence[str]:
    """Return the patterns of the network behind the last attention."""
    last = len(net.blocks) - 1
    return (f"blocks.{last}.up.*", f"blocks.{last}.down.*")


def _counted(test: Languages, pooled: WittenBell, page: int, judged: int) -> dict[str, Any]:
    """Return the bits per character of counts of the first characters of each language, on those of the others."""
    found = {}
    for read in sorted({*READ, page}):
        models = [WittenBell([text[:read]], test.symbols, base=pooled) for text in test.texts]
        bits = [
            model.bits(text, JUDGED_AT + 1, JUDGED_AT + 1 + judged)
            for model, text in zip(models, test.texts, strict=True)
        ]
        mean, half = confidence(bits)
        found[str(read)] = {"mean": round(mean, 3), "ci95": round(half, 3), "values": [round(b, 4) for b in bits]}
    return found
