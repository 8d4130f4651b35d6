"""A run as data: frozen dataclasses that are validated when built and survive a trip through JSON.

`RunConfig` is complete: with it alone a run can be repeated. The kinds of data, network and method are
told apart in JSON by their class name under "kind".
"""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import nn

from fastadapt.data.classes import Rotation
from fastadapt.data.omniglot import Resize, omniglot_tasks
from fastadapt.data.omniglot_splits import OmniglotSplit
from fastadapt.data.sinusoid import Sinusoid
from fastadapt.engine import Route
from fastadapt.errors import ConfigError
from fastadapt.evaluate import Protocol
from fastadapt.inner import MetaGradient
from fastadapt.learner import Learner
from fastadapt.losses import MSE, CrossEntropy, Loss, Reduction
from fastadapt.methods.maml import MAML
from fastadapt.methods.pretrain import Pretrain
from fastadapt.methods.reptile import InnerState, Reptile
from fastadapt.nets.conv4 import Conv4
from fastadapt.nets.mlp import MLP
from fastadapt.norm import Norm
from fastadapt.rules import SGD, Adam, Clip, Momentum, Rule
from fastadapt.tasks import TaskSource
from fastadapt.training import Training

Part = Literal["train", "val", "test"]


@dataclass(frozen=True)
class SinusoidData:
    """Waves of unknown height and phase."""

    family: Literal["maml", "reptile"] = "maml"
    """MAML: A sin(x - phi), phi in [0, pi]; Reptile: a sin(x + b), b in [0, 2 pi]."""
    train_shots: int = 10
    """Support points K of a training task."""
    train_queries: int = 10
    """Query points of a training task; Reptile uses none."""
    shots: int = 10
    """Support points K of a test task."""
    queries: int = 100
    """Points of the grid over [-5, 5] on which a test task is judged."""
    oracle: bool = False
    """Give the network height and phase as further inputs."""

    def source(self, part: Part, root: Path | None = None, cached: Any = None) -> TaskSource:
        """Return the source of training or test tasks."""
        if part == "train":
            return Sinusoid(self.family, self.train_shots, self.train_queries, oracle=self.oracle)
        return Sinusoid(self.family, self.shots, self.queries, oracle=self.oracle, grid=True)

    def load(self, root: Path | None = None) -> None:
        """Return nothing: the waves are made, not read."""

    @property
    def loss(self) -> Loss:
        """Mean squared error."""
        return MSE()

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading a user's own data."""
        return {"kind": "points", "inputs": 3 if self.oracle else 1, "outputs": 1}

    ways: None = None


@dataclass(frozen=True)
class OmniglotData:
    """Characters of 50 alphabets, 20 drawings each."""

    ways: int = 5
    """Classes of a task, N."""
    train_shots: int = 1
    """Support images for each class of a training task."""
    train_queries: int = 1
    """Query images for each class of a training task."""
    shots: int = 1
    """Support images for each class of a test task, K."""
    queries: int = 1
    """Query images for each class of a test task."""
    split: OmniglotSplit = "1100/100/423"
    """Which characters train, validate and test."""
    split_seed: int = 1
    """Seed of the shuffle behind that split."""
    rotation: Rotation = "per_class"
    """Turn the classes of a task by random multiples of 90 degrees (MAML)."""
    rotated_classes: bool = False
    """Make each quarter turn of a training character a class of its own (Reptile)."""
    invert: bool = True
    """Ink is 1 and paper 0 (MAML); otherwise ink is 0 (Reptile)."""
    resize: Resize = "lanczos"
    """How drawings are brought to 28x28."""

    def load(self, root: Path | None = None) -> Any:
        """Read the data set once; pass the result to `source` as `cached`."""
        from fastadapt.data.omniglot import load_omniglot

        return load_omniglot(root, resize=self.resize)

    def source(self, part: Part, root: Path | None = None, cached: Any = None) -> TaskSource:
        """Return the source of training, validation or test tasks."""
        training = part == "train"
        return omniglot_tasks(
            part,
            cached,
            split=self.split,
            seed=self.split_seed,
            ways=self.ways,
            shots=self.train_shots if training else self.shots,
            queries=self.train_queries if training else self.queries,
            rotation=self.rotation,
            rotated_classes=self.rotated_classes and training,
            invert=self.invert,
            root=root,
            resize=self.resize,
        )

    @property
    def loss(self) -> Loss:
        """Cross-entropy."""
        return CrossEntropy()

    @property
    def input(self) -> dict[str, Any]:
        """What one input is, for reading a user's own data."""
        return {"kind": "image", "size": 28, "channels": 1, "invert": self.invert, "resize": self.resize}


