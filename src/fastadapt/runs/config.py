"""A run as data: frozen dataclasses that are validated when built and survive a trip through JSON.

`RunConfig` is complete: with it alone a run can be repeated. The kinds of data, network and method are
told apart in JSON by their class name under "kind".
"""

import dataclasses
import json
import types
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from fastadapt.data.domains.face_settings import FacesData
from fastadapt.data.embeddings.embeddings_settings import EmbeddingsData
from fastadapt.data.images.folder_settings import FolderData
from fastadapt.data.settings import MiniImageNetData, OmniglotData, SinusoidData
from fastadapt.data.tables.table_settings import TableData
from fastadapt.errors import ConfigError
from fastadapt.evaluation import Protocol
from fastadapt.faces.settings import CDTMethod, FaceMethod, MFRMethod, MLDGMethod, PooledMethod
from fastadapt.learner import Learner
from fastadapt.methods.family_settings import IMAMLMethod, MAMLPlusPlusMethod, MetaSGDMethod, ProtoMAMLMethod
from fastadapt.methods.head_settings import (
    CentroidMethod,
    CosineHeadMethod,
    HeadMethod,
    LinearProbeMethod,
    NearestSampleMethod,
    RidgeMethod,
)
from fastadapt.methods.metric_settings import (
    AdaptiveSubspacesMethod,
    MatchingNetMethod,
    MetricMethod,
    ProtoNetMethod,
    RelationNetMethod,
    SiameseNetMethod,
)
from fastadapt.methods.prior_settings import GaussianPriorMethod
from fastadapt.methods.rule_settings import CAVIAMethod, MetaCurvatureMethod, MetaLSTMMethod
from fastadapt.methods.sequence_settings import MANNMethod, SNAILMethod
from fastadapt.methods.set_settings import MemoryModuleMethod, NeuralStatisticianMethod
from fastadapt.methods.settings import (
    FineTuneMethod,
    FOMLMethod,
    MAMLMethod,
    NearestMethod,
    PretrainMethod,
    ReptileMethod,
)
from fastadapt.nets.settings import (
    Conv4Net,
    FacesNet,
    FeaturesNet,
    FourierNet,
    MLPNet,
    RareEventsEncoderNet,
    RelationEncoderNet,
    ResNet12Net,
    SirenNet,
    StatisticianEncoderNet,
    ViTNet,
    build_net,
)
from fastadapt.rl.settings import EnvironmentData, MetaPolicyMethod, PolicyNet, RecurrentPolicyNet, RL2Method
from fastadapt.training.outer_step import OuterStep, outer_step
from fastadapt.training.settings import Training

_LONGEST = 60  # characters of a value in a message


