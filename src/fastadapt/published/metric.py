"""Rows of methods that have a preset of their own: a table for each method, of which a published run is a line.

Another method's rows are one more `Table`: its numbers by the tasks of its presets, where they are from, and in what
the presets differ. Numbers that could not be checked stand in no table.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fastadapt.methods.metric_settings import MatchingNetMethod
from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS

Pair = tuple[float, float | None]
FINN = "Finn, Abbeel, Levine 2017 (arXiv:1703.03400), table 1"
VINYALS = f"Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016 (arXiv:1606.04080), quoted in {FINN}"
RAVI = f"Ravi, Larochelle 2017, quoted in {FINN}"
SNELL = "Snell, Swersky, Zemel 2017 (arXiv:1703.05175)"
SUNG = "Sung, Yang, Zhang, Xiang, Torr, Hospedales 2018 (arXiv:1711.06025)"
SIMON = "Simon, Koniusz, Nock, Harandi 2020 (CVPR); its numbers with four blocks are not published here, as unconfirmed"

BEST = "the weights are the best of the validations on classes that neither train nor test"
IMAGES = "the images are a copy re-encoded once as JPEG of quality 85"
OURS = "the paper gives no rate, batch or length for this row; these are ours"
CHARACTERS = "100 of the 1,200 training characters validate, and another shuffle than the paper's divides them"


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


TABLES = (
    Table(
        "protonet",
        {
            "omniglot-5w1s": (98.8, None),
            "omniglot-5w5s": (99.7, None),
            "omniglot-20w1s": (96.0, None),
            "omniglot-20w5s": (98.9, None),
        },
        f"{SNELL}, Omniglot table",
        "not transductive, 15 queries",
        (
            "quarter turns are drawn for each class of a task, where the code has each turn as a class of its own",
            "30,000 episodes; the code stops 200 epochs after the best validation, then trains anew with those classes",
            BEST,
        ),
    ),
    Table(
        "protonet",
        {"mini-imagenet-5w1s": (49.42, 0.78), "mini-imagenet-5w5s": (68.20, 0.66)},
        f"{SNELL}, mini-ImageNet table",
        "not transductive, 15 queries",
        ("30,000 episodes; the paper stops when the validation no longer gets better", BEST, IMAGES),
    ),
    Table(
        "matching",
        {
            "omniglot-5w1s": (98.1, None),
            "omniglot-5w5s": (98.9, None),
            "omniglot-20w1s": (93.8, None),
            "omniglot-20w5s": (98.5, None),
        },
        VINYALS,
        "not transductive, 15 queries",
        (OURS, "the paper does not say how batch norm is used at test; here it has the averages of training", BEST),
    ),
    Table(
        "siamese",
        {
            "omniglot-5w1s": (97.3, None),
            "omniglot-5w5s": (98.4, None),
            "omniglot-20w1s": (88.2, None),
            "omniglot-20w5s": (97.0, None),
        },
        f"the re-implementation of {VINYALS}",
        "not transductive, 15 queries",
        (
            "four blocks in place of the network of Koch et al. 2015, and 20 ways in training",
            OURS,
            "of several samples of a class the most probable one counts; the paper does not say",
            BEST,
        ),
    ),
    Table(
        "relation",
        {
            "omniglot-5w1s": (99.6, 0.2),
            "omniglot-5w5s": (99.8, 0.1),
            "omniglot-20w1s": (97.6, 0.2),
            "omniglot-20w5s": (99.1, 0.1),
        },
        f"{SUNG}, Omniglot table",
        "transductive, as many queries as shots",
        (
            "the public code picks its weights by the test characters; here validation characters do",
            CHARACTERS,
            "one gradient norm is clipped, the code's two networks each have their own",
        ),
    ),
    Table(
        "relation",
        {"mini-imagenet-5w1s": (50.44, 0.82), "mini-imagenet-5w5s": (65.32, 0.70)},
        f"{SUNG}, mini-ImageNet table",
        "transductive, 15 queries",
        (
            "the public code picks its weights by the test classes; here validation classes do",
            "all 75 queries of a test task share statistics, in the code 3 or 5 of each class at a time",
            IMAGES,
        ),
    ),
    Table(
        "dsn",
        {"mini-imagenet-5w1s": None, "mini-imagenet-5w5s": None},
        SIMON,
        "not transductive, 15 queries",
        ("the projection is solved for, the code takes an SVD of float64", BEST, IMAGES),
    ),
)
"""The published rows of methods with presets."""


def experiments_of(table: Table) -> tuple[Experiment, ...]:
    """Return the published runs of a method, each the preset of its name.

    Example:
        >>> experiments_of(TABLES[0])[0].claimed
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
    claims = {} if pair is None else {at: _claim(pair, table)}
    return Experiment(
        name, what, config, (Measurement(table.measured, protocol, claims=claims),), table.source, differs=table.differs
    )


def _claim(pair: Pair, table: Table) -> Claim:
    value, spread = pair
    half = None if spread is None else round(spread / 100, 6)
    return Claim(round(value / 100, 6), half, table.spread_is, table.source)


def _full_context() -> tuple[Experiment, ...]:
    # The row of Ravi & Larochelle's table has full context embeddings, which the preset leaves out for their size.
    table = Table(
        "matching",
        {"mini-imagenet-5w1s": (43.56, 0.84), "mini-imagenet-5w5s": (55.31, 0.73)},
        RAVI,
        "not transductive, 15 queries",
        (
            "no dropout, where the code has 0.1",
            "gradients are not clipped, those of the code's LSTMs to 0.25",
            BEST,
            IMAGES,
        ),
    )
    found = []
    for tasks, pair in table.numbers.items():
        what, config = PRESETS[f"matching-{tasks}"]
        assert isinstance(config.method, MatchingNetMethod)
        whole = replace(config, method=replace(config.method, full_context=True))
        found.append(experiment_of(f"matching-fce-{tasks}", f"{what}, full context embeddings", whole, table, pair))
    return tuple(found)


EXPERIMENTS = (*(run for table in TABLES for run in experiments_of(table)), *_full_context())
"""The metric methods' runs."""
