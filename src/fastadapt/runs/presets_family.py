"""The published settings of MAML's relatives. Sources are in the comments; every field can be overridden."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fastadapt.data.settings import MiniImageNetData, OmniglotData
from fastadapt.evaluation import Protocol
from fastadapt.methods.family_settings import IMAMLMethod, MAMLPlusPlusMethod, MetaSGDMethod, ProtoMAMLMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training

OMNIGLOT = {"5w1s": (5, 1), "5w5s": (5, 5), "20w1s": (20, 1), "20w5s": (20, 5)}
MINI_IMAGENET = {"5w1s": 1, "5w5s": 5}
_FOUR_BLOCKS = Conv4Net(down="max", pooled="flatten", affine="both")
_NO_NORMS = ("*", "!blocks.*.1.*")


def _meta_sgd(maml: RunConfig, name: str) -> RunConfig:
    # Li et al. 2017 (arXiv:1707.09835): MAML's networks and tasks, one inner step in training and at test, rates that
    # begin small, as drawn from U[0.005, 0.1], of a mean loss. Meta-batches, length and the split are those of MAML's
    # presets.
    return replace(
        maml,
        method=MetaSGDMethod(adapt=getattr(maml.method, "adapt", ("*",))),
        protocol=replace(maml.protocol, name=name, steps=1, report=None),
    )


def _imaml(maml: RunConfig, name: str, ways: int) -> RunConfig:
    # Rajeswaran et al. 2019 (arXiv:1909.04630): the networks and tasks of MAML, gradient descent in 16 steps of 0.1
    # (25 for 20 ways), lambda 2, 5 steps of conjugate gradients, 32 tasks, Adam 1e-3, 20 000 outer steps, features that
    # are flattened. There Adam's epsilon is 1e-3, and conjugate gradients are damped by 1 and divide by lambda and 10.
    steps = 16 if ways == 5 else 25
    return replace(
        maml,
        net=replace(maml.net, pooled="flatten"),  # type: ignore[call-arg]
        method=IMAMLMethod(steps=steps, test_steps=steps, adapt=getattr(maml.method, "adapt", ("*",))),
        training=replace(maml.training, steps=20_000, meta_batch=32, clip_value=None),
        protocol=replace(maml.protocol, name=name, steps=steps, report=None),
    )


def _mamlpp(name: str) -> RunConfig:
    # Antoniou et al. 2019 (arXiv:1810.09502) and the public code: 100 epochs of 500 steps of 8 tasks, five inner steps
    # from 0.1, Adam 1e-3 by a cosine to 1e-5, ten epochs of the multi-step loss, exact from the start, one query of
    # each class, ink dark, 600 validation tasks an epoch. Batch norm takes the statistics of the batch at test too,
    # those that it runs for each step are not used there. There the activation is a leaky ReLU, 1150 characters
    # train and 50 validate, the tasks of validation and test are not turned, and five checkpoints answer together:
    # fastadapt evaluate RUN --ensemble 5.
    ways, shots = OMNIGLOT[name]
    return RunConfig(
        data=OmniglotData(ways=ways, train_shots=shots, train_queries=1, shots=shots, queries=1, invert=False),
        net=_FOUR_BLOCKS,
        method=MAMLPlusPlusMethod(multi_step_epochs=10),
        training=Training(
            steps=50_000,
            meta_batch=8,
            lr=1e-3,
            schedule="cosine",
            final_lr=1e-5,
            validate_every=500,
            checkpoint_every=500,
            log_every=50,
            keep_best=5,
        ),
        protocol=Protocol(f"omniglot-{name}-mamlpp-v1", tasks=600, steps=5, norm="transductive"),
        validation_tasks=600,
    )


def _mamlpp_mini(name: str) -> RunConfig:
    # The same: 48 filters, 15 queries, 2 tasks a step, 15 epochs of the multi-step loss, each element of the
    # meta-gradient within 10, no annealing of the outer rate. The inner rates begin at 0.1, as the code does whatever
    # its configuration says. There images have the mean and deviation of ImageNet's taken out.
    shots = MINI_IMAGENET[name]
    omniglot = _mamlpp("5w1s")
    training = replace(omniglot.training, meta_batch=2, schedule="constant", final_lr=0.0, clip_value=10.0)
    return replace(
        omniglot,
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=replace(_FOUR_BLOCKS, width=48),
        method=MAMLPlusPlusMethod(),
        training=training,
        protocol=Protocol(f"mini-imagenet-{name}-mamlpp-v1", tasks=600, steps=5, norm="transductive"),
    )


def _boil_mini(name: str) -> RunConfig:
    # Oh et al. 2021 (arXiv:2008.08882) and the public code: 64 filters, one inner step of 0.5 of all but the head, a
    # mean loss, 4 tasks a step, 30 000 steps, 15 queries, 1000 test tasks.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=_FOUR_BLOCKS,
        method=MAMLMethod(inner_lr=0.5, adapt=("body",)),
        training=Training(steps=30_000, meta_batch=4, lr=1e-3, validate_every=1000, checkpoint_every=100, log_every=50),
        protocol=Protocol(f"mini-imagenet-{name}-boil-v1", tasks=1000, steps=1),
        validation_tasks=200,
    )


def _boil(name: str) -> RunConfig:
    # The same brought to Omniglot, which the paper does not have.
    ways, shots = OMNIGLOT[name]
    return replace(
        _boil_mini("5w1s"),
        data=OmniglotData(ways=ways, train_shots=shots, train_queries=15, shots=shots, queries=15),
        protocol=Protocol(f"omniglot-{name}-boil-v1", tasks=1000, steps=1),
    )


def _protomaml_mini(name: str) -> RunConfig:
    # Triantafillou et al. 2020 (arXiv:1903.03096) and the public code, first order from scratch: six inner steps of
    # 0.311, five more at test, Adam 7.18e-4 times 0.6478 every 2500 of 75 000 steps of one task. There a residual
    # network of 18 layers learns from ImageNet's tasks of many shapes; four blocks and tasks of one shape are ours.
    shots = MINI_IMAGENET[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots),
        net=_FOUR_BLOCKS,
        method=ProtoMAMLMethod(inner_lr=0.311, steps=6, test_steps=11),
        training=Training(
            steps=75_000,
            meta_batch=1,
            lr=7.18e-4,
            schedule="step",
            decay_every=2500,
            decay=0.6478,
            validate_every=500,
            checkpoint_every=500,
            log_every=100,
        ),
        protocol=Protocol(f"mini-imagenet-{name}-protomaml-v1", tasks=600, steps=11),
        validation_tasks=200,
    )


def _protomaml(name: str) -> RunConfig:
    # The same brought to Omniglot, of which Meta-Dataset has tasks of other shapes.
    ways, shots = OMNIGLOT[name]
    return replace(
        _protomaml_mini("5w1s"),
        data=OmniglotData(ways=ways, train_shots=shots, train_queries=5, shots=shots, queries=15),
        protocol=Protocol(f"omniglot-{name}-protomaml-v1", tasks=600, steps=11),
    )


def family_presets(known: Mapping[str, tuple[str, RunConfig]]) -> dict[str, tuple[str, RunConfig]]:
    """Return name -> (what it is, its configuration) for MAML's relatives.

    Args:
        known: the presets of MAML, from which some are made.
    """
    sinusoid = _meta_sgd(known["maml-sinusoid"][1], "sinusoid-k10-metasgd-v1")
    presets = {"metasgd-sinusoid": ("Meta-SGD on sinusoids, K=10", sinusoid)}
    sets = {"omniglot": ("Omniglot", OMNIGLOT), "mini-imagenet": ("mini-ImageNet", MINI_IMAGENET)}
    for data, (title, settings) in sets.items():
        photographs = data == "mini-imagenet"
        for name in settings:
            ways, shots = OMNIGLOT[name]
            words = f"{title}, {ways} ways, {shots} shot{'s' if shots > 1 else ''}"
            place, maml = f"{data}-{name}", known[f"maml-{data}-{name}"][1]
            made: dict[str, tuple[str, RunConfig]] = {
                "metasgd": ("Meta-SGD", _meta_sgd(maml, f"{place}-metasgd-v1")),
                "imaml": ("iMAML", _imaml(maml, f"{place}-imaml-v1", ways)),
                "mamlpp": ("MAML++", _mamlpp_mini(name) if photographs else _mamlpp(name)),
                "boil": ("BOIL (all but the head adapts)", _boil_mini(name) if photographs else _boil(name)),
                "protomaml": ("ProtoMAML", _protomaml_mini(name) if photographs else _protomaml(name)),
            }
            if photographs:  # inner rate, steps and iterations are MAML's, as for Omniglot
                anil: Any = replace(maml.method, adapt=("head",))  # type: ignore[call-arg]
                made["anil"] = ("ANIL (only the head adapts)", replace(maml, method=anil))
            first: Any = replace(made["protomaml"][1].method, meta_gradient="first_order")  # type: ignore[call-arg]
            made["foprotomaml"] = ("first-order ProtoMAML", replace(made["protomaml"][1], method=first))
            presets |= {f"{method}-{place}": (f"{told} on {words}", config) for method, (told, config) in made.items()}
    return presets


def _folder_mamlpp(maml: RunConfig) -> RunConfig:
    # the switches of the presets, and a tenth of the training as an epoch
    method = MAMLPlusPlusMethod(multi_step_epochs=2, epoch=1000, adapt=_NO_NORMS)
    net = Conv4Net(down="max", pooled="flatten" if maml.data.input["size"] <= 84 else "mean", affine="both")
    training = replace(maml.training, meta_batch=4, schedule="cosine", final_lr=1e-5)
    return replace(maml, net=net, method=method, training=training)


def _folder_boil(maml: RunConfig) -> RunConfig:
    method = MAMLMethod(inner_lr=0.5, adapt=("body",))
    return replace(maml, method=method, training=replace(maml.training, meta_batch=4))


def _folder_protomaml(maml: RunConfig) -> RunConfig:
    net = Conv4Net(down="max", pooled="flatten" if maml.data.input["size"] <= 84 else "mean", affine="both")
    return replace(maml, net=net, method=ProtoMAMLMethod(inner_lr=0.1), training=replace(maml.training, meta_batch=4))


FOLDER: dict[str, tuple[Callable[[RunConfig], RunConfig], int]] = {
    "anil": (lambda maml: replace(maml, method=replace(maml.method, adapt=("head",))), 10),  # type: ignore[call-arg]
    "boil": (_folder_boil, 1),
    "metasgd": (lambda maml: _meta_sgd(maml, ""), 1),
    "mamlpp": (_folder_mamlpp, 5),
    "protomaml": (_folder_protomaml, 5),
}
"""By the name of the option: from MAML's settings for a folder to those of the method, and the inner steps at test."""


def folder_family(method: str, maml: RunConfig, name: str) -> RunConfig:
    """Return the configuration of a run on a folder by a relative of MAML, made from that by MAML."""
    made, steps = FOLDER[method]
    report = maml.protocol.report if method == "anil" else None
    protocol = replace(maml.protocol, name=f"{name}-{method}-v1", steps=steps, report=report)
    return replace(made(maml), protocol=protocol)
