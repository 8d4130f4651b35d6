"""Methods that read a task as a sequence, as settings of a run; their sizes follow from its tasks."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from fastadapt.arguments import argument
from fastadapt.errors import ConfigError
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.mann import MANN
from fastadapt.methods.metric_settings import MetricMethod, feature_shape, flat
from fastadapt.methods.snail import SNAIL


@dataclass(frozen=True)
class SequenceMethod(MetricMethod):
    """What they share: labels that tell so many classes apart as a training task has, and no more."""

    shuffle: bool = argument(SNAIL, "shuffle")

    def most_ways(self, data: Any) -> int:
        """Return how many classes a label tells apart, which no test task may have more of.

        Raises:
            ConfigError: if test tasks have more.
        """
        most = data.sizes("train")["ways"]
        if most < data.ways:
            raise ConfigError(
                f"data.train_ways={most} is below data.ways={data.ways}, and labels that no training task has are "
                f"never learned; set data.train_ways to at least {data.ways}, or leave it out"
            )
        return most


@dataclass(frozen=True)
class SNAILMethod(SequenceMethod):
    """SNAIL: attention and temporal convolutions."""

    filters: int = argument(SNAIL, "filters")

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around an embedding, for tasks as those of `data`."""
        ways = self.most_ways(data)
        features = flat(feature_shape(model, data.input))
        sizes = {"ways": ways, "features": features, "length": data.most_support + 1}
        return SNAIL(model, loss, **sizes, filters=self.filters, shuffle=self.shuffle, norm=self.norm)


@dataclass(frozen=True)
class MANNMethod(SequenceMethod):
    """Memory-augmented networks: an LSTM with an external memory."""

    hidden: int = argument(MANN, "hidden")
    slots: int | None = argument(MANN, "slots")
    width: int = argument(MANN, "width")
    heads: int = argument(MANN, "heads")
    decay: float = argument(MANN, "decay")

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around an embedding, for tasks as those of `data`."""
        memory: dict[str, Any] = {name: getattr(self, name) for name in ("hidden", "slots", "width", "heads", "decay")}
        sizes = {"ways": self.most_ways(data), "features": flat(feature_shape(model, data.input))}
        return MANN(model, loss, **sizes, **memory, shuffle=self.shuffle, norm=self.norm)
