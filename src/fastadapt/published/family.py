"""The rows of MAML's relatives: learned rates and rules, other ways to differentiate, other parts that adapt."""

from dataclasses import replace

from fastadapt.published.experiment import Experiment, Measurement
from fastadapt.published.table import BEST, CHOSEN, IMAGES, RAVI, Pair, Table, claim_of, experiment_of, experiments_of
from fastadapt.runs.presets import PRESETS

LI = "Li, Zhou, Chen, Li 2017 (arXiv:1707.09835)"
ANTONIOU = "Antoniou, Edwards, Storkey 2019 (arXiv:1810.09502)"
RAJESWARAN = "Rajeswaran, Finn, Kakade, Levine 2019 (arXiv:1909.04630)"
RAGHU = "Raghu, Raghu, Bengio, Vinyals 2020 (arXiv:1909.09157), table of MAML and ANIL"
OH = "Oh, Yoo, Kim, Yun 2021 (arXiv:2008.08882), table with four blocks"
ZINTGRAF = "Zintgraf, Shiarlis, Kurin, Hofmann, Whiteson 2019 (arXiv:1810.03642), mini-ImageNet table"
PARK = "Park, Oliva 2019 (arXiv:1902.03356); its numbers are not published here, as unconfirmed"
TRIANTAFILLOU = (
    "Triantafillou et al. 2020 (arXiv:1903.03096); its numbers are of Meta-Dataset, so none are published here"
)

AS_MAML = "meta-batch, length, network and split are those of MAML's runs here"
OURS_HERE = "four blocks and tasks of one shape, the paper has a residual network and tasks of many"
MEMBERS = 5
"""Checkpoints that answer together in MAML++'s published numbers."""
_PHOTOGRAPHS = (IMAGES, "the mean of ImageNet's pixels is not taken out")
_CHARACTERS = ("test characters are turned too",)
_OMNIGLOT = ("omniglot-5w1s", "omniglot-5w5s", "omniglot-20w1s", "omniglot-20w5s")
_MINI = ("mini-imagenet-5w1s", "mini-imagenet-5w5s")

TABLES = (
    Table(
        "metasgd",
        {
            "omniglot-5w1s": (99.53, 0.26),
            "omniglot-5w5s": (99.93, 0.09),
            "omniglot-20w1s": (95.9, None),
            "omniglot-20w5s": (99.0, None),
        },
        f"{LI}, Omniglot table",
        "transductive, as many queries as shots",
        (AS_MAML, "how the paper's batch norm is used at test is not known here", CHOSEN, BEST),
    ),
    Table(
        "metasgd",
        {"mini-imagenet-5w1s": (50.47, 1.87), "mini-imagenet-5w5s": (64.03, 0.94)},
        f"{LI}, mini-ImageNet table",
        "transductive, as many queries as shots",
        (AS_MAML, "how the paper's batch norm is used at test is not known here", CHOSEN, BEST, IMAGES),
    ),
    Table(
        "imaml",
        {
            "omniglot-5w1s": (99.16, 0.35),
            "omniglot-5w5s": (99.67, 0.12),
            "omniglot-20w1s": (94.46, 0.42),
            "omniglot-20w5s": (98.69, 0.1),
        },
        f"{RAJESWARAN}, Omniglot table, with gradient descent inside",
        "transductive, as many queries as shots",
        (
            "the pull towards the start is in every inner step and at test too; the code adds it in one step behind "
            "the others, and tests without",
            "the linear system is the paper's, the code's has 10 more under the Hessian",
            CHOSEN,
            BEST,
        ),
    ),
    Table(
        "imaml",
        {"mini-imagenet-5w1s": (48.96, 1.84), "mini-imagenet-5w5s": None},
        f"{RAJESWARAN}, mini-ImageNet table, with gradient descent inside",
        "transductive, as many queries as shots",
        ("the paper's settings for photographs are not known here; those of its characters are taken", BEST, IMAGES),
    ),
    Table(
        "anil",
        {
            "omniglot-5w1s": None,
            "omniglot-5w5s": None,
            "omniglot-20w1s": (96.2, 0.5),
            "omniglot-20w5s": (98.0, 0.3),
        },
        RAGHU,
        "transductive, as many queries as shots",
        ("inner rate, steps and length are those of MAML's runs here", CHOSEN, BEST),
        "standard deviation over trainings, probably (the paper does not say)",
    ),
    Table(
        "anil",
        {"mini-imagenet-5w1s": (46.7, 0.4), "mini-imagenet-5w5s": (61.5, 0.5)},
        RAGHU,
        "transductive, as many queries as shots",
        ("inner rate, steps and length are those of MAML's runs here", CHOSEN, BEST, IMAGES),
        "standard deviation over trainings, probably (the paper does not say)",
    ),
    Table(
        "boil",
        {"mini-imagenet-5w1s": (49.61, 0.16), "mini-imagenet-5w5s": (66.45, 0.37)},
        OH,
        "transductive, 15 queries",
        ("a later library could not reach the 5-shot number with these settings (64.39)", CHOSEN, BEST, IMAGES),
        "standard deviation over five trainings",
    ),
    Table(
        "cavia",
        {"mini-imagenet-5w1s": (47.24, 0.65), "mini-imagenet-5w5s": (59.05, 0.54)},
        f"{ZINTGRAF}, 32 filters",
        "transductive, 15 queries",
        (
            "blocks pool last, the code's ahead of scale, shift and ReLU; first weights are others",
            CHOSEN,
            BEST,
            IMAGES,
        ),
    ),
    Table(
        "meta-lstm",
        {"mini-imagenet-5w1s": (43.44, 0.77), "mini-imagenet-5w5s": (60.60, 0.71)},
        RAVI,
        "not transductive, 15 queries",
        (
            "queries are normalised by the support set at its last weights, in the code by running moments that it "
            "has filled during the steps",
            BEST,
            IMAGES,
        ),
    ),
    Table(
        "meta-curvature",
        dict.fromkeys(_OMNIGLOT[:2]),
        PARK,
        "transductive, as many queries as shots",
        ("the public code multiplies gradients number by number, the matrices are the paper's", AS_MAML, BEST),
    ),
    *(
        Table(method, dict.fromkeys(tasks), TRIANTAFILLOU, "not transductive, 15 queries", (OURS_HERE, BEST, *more))
        for method in ("protomaml", "foprotomaml")
        for tasks, more in ((_OMNIGLOT, ()), (_MINI, (IMAGES,)))
    ),
)
"""The published rows."""

