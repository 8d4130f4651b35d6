"""The Omniglot table: MAML with and without convolutions, first-order MAML, Reptile, and the context vector."""

from dataclasses import replace

from fastadapt.evaluation import Protocol
from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS, SETTINGS

MAML = "Finn, Abbeel, Levine 2017 (arXiv:1703.03400), table 1"
APPENDIX = "Finn, Abbeel, Levine 2017 (arXiv:1703.03400), appendix (context vector)"
REPTILE = "Nichol, Achiam, Schulman 2018 (arXiv:1803.02999), Omniglot table"
SEEDS = "standard deviation over three trainings (the paper does not say)"

HEAD = "the head starts from Glorot's range, the code's from N(0, 1)"
BEST = "the weights are the best of the validations on 100 characters that do not train"
TASKS = "tasks never repeat, where the code cycles 200,000"
FEWER = "600 test tasks, the code's 10,000"
CHARACTERS = "100 of the 1,200 training characters validate, and another shuffle than the code's divides them"

# 5w1s, 5w5s, 20w1s, 20w5s: percent and spread
MAML_TABLE = {"5w1s": (98.7, 0.4), "5w5s": (99.9, 0.1), "20w1s": (95.8, 0.3), "20w5s": (98.9, 0.2)}
FOMAML_TABLE = {"5w1s": (98.3, 0.5), "5w5s": (99.2, 0.2), "20w1s": (89.4, 0.5), "20w5s": (97.9, 0.1)}
DENSE_TABLE = {"5w1s": (89.7, 1.1), "5w5s": (97.5, 0.6)}
CONTEXT_TABLE = {"5w1s": (94.9, 0.9), "5w5s": (97.7, 0.3)}
TRANSDUCTIVE_TABLE = {"5w1s": (97.68, 0.04), "5w5s": (99.48, 0.06), "20w1s": (89.43, 0.14), "20w5s": (97.12, 0.32)}
REPTILE_TABLE = {"5w1s": (95.39, 0.09), "5w5s": (98.90, 0.10), "20w1s": (88.14, 0.15), "20w5s": (96.65, 0.33)}


def words(setting: str) -> str:
    """Return "5 ways, 1 shot" for "5w1s"."""
    ways, shots = SETTINGS[setting]
    return f"{ways} ways, {shots} shot{'s' if shots > 1 else ''}"


def percent(pair: tuple[float, float], source: str, spread_is: str = "95 % CI over tasks") -> Claim:
    """Return a published accuracy and its ±, given in percent."""
    return Claim(round(pair[0] / 100, 6), round(pair[1] / 100, 6), spread_is, source)


def _of_maml(kind: str, name: str, config: RunConfig, pair: tuple[float, float], source: str, *more: str) -> Experiment:
    protocol = config.protocol
    at = protocol.report if protocol.report is not None else protocol.steps or 0
    measured = Measurement("transductive", protocol, claims={at: percent(pair, source)})
    setting = name.rsplit("-", 1)[1]
    return Experiment(name, f"{kind}, {words(setting)}", config, (measured,), source, differs=(*more, BEST, TASKS))


def of_reptile(
    name: str,
    tables: tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]]],
    source: str,
    *differs: str,
) -> Experiment:
    """Return Reptile's run on images, measured transductively and not; `tables` hold the two published numbers."""
    setting = name.rsplit("-", 1)[1]
    config = PRESETS[name][1]
    # Validations of 50 inner steps take long on a CPU, and choose nothing: the last weights are the result.
    config = replace(config, training=replace(config.training, validate_every=5000))
    steps = config.protocol.steps or 0
    alone = Protocol(f"{config.protocol.name}, support+query", tasks=600, steps=steps, norm="support+query", ddof=0)
    claims = [{steps: percent(table[setting], source, SEEDS)} for table in tables]
    return Experiment(
        name,
        f"Reptile, {words(setting)}",
        config,
        (
            Measurement("transductive", config.protocol, claims=claims[0]),
            Measurement("not transductive", alone, claims=claims[1]),
        ),
        source,
        differs=differs,
    )


def _context(setting: str) -> Experiment:
    base = PRESETS[f"maml-omniglot-{setting}"][1]
    config = replace(
        base,
        net=replace(base.net, context=20),  # type: ignore[call-arg]
        method=replace(base.method, adapt=("context",)),  # type: ignore[call-arg]
        protocol=replace(base.protocol, name=f"omniglot-{setting}-v1"),
    )
    return _of_maml(
        "MAML that adapts only a context vector of 20 numbers beside the image",
        f"context-omniglot-{setting}",
        config,
        CONTEXT_TABLE[setting],
        APPENDIX,
        HEAD,
        "the paper gives neither the vector's length (here 20) nor whether it has numbers for each pixel (here not)",
    )


def _experiments() -> tuple[Experiment, ...]:
    found = []
    for setting in SETTINGS:
        maml, first = f"maml-omniglot-{setting}", f"fomaml-omniglot-{setting}"
        found.append(_of_maml("MAML", maml, PRESETS[maml][1], MAML_TABLE[setting], MAML, HEAD))
        found.append(_of_maml("first-order MAML", first, PRESETS[first][1], FOMAML_TABLE[setting], REPTILE, HEAD))
    for setting in DENSE_TABLE:
        dense = f"maml-omniglot-noconv-{setting}"
        found.append(_of_maml("MAML without convolutions", dense, PRESETS[dense][1], DENSE_TABLE[setting], MAML))
    tables = (TRANSDUCTIVE_TABLE, REPTILE_TABLE)
    found += [of_reptile(f"reptile-omniglot-{setting}", tables, REPTILE, FEWER, CHARACTERS) for setting in SETTINGS]
    found += [_context(setting) for setting in CONTEXT_TABLE]
    return tuple(found)


EXPERIMENTS = _experiments()
"""The Omniglot runs."""