@dataclass(frozen=True)
class MLPNet:
    """A fully connected network."""

    hidden: tuple[int, ...] = (40, 40)
    """Widths of the hidden layers."""
    activation: Literal["relu", "tanh", "softplus"] = "relu"
    """What follows each hidden layer."""
    norm: bool = False
    """Put a batch norm before each activation."""
    init_std: float | None = 0.01
    """Standard deviation of the weights' truncated normal; None is PyTorch's own."""

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        shape = data.input
        inputs = shape["inputs"] if shape["kind"] == "points" else shape["size"] ** 2 * shape["channels"]
        outputs = shape["outputs"] if shape["kind"] == "points" else data.ways
        rest = {"activation": self.activation, "norm": self.norm, "init_std": self.init_std}
        return {"name": "MLP", "arguments": {"inputs": inputs, "hidden": list(self.hidden), "outputs": outputs, **rest}}


@dataclass(frozen=True)
class Conv4Net:
    """Four convolution blocks."""

    width: int = 64
    """Filters of each block."""
    down: Literal["stride", "max"] = "stride"
    """Halve the map by stride 2 or by max-pooling."""
    pooled: Literal["mean", "flatten"] = "mean"
    """What the linear head sees of the last map."""
    affine: Literal["shift", "both"] = "shift"
    """Learned parameters of the batch norm."""
    head_std: float | None = None
    """Standard deviation of the head's initialisation; None is Glorot."""

    def describe(self, data: Any) -> dict[str, Any]:
        """Return name and arguments of the network for `data`."""
        shape = data.input
        if shape["kind"] != "image":
            raise ConfigError("Conv4 needs images; choose MLPNet for points")
        sizes = {"channels": shape["channels"], "width": self.width, "ways": data.ways, "size": shape["size"]}
        rest = {"down": self.down, "pooled": self.pooled, "affine": self.affine, "head_std": self.head_std}
        return {"name": "Conv4", "arguments": {**sizes, **rest}}


NETS: dict[str, type[nn.Module]] = {"MLP": MLP, "Conv4": Conv4}


def build_net(description: dict[str, Any]) -> nn.Module:
    """Return the network that `{"name": ..., "arguments": {...}}` describes.

    Raises:
        ConfigError: for a name that does not exist.
    """
    if description["name"] not in NETS:
        raise ConfigError(f"there is no network {description['name']!r}; known are {', '.join(NETS)}")
    return NETS[description["name"]](**description["arguments"])


def _rule(name: str, lr: float, momentum: float, clip: float | None) -> Rule:
    rules: dict[str, Rule] = {"sgd": SGD(lr), "momentum": Momentum(lr, momentum), "adam": Adam(lr, beta1=0.0)}
    return rules[name] if clip is None else Clip(rules[name], clip)


