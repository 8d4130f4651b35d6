"""A published table as data: a method's rows, of which each is a published run with the name of a preset.

Another method's rows are one more `Table`: its numbers by the tasks of its presets, where they are from, and in what
the presets differ. Numbers that could not be checked stand in no table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS

Pair = tuple[float, float | None]
FINN = "Finn, Abbeel, Levine 2017 (arXiv:1703.03400), table 1"
RAVI = f"Ravi, Larochelle 2017, quoted in {FINN}"
BEST = "the weights are the best of the validations on classes that neither train nor test"
IMAGES = "the images are a copy re-encoded once as JPEG of quality 85"
CHOSEN = "by which classes the published weights were chosen is not known here"


@dataclass(frozen=True)
class Table:
    """Hold the published rows of one method.

    Args:
        method: the beginning of its presets' names, `METHOD-TASKS`.
        numbers: tasks -> the published accuracy in percent and its ±, each None where there is none.
        source: author, year, arXiv id, place.
        measured: how the paper tests: whether the queries of a task share statistics, and how many there are.
        differs: in what the preset differs from the paper.
        spread_is: what the ± is.
    """

    method: str
    numbers: Mapping[str, Pair | None]
    source: str
    measured: str
    differs: tuple[str, ...] = ()
    spread_is: str = "95 % CI over tasks"


def experiments_of(table: Table) -> tuple[Experiment, ...]:
    """Return the published runs of a method, each the preset of its name.

    Example:
        >>> table = Table("protonet", {"omniglot-5w1s": (98.8, None)}, "somebody 2017", "not transductive")
        >>> experiments_of(table)[0].claimed
        '98.8 %'
    """
    return tuple(
        experiment_of(f"{table.method}-{tasks}", *PRESETS[f"{table.method}-{tasks}"], table, pair)
        for tasks, pair in table.numbers.items()
    )


def experiment_of(name: str, what: str, config: RunConfig, table: Table, pair: Pair | None) -> Experiment:
    """Return one published run.

    Args:
        name: of the run.
        what: it in a few words.
        config: its settings.
        table: where its number is from, and how it was measured.
        pair: the published accuracy in percent and its ±; None where none is known.
    """
    protocol = config.protocol
    at = protocol.report if protocol.report is not None else protocol.steps or 0
    claims = {} if pair is None else {at: claim_of(pair, table.source, table.spread_is)}
    return Experiment(
        name, what, config, (Measurement(table.measured, protocol, claims=claims),), table.source, differs=table.differs
    )


def claim_of(pair: Pair, source: str, spread_is: str = "95 % CI over tasks") -> Claim:
    """Return a published accuracy and its ±, given in percent.

    Example:
        >>> claim_of((98.7, 0.4), "somebody 2017").value
        0.987
    """
    value, spread = pair
    half = None if spread is None else round(spread / 100, 6)
    return Claim(round(value / 100, 6), half, spread_is, source)
