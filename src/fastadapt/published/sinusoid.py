"""The sine-wave runs: Figures 2 and 3 of the MAML paper, its table of baselines, and Reptile's study."""

from dataclasses import replace

from fastadapt.evaluation import Protocol
from fastadapt.methods.settings import MAMLMethod
from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS

MAML = "Finn, Abbeel, Levine 2017 (arXiv:1703.03400)"
TABLE = f"{MAML}, table of the 5-shot sine-wave ablation"
REPTILE = "Nichol, Achiam, Schulman 2018 (arXiv:1803.02999)"
RATES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1)
"""What the step size of fine-tuning is chosen from, on validation tasks."""
STRENGTHS = {"none": 0.0, "zero": 1e-2, "mean": 3e-2}
"""Of the pull on regressors: as strong as it can be without keeping them from their waves."""
DENSE = "test tasks are judged on a grid of 100 points, the code's on K new ones: the same mean with less noise"
UNKNOWN_K = "the paper does not say whether the network of its 5-shot table trained with K = 5 or 10: both are here"


def _shots(published: dict[int, float] | None = None, steps: int = 10) -> tuple[Measurement, ...]:
    """Return the measurements with 5, 10 and 20 points; `published` are the errors after so many steps on 5."""
    claims = {step: Claim(value, source=TABLE) for step, value in (published or {}).items()}
    return tuple(
        Measurement(
            f"K={k}",
            Protocol(f"sinusoid-k{k}-v1", tasks=600, steps=steps, ddof=0),
            data={"shots": k},
            claims=claims if k == 5 else {},
        )
        for k in (5, 10, 20)
    )


def _preset(name: str) -> RunConfig:
    # The curves are for monitoring; the last weights are the result, as in the paper.
    config = PRESETS[name][1]
    return replace(config, export="last", training=replace(config.training, validate_every=10_000))


def _experiments() -> tuple[Experiment, ...]:
    maml = _preset("maml-sinusoid")
    five = replace(maml, data=replace(maml.data, train_shots=5, train_queries=5))  # type: ignore[call-arg]
    published = {1: 0.67, 5: 0.38, 10: 0.35}
    pretrain = _preset("pretrain-sinusoid")
    reptile = _preset("reptile-sinusoid")
    circle = replace(
        maml,
        data=replace(reptile.data, train_shots=10, train_queries=10),  # type: ignore[call-arg]
        net=reptile.net,
        method=MAMLMethod(inner_lr=0.02, steps=5, test_steps=32),
        training=replace(maml.training, steps=30_000),
        protocol=reptile.protocol,
    )
    multitask = {"none": (4.19, 3.85, 3.69), "zero": (7.18, 5.69, 5.60), "mean": (2.91, 2.72, 2.71)}
    words = {"none": "no regularisation", "zero": "l2 towards zero", "mean": "l2 towards the mean of those before"}
    return (
        Experiment(
            "maml-sinusoid",
            "MAML trained with 10 points",
            maml,
            _shots(published),
            MAML,
            differs=(DENSE, UNKNOWN_K),
            figure="sinusoid",
        ),
        Experiment(
            "maml-sinusoid-k5",
            "MAML trained with 5 points",
            five,
            _shots(published),
            MAML,
            differs=(DENSE, UNKNOWN_K),
            figure="sinusoid",
        ),
        Experiment(
            "fomaml-sinusoid",
            "first-order MAML trained with 10 points",
            _preset("fomaml-sinusoid"),
            _shots(),
            MAML,
            differs=(DENSE, "the paper has no first-order row for sine waves"),
            figure="sinusoid",
        ),
        Experiment(
            "pretrain-sinusoid",
            "one network pretrained on all waves, then fine-tuned",
            pretrain,
            _shots({1: 2.41, 5: 2.23, 10: 2.19}),
            MAML,
            differs=(DENSE, "the step size is the best of seven on 200 validation tasks, for each K"),
            rates=RATES,
            figure="sinusoid",
        ),
        Experiment(
            "oracle-sinusoid",
            "a network that is told height and phase",
            _preset("oracle-sinusoid"),
            _shots(steps=0),
            MAML,
            differs=(DENSE,),
            figure="sinusoid",
        ),
        *(
            Experiment(
                f"multitask-{kind}-sinusoid",
                f"the mean of 500 regressors of one wave each, {words[kind]}, then fine-tuned",
                pretrain,
                _shots(dict(zip((1, 5, 10), values, strict=True))),
                f"{MAML}, appendix C.1",
                version=2,
                differs=(
                    DENSE,
                    "the paper gives neither the regularisation's weight nor the step size of fine-tuning: the weight "
                    "is the highest at which no fewer regressors learn their wave than without (benchmarks/published/"
                    "causes.py), the step size the best of seven on 200 validation tasks",
                ),
                rates=RATES,
                averages={"tasks": 500, "points": 100, "pull": kind, "strength": STRENGTHS[kind], "threshold": 0.02},
            )
            for kind, values in multitask.items()
        ),
        Experiment(
            "reptile-sinusoid",
            "Reptile on waves with phases over the whole circle",
            reptile,
            (Measurement("K=10", reptile.protocol),),
            f"{REPTILE}, the sine-wave study",
            differs=("rates, 50 training points and the length follow a short public implementation",),
        ),
        Experiment(
            "maml-sinusoid-circle",
            "MAML on Reptile's waves, with phases over the whole circle",
            circle,
            (Measurement("K=10", circle.protocol),),
            f"{REPTILE}, the sine-wave study",
            differs=("the paper does not say how its MAML was trained: five inner steps of Reptile's rate, and Adam",),
        ),
    )


EXPERIMENTS = _experiments()
"""The sine-wave runs."""