@dataclass(frozen=True)
class MAMLMethod:
    """MAML, FOMAML, ANIL, BOIL."""

    inner_lr: float = 0.01
    """Inner step size alpha."""
    inner_rule: Literal["sgd", "momentum", "adam"] = "sgd"
    """Inner update rule."""
    momentum: float = 0.9
    """For the momentum rule."""
    inner_clip: float | None = None
    """Bound the norm of the inner gradient."""
    loss_reduction: Reduction = "mean"
    """Scale of the inner loss: with N ways, "sum_over_classes" at alpha equals "mean" at N alpha."""
    steps: int = 1
    """Inner steps in training."""
    test_steps: int = 1
    """Inner steps in evaluation and for a new task."""
    meta_gradient: MetaGradient = "exact"
    """Exact, or first order (FOMAML)."""
    adapt: tuple[str, ...] = ("*",)
    """Which parameters adapt: patterns over names ("!" excludes), or head (ANIL), or body (BOIL)."""
    norm: Norm = "transductive"
    """Batch-norm mode."""
    route: Route = "auto"
    """How tasks are run."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        inner = CrossEntropy(self.loss_reduction) if isinstance(loss, CrossEntropy) else loss
        return MAML(
            model,
            loss,
            rule=_rule(self.inner_rule, self.inner_lr, self.momentum, self.inner_clip),
            steps=self.steps,
            test_steps=self.test_steps,
            meta_gradient=self.meta_gradient,
            adapt=self.adapt[0] if len(self.adapt) == 1 else self.adapt,
            norm=self.norm,
            inner_loss=inner,
            route=self.route,
        )


@dataclass(frozen=True)
class ReptileMethod:
    """Reptile."""

    inner_lr: float = 1e-3
    """Inner step size."""
    inner_rule: Literal["sgd", "momentum", "adam"] = "adam"
    """Inner update rule; adam has beta1 = 0."""
    momentum: float = 0.9
    """For the momentum rule."""
    inner_clip: float | None = None
    """Bound the norm of the inner gradient."""
    steps: int = 5
    """Inner steps in training."""
    batch: int | None = 10
    """Samples of a minibatch in training."""
    test_steps: int = 50
    """Inner steps in evaluation and for a new task."""
    test_batch: int | None = 5
    """Samples of a minibatch in evaluation."""
    replacement: bool = False
    """Draw every minibatch afresh."""
    inner_state: InnerState = "serial"
    """Adam's moments between tasks: reset, serial (as the reference code) or mean."""
    norm: Norm = "transductive"
    """Batch-norm mode."""
    route: Route = "auto"
    """How tasks are run."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return Reptile(
            model,
            loss,
            rule=_rule(self.inner_rule, self.inner_lr, self.momentum, self.inner_clip),
            steps=self.steps,
            batch=self.batch,
            test_steps=self.test_steps,
            test_batch=self.test_batch,
            replacement=self.replacement,
            inner_state=self.inner_state,
            norm=self.norm,
            route=self.route,
        )


@dataclass(frozen=True)
class PretrainMethod:
    """Joint training, then fine-tuning; the oracle with no step at all."""

    inner_lr: float = 0.01
    """Step size of fine-tuning."""
    test_steps: int = 10
    """Steps of fine-tuning."""
    norm: Norm = "transductive"
    """Batch-norm mode."""
    route: Route = "auto"
    """How tasks are run."""

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around `model`."""
        return Pretrain(
            model, loss, rule=SGD(self.inner_lr), test_steps=self.test_steps, norm=self.norm, route=self.route
        )


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on."""

    data: SinusoidData | OmniglotData = field(default_factory=SinusoidData)
    """Where tasks come from."""
    net: MLPNet | Conv4Net = field(default_factory=MLPNet)
    """The network."""
    method: MAMLMethod | ReptileMethod | PretrainMethod = field(default_factory=MAMLMethod)
    """How it learns to learn."""
    training: Training = field(default_factory=Training)
    """The outer loop."""
    protocol: Protocol = field(default_factory=Protocol)
    """How the result is measured."""
    validation_tasks: int = 100
    """Tasks of each validation."""
    export: Literal["best", "last"] = "best"
    """Which weights become the model: the best validated ones or the last."""

    def build(self) -> Learner:
        """Return a fresh learner; seed torch before if its first weights should repeat."""
        return self.method.build(build_net(self.net.describe(self.data)), self.data.loss)

    @property
    def validation(self) -> Protocol:
        """The protocol of a validation during training."""
        return dataclasses.replace(self.protocol, name="validation-v1", tasks=self.validation_tasks, split="val")

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(_to_plain(self), indent=2)

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """Return the configuration that `to_json` wrote.

        Raises:
            ConfigError: if the text is not such a configuration.
        """
        try:
            return _from_plain(json.loads(text), RunConfig)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"this is not a run configuration ({error})") from None


def _to_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    return [_to_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _from_plain(value: Any, kind: Any) -> Any:
    members = get_args(kind) if _is_union(kind) else (kind,)
    options: list[Any] = [option for option in members if option is not NoneType]
    if value is None:
        return None
    if isinstance(value, dict):
        chosen: Any = next((o for o in options if getattr(o, "__name__", "") == value["kind"]), None)
        if chosen is None:
            raise ConfigError(f"{value['kind']!r} is not one of {[getattr(o, '__name__', o) for o in options]}")
        hints = get_type_hints(chosen)
        unknown = set(value) - {f.name for f in dataclasses.fields(chosen)} - {"kind"}
        if unknown:
            raise ConfigError(f"{chosen.__name__} has no setting {', '.join(sorted(unknown))}")
        return chosen(**{name: _from_plain(item, hints[name]) for name, item in value.items() if name != "kind"})
    return tuple(value) if isinstance(value, list) else value


def _is_union(kind: Any) -> bool:
    import types

    return get_origin(kind) in (Union, types.UnionType)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return the settings that differ and would make a resume another run, as `training.lr: 0.1 -> 0.2`.

    What only decides how long, how often and how loudly may change between the lives of a run.
    """
    free = {"training.minutes", "training.log_every", "training.checkpoint_every", "training.keep", "export"}
    a, b = _flat(_to_plain(old)), _flat(_to_plain(new))
    return [f"{k}: {a.get(k)} -> {b.get(k)}" for k in sorted(a | b) if a.get(k) != b.get(k) and k not in free]


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