TOGETHER: dict[str, tuple[Pair, str]] = {
    "omniglot-5w1s": ((99.47, None), f"{ANTONIOU}, README of its public code"),
    "omniglot-5w5s": ((99.93, None), f"{ANTONIOU}, README of its public code"),
    "omniglot-20w1s": ((97.65, None), f"{ANTONIOU}, Omniglot table"),
    "omniglot-20w5s": ((99.33, None), f"{ANTONIOU}, Omniglot table"),
    "mini-imagenet-5w1s": ((52.15, 0.26), f"{ANTONIOU}, mini-ImageNet table"),
    "mini-imagenet-5w5s": ((68.32, 0.44), f"{ANTONIOU}, mini-ImageNet table"),
}
"""What MAML++ is published with: five checkpoints that answer together."""
WIDER: dict[int, dict[str, Pair]] = {
    128: {"mini-imagenet-5w1s": (49.84, 0.68), "mini-imagenet-5w5s": (64.63, 0.54)},
    512: {"mini-imagenet-5w1s": (51.82, 0.65), "mini-imagenet-5w5s": (65.85, 0.55)},
}
"""CAVIA's rows with more filters."""


def _together(tasks: str, pair: Pair, source: str) -> Experiment:
    what, config = PRESETS[f"mamlpp-{tasks}"]
    photographs, steps = tasks.startswith("mini"), config.protocol.steps or 0
    queries = "15 queries" if photographs else "1 query"
    joint = replace(config.protocol, name=f"{config.protocol.name}, ensemble of {MEMBERS} checkpoints")
    claims = {steps: claim_of(pair, source, "standard deviation over three trainings")}
    return Experiment(
        f"mamlpp-{tasks}",
        what,
        config,
        (
            Measurement(f"{MEMBERS} checkpoints, transductive, {queries}", joint, claims=claims, ensemble=MEMBERS),
            Measurement(f"transductive, {queries}", config.protocol),
        ),
        source,
        differs=("ReLU in place of a leaky ReLU", *(_PHOTOGRAPHS if photographs else _CHARACTERS), BEST),
    )


def _wider(width: int, tasks: str, pair: Pair) -> Experiment:
    what, config = PRESETS[f"cavia-{tasks}"]
    table = replace(next(t for t in TABLES if t.method == "cavia"), source=f"{ZINTGRAF}, {width} filters")
    name, wide = f"cavia-{width}-{tasks}", replace(config, net=replace(config.net, width=width))  # type: ignore[call-arg]
    return experiment_of(name, f"{what}, {width} filters", wide, table, pair)


EXPERIMENTS = (
    *(run for table in TABLES for run in experiments_of(table)),
    *(_together(tasks, *row) for tasks, row in TOGETHER.items()),
    *(_wider(width, tasks, pair) for width, rows in WIDER.items() for tasks, pair in rows.items()),
)
"""The runs of MAML's relatives."""
