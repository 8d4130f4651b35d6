"""The published settings, by name. Sources are in the comments; every field can be overridden."""

from dataclasses import replace

from fastadapt.data.settings import OmniglotData, SinusoidData
from fastadapt.evaluation import Protocol
from fastadapt.methods.settings import FineTuneMethod, MAMLMethod, NearestMethod, PretrainMethod, ReptileMethod
from fastadapt.nets.settings import Conv4Net, MLPNet
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets_faces import face_presets
from fastadapt.runs.presets_family import family_presets
from fastadapt.runs.presets_images import mini_imagenet_presets
from fastadapt.runs.presets_metric import metric_presets
from fastadapt.runs.presets_policies import policy_presets
from fastadapt.runs.presets_rules import rule_presets
from fastadapt.runs.presets_sequence import sequence_presets
from fastadapt.runs.presets_sets import set_presets
from fastadapt.training.settings import Training


def _sinusoid() -> dict[str, tuple[str, RunConfig]]:
    # Finn et al. 2017 (arXiv:1703.03400), section 5.1: K = 10, one inner step of 0.01, Adam, 70 000 iterations.
    protocol = Protocol("sinusoid-k10-v1", tasks=600, steps=10, ddof=0)
    training = Training(steps=70_000, meta_batch=25, lr=1e-3, validate_every=5000, checkpoint_every=1000, log_every=500)
    maml = RunConfig(
        data=SinusoidData(),
        net=MLPNet(),
        method=MAMLMethod(inner_lr=0.01, steps=1, test_steps=10),
        training=training,
        protocol=protocol,
        validation_tasks=200,
    )
    # Nichol et al. 2018 (arXiv:1803.02999), the sine-wave study: phases over the whole circle, 64-64 units, 32 test
    # steps. Rates, tanh, the 50 points and the length follow a short public implementation, not the paper.
    reptile = replace(
        maml,
        data=SinusoidData(family="reptile", train_shots=50, train_queries=0),
        net=MLPNet(hidden=(64, 64), activation="tanh", init_std=None),
        method=ReptileMethod(
            inner_lr=0.02, inner_rule="sgd", steps=5, batch=10, test_steps=32, test_batch=None, inner_state="reset"
        ),
        training=replace(training, steps=30_000, meta_batch=1, optimizer="sgd", lr=0.1, schedule="linear"),
        protocol=Protocol("sinusoid-reptile-k10-v1", tasks=600, steps=32, ddof=0),
        export="last",
    )
    pretrain = replace(maml, method=PretrainMethod(inner_lr=0.02, test_steps=10))
    oracle = replace(
        maml,
        data=SinusoidData(oracle=True),
        method=PretrainMethod(inner_lr=0.0, test_steps=0),
        protocol=replace(protocol, name="sinusoid-oracle-v1", steps=0),
    )
    return {
        "maml-sinusoid": ("MAML on sinusoids, K=10, as in Figure 3", maml),
        "fomaml-sinusoid": (
            "first-order MAML on sinusoids",
            replace(maml, method=replace(maml.method, meta_gradient="first_order")),
        ),
        "reptile-sinusoid": ("Reptile on sinusoids with phases over the whole circle", reptile),
        "pretrain-sinusoid": ("joint pretraining on sinusoids, then fine-tuning", pretrain),
        "oracle-sinusoid": ("a network that is told height and phase", oracle),
    }


# The settings that vary over the columns of the Omniglot tables: ways, shots.
SETTINGS = {"5w1s": (5, 1), "5w5s": (5, 5), "20w1s": (20, 1), "20w5s": (20, 5)}


def _maml_omniglot(name: str) -> RunConfig:
    # Finn et al. 2017, section 5.2 and the public code: the inner loss is a sum over classes, so 0.4 there is 2.0
    # with a mean; batch norm has a shift that the inner loop leaves alone; 60 000 iterations. Unlike there, the
    # head starts from Glorot's range instead of N(0, 1), and the best validated weights are exported.
    ways, shots = SETTINGS[name]
    five = ways == 5
    return RunConfig(
        data=OmniglotData(ways=ways, train_shots=shots, train_queries=shots, shots=shots, queries=shots),
        net=Conv4Net(),
        method=MAMLMethod(
            inner_lr=0.4 if five else 0.1,
            loss_reduction="sum_over_classes",
            steps=1 if five else 5,
            test_steps=3 if five else 5,
            adapt=("*", "!blocks.*.1.*"),
        ),
        training=Training(
            steps=60_000, meta_batch=32 if five else 16, lr=1e-3, validate_every=500, checkpoint_every=100, log_every=50
        ),
        protocol=Protocol(f"omniglot-{name}-v1", tasks=600, steps=10, ddof=0, report=3 if five else 5),
        validation_tasks=200,
    )