@dataclass(frozen=True)
class RunConfig:
    """Everything a run depends on."""

    data: (
        SinusoidData
        | OmniglotData
        | MiniImageNetData
        | FolderData
        | TableData
        | EmbeddingsData
        | EnvironmentData
        | FacesData
    ) = field(default_factory=SinusoidData)
    """Where tasks come from."""
    net: (
        MLPNet
        | Conv4Net
        | ResNet12Net
        | ViTNet
        | RelationEncoderNet
        | StatisticianEncoderNet
        | RareEventsEncoderNet
        | FeaturesNet
        | PolicyNet
        | RecurrentPolicyNet
        | FacesNet
        | SirenNet
        | FourierNet
    ) = field(default_factory=MLPNet)
    """The network."""
    # what extends another ahead of it: the command line takes the first that fits
    method: (
        MetaLSTMMethod
        | MetaCurvatureMethod
        | CAVIAMethod
        | MetaSGDMethod
        | MAMLPlusPlusMethod
        | ProtoMAMLMethod
        | IMAMLMethod
        | MAMLMethod
        | FOMLMethod
        | ReptileMethod
        | PretrainMethod
        | FineTuneMethod
        | NearestMethod
        | ProtoNetMethod
        | MatchingNetMethod
        | SiameseNetMethod
        | RelationNetMethod
        | AdaptiveSubspacesMethod
        | SNAILMethod
        | MANNMethod
        | NeuralStatisticianMethod
        | MemoryModuleMethod
        | CentroidMethod
        | NearestSampleMethod
        | RidgeMethod
        | LinearProbeMethod
        | CosineHeadMethod
        | GaussianPriorMethod
        | MetaPolicyMethod
        | RL2Method
        | MFRMethod
        | CDTMethod
        | MLDGMethod
        | PooledMethod
    ) = field(default_factory=MAMLMethod)
    """How it learns to learn."""
    training: Training = field(default_factory=Training)
    """The outer loop."""
    protocol: Protocol = field(default_factory=Protocol)
    """How the result is measured."""
    validation_tasks: int = 100
    """Tasks of each validation."""
    export: Literal["best", "last"] = "best"
    """Which weights become the model: the best validated ones or the last."""

    def __post_init__(self) -> None:
        """Check that the method gets the batches it learns from."""
        flat, name = isinstance(self.method, FineTuneMethod | NearestMethod), type(self.method).__name__
        if flat and not self.data.flat_batch:
            raise ConfigError(
                f"{name} trains a classifier of all classes, and data.flat_batch is {self.data.flat_batch}: set the "
                "images of a batch, for example 64, on data that has classes"
            )
        if self.data.flat_batch and not flat:
            raise ConfigError(
                f"{name} trains on tasks, and data.flat_batch is {self.data.flat_batch}: set it to 0, or choose a "
                "method that trains a classifier of all classes"
            )
        if isinstance(self.method, FaceMethod) != isinstance(self.data, FacesData):
            raise ConfigError(
                f"{name} does not go with {type(self.data).__name__}: faces are trained by MFRMethod, CDTMethod, "
                "MLDGMethod or PooledMethod, and these train on nothing else"
            )
        if self.embeds and self.data.ways is None and not isinstance(self.method, GaussianPriorMethod):
            raise ConfigError(
                f"{name} tells classes apart, and {type(self.data).__name__} has numbers to be predicted; choose "
                "MAMLMethod"
            )
        _ = self.most_ways  # raises where test tasks have more classes than the method can learn
        wider = getattr(self.data, "train_ways", None)
        if wider not in (None, self.data.ways) and not self.embeds:
            raise ConfigError(
                f"data.train_ways={wider} needs a network that serves any number of classes, and that of {name} has "
                f"{self.data.ways} outputs; leave it out, or choose a metric method such as ProtoNetMethod, or "
                "ProtoMAMLMethod"
            )

    @property
    def embeds(self) -> bool:
        """Whether the network has no head, so that tasks may have any number of classes."""
        return isinstance(self.method, MetricMethod | HeadMethod | ProtoMAMLMethod | GaussianPriorMethod)

    @property
    def most_ways(self) -> int | None:
        """With how many classes the trained network can be used; None for any number, and for regression."""
        if isinstance(self.method, MetricMethod):
            return self.method.most_ways(self.data)
        return None if self.embeds else self.data.ways

    @property
    def network(self) -> dict[str, Any]:
        """Name and arguments of the network."""
        return self.net.describe(self.data, head=not self.embeds)

    def build(self) -> Learner:
        """Return a fresh learner; seed torch before if its first weights should repeat."""
        nets = {MetaPolicyMethod: PolicyNet, RL2Method: RecurrentPolicyNet}
        wanted = nets.get(type(self.method))
        policy = isinstance(self.data, EnvironmentData), isinstance(self.net, PolicyNet | RecurrentPolicyNet)
        if any(policy) != (wanted is not None) or (wanted and not (policy[0] and isinstance(self.net, wanted))):
            kinds = [type(part).__name__ for part in (self.data, self.net, self.method)]
            raise ConfigError(
                f"environments, a policy and a method for policies go together, got {', '.join(kinds)}; choose "
                "EnvironmentData, PolicyNet and MetaPolicyMethod, or RecurrentPolicyNet and RL2Method, or none of them"
            )
        model = build_net(self.network)
        if isinstance(self.method, MetricMethod | HeadMethod | FaceMethod | GaussianPriorMethod):
            return self.method.learner(model, self.data.loss, self.data)
        if isinstance(self.method, FineTuneMethod | NearestMethod):
            return self.method.build(model, self.data.loss, self.data.classes)
        return self.method.build(model, self.data.loss)

    @property
    def _policy(self) -> MetaPolicyMethod | RL2Method | None:
        return self.method if isinstance(self.method, MetaPolicyMethod | RL2Method) else None

    @property
    def outer_step(self) -> OuterStep:
        """What one outer step does: the update of an optimizer, or what a method for policies has in its place."""
        return outer_step if self._policy is None else self._policy.outer_step

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


def _to_plain(value: Any, remarks: bool = True) -> Any:
    """Return a value for JSON; a field that came later is left out at its default, a remark where it is unwanted."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: _to_plain(getattr(value, f.name), remarks)
            for f in dataclasses.fields(value)
            if not (f.metadata.get("added") and getattr(value, f.name) == f.default)
            and (remarks or not f.metadata.get("remark"))
        }
        return {"kind": type(value).__name__, **fields}
    return [_to_plain(item, remarks) for item in value] if isinstance(value, (list, tuple)) else value


def _from_plain(value: Any, kind: Any) -> Any:
    members = get_args(kind) if _is_union(kind) else (kind,)
    options: list[Any] = [option for option in members if option is not types.NoneType]
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
    if isinstance(value, list):
        item = next((get_args(option)[0] for option in options if get_origin(option) is tuple), None)
        return tuple(_from_plain(entry, item) for entry in value)
    return value


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def differences(old: RunConfig, new: RunConfig) -> list[str]:
    """Return the settings that differ and would make a resume another run, as `training.lr: 0.1 -> 0.2`.

    What only decides how long, how often and how loudly may change between the lives of a run.
    """
    a, b = _flat(_to_plain(old, remarks=False)), _flat(_to_plain(new, remarks=False))
    free = {"export", "data.folder"}  # a folder of images may move; a digest says that it is still the same
    outside = [key for key in sorted(a | b) if not key.startswith("training.") and key not in free]
    changed = [f"{key}: {_short(a.get(key))} -> {_short(b.get(key))}" for key in outside if a.get(key) != b.get(key)]
    return changed + [f"training.{line}" for line in new.training.conflicts(dataclasses.asdict(old.training))]


def _short(value: Any) -> str:
    """Return a value for a message; a thousand names of classes would not be one."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
