"""Settings of the outer loop, and the optimizer and schedule they describe."""

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from fastadapt.arguments import added
from fastadapt.errors import ConfigError


@dataclass(frozen=True)
class Training:
    """Settings of `meta_train`.

    Raises:
        ConfigError: for a value outside its range.

    Example:
        >>> Training(steps=100, meta_batch=4, lr=1e-2, schedule="linear").rate(50)
        0.005
    """

    steps: int = 1000
    """Outer steps."""
    meta_batch: int = 25
    """Tasks in each outer step."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Outer optimizer; pass your own to meta_train for any other."""
    lr: float = 1e-3
    """Outer learning rate (beta of MAML, epsilon of Reptile with sgd)."""
    final_lr: float = 0.0
    """Where the linear and cosine schedules end."""
    schedule: Literal["constant", "linear", "cosine", "step"] = "constant"
    """How the outer learning rate changes over the steps."""
    clip_norm: float | None = None
    """Bound the norm of the meta-gradient."""
    clip_value: float | None = None
    """Bound every element of the meta-gradient (before the norm)."""
    seed: int = 0
    """Seed of the tasks and of what is random inside a step."""
    validate_every: int = 0
    """Validate after every so many steps; 0 never does."""
    checkpoint_every: int = 500
    """Write a checkpoint after every so many steps (also at each validation, at the end and on a signal)."""
    keep: int = 3
    """Newest checkpoints to keep, beside the best one."""
    log_every: int = 50
    """Log after every so many steps."""
    minutes: float | None = None
    """What the whole command may take, testing and drawing included; from Python, the call of meta_train."""
    max_nonfinite: int = 10
    """Stop after so many steps in a row with a loss or gradient that is not finite."""
    decay_every: int = added(0)
    """For the step schedule: multiply the outer learning rate by `decay` after every so many steps."""
    decay: float = added(0.5)
    """For the step schedule: what the rate is multiplied by."""
    keep_best: int = added(1)
    """Best validated checkpoints to keep; an ensemble is made of several (fastadapt evaluate RUN --ensemble)."""
    momentum: float = added(0.0)
    """Momentum of the outer optimizer sgd."""
    weight_decay: float = added(0.0)
    """Weight decay of the outer optimizer: this share of the weights is added to their gradient."""
    local_steps: int = added(1)
    """Outer steps that each of several processes takes alone before their weights are averaged; more than 1 is another
    algorithm, for Reptile, FOML and first-order MAML with sgd."""
    overlap: int = added(1)
    """Parts of its tasks whose gradients each of several processes sends while it computes the next; for models whose
    gradient takes long to send."""

    def __post_init__(self) -> None:
        counts = ("steps", "meta_batch", "checkpoint_every", "keep", "log_every", "max_nonfinite", "keep_best")
        for name in (*counts, "local_steps", "overlap"):
            if getattr(self, name) < 1:
                raise ConfigError(f"training.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("steps", "checkpoint_every", "validate_every", "log_every"):
            if getattr(self, name) % self.local_steps:
                raise ConfigError(
                    f"training.{name} must be a multiple of training.local_steps={self.local_steps}, as processes have "
                    f"the same weights only then; got {getattr(self, name)}"
                )
        for name in ("lr", "final_lr", "validate_every", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"training.{name} must be finite and >= 0, got {getattr(self, name)}")
        for name in ("clip_norm", "clip_value", "minutes"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"training.{name} must be > 0 or None, got {value}")
        if not 0 <= self.momentum < 1 or (self.momentum and self.optimizer != "sgd"):
            raise ConfigError(
                f"training.momentum must be in [0, 1) and is of optimizer sgd alone, got {self.momentum} for "
                f"{self.optimizer}"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"training.weight_decay must be a number >= 0, got {self.weight_decay}")
        if self.optimizer not in ("adam", "sgd"):
            raise ConfigError(f"training.optimizer must be 'adam' or 'sgd', got {self.optimizer!r}")
        if self.schedule not in ("constant", "linear", "cosine", "step"):
            raise ConfigError(
                f"training.schedule must be 'constant', 'linear', 'cosine' or 'step', got {self.schedule!r}"
            )
        if not (self.decay_every >= 0 and 0 < self.decay <= 1) or (self.schedule == "step") != (self.decay_every > 0):
            raise ConfigError(
                f"training.schedule='step' needs training.decay_every of at least 1 step and training.decay in (0, 1], "
                f"and no other schedule has decay_every; got {self.schedule!r} with {self.decay_every} and {self.decay}"
            )

    def rate(self, step: int) -> float:
        """Return the outer learning rate of `step`, `f lr_final + (1 - f) lr` with `f = step / steps` if linear.

        With the step schedule it is `lr decay^floor(step / decay_every)`, which depends on no number of steps.
        """
        fraction = step / self.steps
        if self.schedule == "linear":
            return fraction * self.final_lr + (1 - fraction) * self.lr
        if self.schedule == "step":
            return self.lr * self.decay ** (step // self.decay_every)
        if self.schedule == "cosine":
            return self.final_lr + (self.lr - self.final_lr) * 0.5 * (1 + math.cos(math.pi * fraction))
        return self.lr

    def conflicts(self, saved: Mapping[str, Any]) -> list[str]:
        """Return what makes these settings another run than the `saved` ones, as `["lr: 0.1 -> 0.2"]`.

        What decides only how long, how often and how loudly may change between the lives of a run; so may the number
        of steps, unless the schedule depends on it.
        """
        free = {"minutes", "log_every", "checkpoint_every", "keep", "validate_every", "max_nonfinite", "keep_best"}
        free |= {"steps"} if self.schedule == saved.get("schedule") in ("constant", "step") else set()
        mine = dataclasses.asdict(self)
        saved = {**{f.name: f.default for f in dataclasses.fields(self) if f.metadata.get("added")}, **saved}
        changed = [name for name in mine if name not in free and mine[name] != saved.get(name)]
        return [f"{name}: {saved.get(name)} -> {mine[name]}" for name in changed]

    def build_optimizer(self, learner: nn.Module) -> torch.optim.Optimizer:
        """Return the outer optimizer over the learner's trainable parameters."""
        params = [p for p in learner.parameters() if p.requires_grad]
        if not params:
            raise ConfigError(
                f"{type(learner).__name__} has no trainable parameter: nothing to meta-train; evaluate it or adapt it "
                "as it is"
            )
        kind: Any = torch.optim.Adam if self.optimizer == "adam" else torch.optim.SGD
        more = {"weight_decay": self.weight_decay} | ({} if self.optimizer == "adam" else {"momentum": self.momentum})
        steps_alone = params[0].is_cuda and len({p.device for p in params}) == 1
        if not (steps_alone and all(p.is_floating_point() for p in params)):
            return kind(params, lr=self.lr, **more)
        # what a GPU steps by itself, with a rate that it reads there: see fastadapt.training.captured
        how = more | ({"capturable": True} if self.optimizer == "adam" else {})
        return kind(params, lr=torch.tensor(self.lr, device=params[0].device), fused=True, **how)

    def clip(self, params: Iterable[nn.Parameter]) -> None:
        """Clip the gradients of `params` in place, as the settings say."""
        kept = [p for p in params if p.grad is not None]
        if self.clip_value is not None:
            nn.utils.clip_grad_value_(kept, self.clip_value)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(kept, self.clip_norm)