def _reptile_omniglot(name: str) -> RunConfig:
    # Nichol et al. 2018, the commands of the public code. 100 of its 1200 training characters validate here, and
    # 600 tasks test rather than 10 000.
    ways, shots = SETTINGS[name]
    five = ways == 5
    return RunConfig(
        data=OmniglotData(
            ways=ways,
            train_shots=10,
            train_queries=0,
            shots=shots,
            queries=1,
            rotation="none",
            rotated_classes=True,
            invert=False,
            resize="nearest",
        ),
        net=Conv4Net(pooled="flatten", affine="both"),
        method=ReptileMethod(
            inner_lr=1e-3 if five else 5e-4,
            steps=5 if five else 10,
            batch=10 if five else 20,
            test_batch=5 if five else 10,
        ),
        training=Training(
            steps=100_000 if five else 200_000,
            meta_batch=5,
            optimizer="sgd",
            lr=1.0,
            schedule="linear",
            validate_every=1000,
            checkpoint_every=100,
            log_every=50,
        ),
        protocol=Protocol(f"omniglot-{name}-reptile-v1", tasks=600, steps=50, ddof=0),
        validation_tasks=50,
        export="last",
    )


def _transfer_omniglot(name: str) -> dict[str, tuple[str, RunConfig]]:
    # Ravi, Larochelle 2017 and their public code, brought from mini-ImageNet to Omniglot: four pooled blocks of 64
    # filters, Adam 1e-3, 30 000 batches of 64 images, 15 updates of fine-tuning. Each quarter turn of a training
    # character is a class, as the classes of test tasks are turned; these are the tasks of the MAML presets.
    ways, shots = SETTINGS[name]
    words = f"Omniglot, {ways} ways, {shots} shot{'s' if shots > 1 else ''}"
    nearest = RunConfig(
        data=OmniglotData(ways=ways, shots=shots, queries=shots, rotated_classes=True, flat_batch=64),
        net=Conv4Net(down="max", pooled="flatten", affine="both"),
        method=NearestMethod(),
        training=Training(
            steps=30_000, meta_batch=1, lr=1e-3, validate_every=2000, checkpoint_every=500, log_every=100
        ),
        protocol=Protocol(f"omniglot-{name}-nearest-v1", tasks=600, steps=0),
    )
    tuned = Protocol(f"omniglot-{name}-finetune-v1", tasks=600, steps=15)
    return {
        f"finetune-omniglot-{name}": (
            f"a classifier of all characters, fine-tuned on {words}",
            replace(nearest, method=FineTuneMethod(), protocol=tuned),
        ),
        f"nearest-omniglot-{name}": (f"nearest neighbour on the features of a classifier, {words}", nearest),
    }


def _omniglot() -> dict[str, tuple[str, RunConfig]]:
    presets = {}
    for name, (ways, shots) in SETTINGS.items():
        words = f"Omniglot, {ways} ways, {shots} shot{'s' if shots > 1 else ''}"
        maml = _maml_omniglot(name)
        presets[f"maml-omniglot-{name}"] = (f"MAML on {words}", maml)
        first = replace(maml.method, meta_gradient="first_order")  # type: ignore[call-arg]
        presets[f"fomaml-omniglot-{name}"] = (f"first-order MAML on {words}", replace(maml, method=first))
        anil = replace(maml.method, adapt=("head",))  # type: ignore[call-arg]
        presets[f"anil-omniglot-{name}"] = (f"ANIL (only the head adapts) on {words}", replace(maml, method=anil))
        presets[f"reptile-omniglot-{name}"] = (f"Reptile on {words}", _reptile_omniglot(name))
        presets |= _transfer_omniglot(name)
    for name in ("5w1s", "5w5s"):
        maml = _maml_omniglot(name)
        dense = replace(
            maml,
            net=MLPNet(hidden=(256, 128, 64, 64), norm=True),
            method=replace(
                maml.method,
                adapt=("body.*.weight", "body.*.bias", "head.*", "!body.1.*", "!body.4.*", "!body.7.*", "!body.10.*"),
            ),  # type: ignore[call-arg]
        )
        presets[f"maml-omniglot-noconv-{name}"] = (f"MAML without convolutions on Omniglot {name}", dense)
    return presets


_MAML = {**_sinusoid(), **_omniglot(), **mini_imagenet_presets()}
PRESETS: dict[str, tuple[str, RunConfig]] = {
    **_MAML,
    **family_presets(_MAML),
    **metric_presets(),
    **sequence_presets(),
    **set_presets(),
    **policy_presets(),
    **rule_presets(),
    **face_presets(),
}
"""Name -> (what it is, its configuration)."""
