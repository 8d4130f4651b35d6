"""The methods that a served model offers: those of its runs, and what is left of the first without meta-learning.

Each has words of its own on the page, and says whether it takes steps: a comparison with the samples has none to watch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fastadapt.errors import ConfigError
from fastadapt.methods.family_settings import ProtoMAMLMethod
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.sequence_settings import MANNMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.methods.transfer import Transfer
from fastadapt.runs.run_files import LoadedRun
from fastadapt.serve.heads import head_of

FINE_TUNE, NEAREST_MEAN = "fine-tune", "nearest-mean"

_ABOUT = {
    "maml": "gradient steps from an initialisation that was learned for exactly this",
    "fomaml": "gradient steps from an initialisation that was learned for this without second derivatives",
    "anil": "gradient steps of the last layer alone, on features that were learned for exactly this",
    "boil": "gradient steps of all but the last layer, from an initialisation that was learned for exactly this",
    "foml": "gradient steps from an initialisation that was learned for exactly this",
    "metasgd": "one gradient step at rates that were learned for each weight, from a start learned for exactly this",
    "mamlplusplus": "gradient steps at rates that were learned for each step, from a start learned for exactly this",
    "imaml": "gradient steps with a pull towards an initialisation that was learned for where they end",
    "protomaml": "gradient steps from the class means of the samples, in features that were learned for exactly this",
    "foprotomaml": "gradient steps from the class means of the samples, in features learned without second derivatives",
    "reptile": "gradient steps from an initialisation near every task's solution",
    "pretrain": "gradient steps from a network that was trained on all tasks at once",
    "finetune": "gradient steps of a fresh head on a classifier of all training classes",
    "nearest": "no steps: the most similar sample, seen by a classifier of all training classes",
    "protonet": "no steps: the class whose samples are nearest on average, in features that were learned for this",
    "matchingnet": "no steps: every sample votes for its class, by features that were learned for this",
    "siamesenet": "no steps: the sample that is most probably of the same class",
    "relationnet": "no steps: a network judges how alike a question and each class are",
    "adaptivesubspaces": "no steps: the class whose samples span the nearest subspace, in features learned for this",
    "snail": "no steps: attention over the samples and their labels, read as a sequence",
    "mann": "no steps: samples and labels are shown to a memory, which is asked",
    "lstm": "no steps: samples and labels are shown to an LSTM without a memory, which is asked",
    "neuralstatistician": "no steps: the class whose hidden context is nearest to that of the question alone",
    "memorymodule": "no steps: the samples are written to a memory, and the nearest of its keys answers",
    "metalstm": "steps of an optimizer that was learned, with the start it begins from",
    "metacurvature": "gradient steps that learned matrices transform, from an initialisation learned for this",
    "cavia": "gradient steps of a few numbers that steer a network, which itself stays as it was learned",
    "centroid": "no steps: the class whose samples are nearest on average, in features that others have trained",
    "nearestsample": "no steps: the class of the most similar sample, in features that others have trained",
    "ridge": "no steps: ridge regression from features that others have trained onto the classes, solved at once",
    "linearprobe": "no steps to watch: logistic regression on features that others have trained",
    "cosinehead": "no steps to watch: a direction for each class, fitted to features that others have trained",
    NEAREST_MEAN: "no steps: the class whose samples are nearest on average, seen by the trained network",
}
_FINE_TUNED = ("Fine-tuning", "the same gradient steps from a random start: what is left without meta-learning")
_UNTRAINED = {
    "metasgd": ("Fine-tuning", "gradient steps from a random start, at rates that nobody has trained yet"),
    "mamlplusplus": ("Fine-tuning", "gradient steps from a random start, at rates that nobody has trained yet"),
    "imaml": ("Fine-tuning", "the same gradient steps with a pull towards a random start"),
    "protomaml": ("Random features", "gradient steps from the class means, in features of random weights"),
    "metalstm": ("Untrained optimizer", "steps of such an optimizer before it was trained, from a random start"),
    "metacurvature": ("Fine-tuning", "gradient steps from a random start, which no matrix transforms yet"),
    "cavia": ("Untrained network", "the same steps of a few numbers, which steer a network of random weights"),
}
"""What a random start is where more than the start is learned, or it is no start of gradient steps on all weights."""


@dataclass(frozen=True)
class Method:
    """One way to adapt a model.

    Args:
        name: by which it is asked for.
        title: what people call it.
        about: what it does, in a few words.
        steps: whether it takes inner steps; else steps and a rate change nothing.
    """

    name: str
    title: str
    about: str
    steps: bool = True


def methods_of(run: LoadedRun, others: Sequence[LoadedRun]) -> tuple[tuple[Method, ...], dict[str, LoadedRun]]:
    """Return the methods that a run and others on the same tasks offer, and the others by the names of theirs.

    Raises:
        ConfigError: if two can't be told apart.
    """
    methods: list[Method] = []
    runs: dict[str, LoadedRun] = {}
    for each in (run, *others):
        kind, title = _kind(each), title_of(each)
        if (kind, each.name) in [(_kind(other), other.name) for other in runs.values()]:
            told = ", ".join(other.name for other in (run, *others))
            raise ConfigError(
                f"{told} use one method twice, {title} of {each.name}; leave one out, or rename its folder"
            )
        free = [word for word in (kind, title.lower()) if word not in runs]
        name = free[0] if free else f"{kind}-{each.name}"
        if title in [method.title for method in methods]:
            title = f"{title} ({each.name})"
        about = _ABOUT.get(title_of(each).lower(), _ABOUT.get(kind, "the method by which the model was trained"))
        methods.append(Method(name, title, about, steps_in(each)))
        runs[name] = each
    del runs[methods[0].name]
    return (*methods, *_without_learning(run)), runs


def _without_learning(run: LoadedRun) -> list[Method]:
    # a transfer baseline has no learned start of gradient steps to compare with
    if not isinstance(run.learner, GradientLearner) or isinstance(run.learner, Transfer):
        return []
    rest = [Method(FINE_TUNE, *_UNTRAINED.get(_kind(run), _FINE_TUNED))]
    if run.ways is not None and not run.config.embeds and head_of(run.learner.model) is not None:
        rest.append(Method(NEAREST_MEAN, "Nearest class mean", _ABOUT[NEAREST_MEAN], steps=False))
    return rest


def _kind(run: LoadedRun) -> str:
    return type(run.config.method).__name__.removesuffix("Method").lower()


def title_of(run: LoadedRun) -> str:
    """Return what people call the method of a run."""
    method = run.config.method
    if type(method) is MAMLMethod:
        variant = {"head": "ANIL", "body": "BOIL"}.get(" ".join(method.adapt))
        return variant or ("FOMAML" if method.meta_gradient == "first_order" else "MAML")
    if isinstance(method, MANNMethod) and method.slots is None:
        return "LSTM"
    if isinstance(method, ProtoMAMLMethod) and method.meta_gradient == "first_order":
        return "FOProtoMAML"
    return type(method).__name__.removesuffix("Method")


def steps_in(run: LoadedRun) -> bool:
    """Return whether a run's method takes inner steps."""
    stepping = isinstance(run.learner, GradientLearner)
    return stepping and not (isinstance(run.learner, Transfer) and run.learner.test_steps == 0)
