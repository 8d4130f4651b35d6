"""The published settings on photographs. Sources are in the comments; every field can be overridden."""

from dataclasses import replace

from fastadapt.data.settings import MiniImageNetData
from fastadapt.evaluation import Protocol
from fastadapt.methods.settings import MAMLMethod, ReptileMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training

_SHOTS = {"5w1s": 1, "5w5s": 5}


def _maml(name: str) -> RunConfig:
    # Finn et al. 2017 (arXiv:1703.03400), section 5.2 and the public code: 32 filters, 2x2 max-pooling,
    # 5 inner steps in training and 10 at test, 15 queries for each class in training and K at test, 4 tasks a step for
    # 1 shot and 2 for 5. The inner loss is a sum over classes, so 0.01 there is 0.05 with a mean. The outer loss there
    # is a sum over all queries divided by K, 75 / K times the mean, and each element of its gradient is kept within 10.
    shots = _SHOTS[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=shots, train_queries=15, shots=shots, queries=shots),
        net=Conv4Net(width=32, down="max", pooled="flatten"),
        method=MAMLMethod(
            inner_lr=0.01, loss_reduction="sum_over_classes", steps=5, test_steps=10, adapt=("*", "!blocks.*.1.*")
        ),
        training=Training(
            steps=60_000,
            meta_batch=4 if shots == 1 else 2,
            lr=1e-3,
            clip_value=10 * shots / 75,
            validate_every=1000,
            checkpoint_every=100,
            log_every=50,
        ),
        protocol=Protocol(f"mini-imagenet-{name}-v1", tasks=600, steps=10, ddof=0),
        validation_tasks=200,
    )


def _reptile(name: str) -> RunConfig:
    # Nichol et al. 2018 (arXiv:1803.02999), the commands of the public code; 600 tasks test rather than 10 000.
    # Its pooling keeps the odd row and column: 84, 42, 21, 11, 6.
    shots = _SHOTS[name]
    return RunConfig(
        data=MiniImageNetData(train_shots=15, train_queries=0, shots=shots, queries=1),
        net=Conv4Net(width=32, down="max_same", pooled="flatten", affine="both"),
        method=ReptileMethod(inner_lr=1e-3, steps=8, batch=10, test_batch=5 if shots == 1 else 15),
        training=Training(
            steps=100_000,
            meta_batch=5,
            optimizer="sgd",
            lr=1.0,
            schedule="linear",
            validate_every=2000,
            checkpoint_every=100,
            log_every=50,
        ),
        protocol=Protocol(f"mini-imagenet-{name}-reptile-v1", tasks=600, steps=50, ddof=0),
        validation_tasks=50,
        export="last",
    )


def mini_imagenet_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return name -> (what it is, its configuration) for mini-ImageNet."""
    presets = {}
    for name, shots in _SHOTS.items():
        words = f"mini-ImageNet, 5 ways, {shots} shot{'s' if shots > 1 else ''}"
        maml = _maml(name)
        presets[f"maml-mini-imagenet-{name}"] = (f"MAML on {words}", maml)
        first = replace(maml.method, meta_gradient="first_order")  # type: ignore[call-arg]
        presets[f"fomaml-mini-imagenet-{name}"] = (f"first-order MAML on {words}", replace(maml, method=first))
        presets[f"reptile-mini-imagenet-{name}"] = (f"Reptile on {words}", _reptile(name))
    return presets
