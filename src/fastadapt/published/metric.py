"""The rows of the metric methods."""

from dataclasses import replace

from fastadapt.methods.metric_settings import MatchingNetMethod
from fastadapt.published.experiment import Experiment
from fastadapt.published.table import BEST, FINN, IMAGES, RAVI, Table, experiment_of, experiments_of
from fastadapt.runs.presets import PRESETS

VINYALS = f"Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016 (arXiv:1606.04080), quoted in {FINN}"
SNELL = "Snell, Swersky, Zemel 2017 (arXiv:1703.05175)"
SUNG = "Sung, Yang, Zhang, Xiang, Torr, Hospedales 2018 (arXiv:1711.06025)"
SIMON = "Simon, Koniusz, Nock, Harandi 2020 (CVPR); its numbers with four blocks are not published here, as unconfirmed"

OURS = "the paper gives no rate, batch or length for this row; these are ours"
CHARACTERS = "100 of the 1,200 training characters validate, and another shuffle than the paper's divides them"

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
