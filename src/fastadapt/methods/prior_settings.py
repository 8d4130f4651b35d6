"""A Gaussian prior over tasks as settings of a run."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fastadapt.errors import ConfigError
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.methods.gaussian_prior import GaussianPrior


@dataclass(frozen=True)
class GaussianPriorMethod:
    """A Gaussian over the linear weights of tasks, fitted in closed form."""

    constant: bool = True
    """Whether a constant stands beside the inputs."""

    def learner(self, model: nn.Module, loss: Loss, data: Any) -> Learner:
        """Return the learner around `model`, which hands on the inputs of `data`; its weights say the prior."""
        sizes = data.input
        if data.ways is not None or "outputs" not in sizes:
            raise ConfigError("GaussianPriorMethod predicts numbers of rows; choose RidgeMethod for classes")
        mean = torch.zeros(sizes["inputs"] + self.constant, sizes["outputs"])
        return GaussianPrior(model, loss, mean=mean, constant=self.constant)
