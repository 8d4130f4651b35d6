"""The neural statistician and the memory module as settings of a run."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from fastadapt.arguments import argument
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.memory_module import MemoryModule
from fastadapt.methods.metric_settings import MetricMethod, feature_shape, flat, sample_shape
from fastadapt.methods.statistician import From, Likelihood, NeuralStatistician
from fastadapt.nets.statistician import Generator


@dataclass(frozen=True)
class NeuralStatisticianMethod(MetricMethod):
    """The neural statistician: the class whose hidden context is nearest."""

    hidden: int = argument(NeuralStatistician, "hidden")
    context: int = argument(NeuralStatistician, "context")
    latent: int = argument(Generator, "latent")
    width: int = argument(Generator, "width")
    divergence: From = argument(NeuralStatistician, "divergence")
    likelihood: Likelihood = argument(NeuralStatistician, "likelihood")
    alpha: float = argument(NeuralStatistician, "alpha")
    halved_every: int = argument(NeuralStatistician, "halved_every")

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around `model`, with a generator of samples as those of `data`."""
        features, sizes = feature_shape(model, data.input), {"hidden": self.hidden, "context": self.context}
        generator = Generator(features, sample_shape(data.input), width=self.width, latent=self.latent, **sizes)
        return NeuralStatistician(
            model,
            loss,
            generator=generator,
            features=features,
            **sizes,
            divergence=self.divergence,
            likelihood=self.likelihood,
            alpha=self.alpha,
            halved_every=self.halved_every,
            norm=self.norm,
        )


@dataclass(frozen=True)
class MemoryModuleMethod(MetricMethod):
    """The memory module: the nearest of the keys that were written to a memory."""

    keys: int = argument(MemoryModule, "keys")
    slots: int | None = argument(MemoryModule, "slots")
    margin: float = argument(MemoryModule, "margin")

    def build(self, model: nn.Module, loss: Loss, features: tuple[int, ...]) -> Learner:
        """Return the learner around an embedding."""
        sizes: dict[str, Any] = {"keys": self.keys, "slots": self.slots}
        return MemoryModule(model, loss, features=flat(features), **sizes, margin=self.margin, norm=self.norm)
