"""Reinforcement learning as settings of a run: environments, a policy, and how it is meta-trained."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import nn

from fastadapt.arguments import argument, default_of
from fastadapt.data.images.class_settings import Part
from fastadapt.errors import ConfigError
from fastadapt.inner.differentiation import MetaGradient
from fastadapt.learner import Learner
from fastadapt.losses import Loss
from fastadapt.nets.mlp import Activation
from fastadapt.nets.settings import NETS
from fastadapt.rl.environments import Family, family
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.plain import plain_step
from fastadapt.rl.policies import CategoricalPolicy, GaussianPolicy
from fastadapt.rl.policy_gradient import Form, PolicyGradient
from fastadapt.rl.ppo import PPO
from fastadapt.rl.recurrent import RecurrentPolicy
from fastadapt.rl.rl2 import RL2
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO
from fastadapt.rl.waning import Waning
from fastadapt.training.outer_step import OuterStep

NETS |= {"GaussianPolicy": GaussianPolicy, "CategoricalPolicy": CategoricalPolicy, "RecurrentPolicy": RecurrentPolicy}


@dataclass(frozen=True)
class EnvironmentData:
    """A family of environments; a task is a goal, its support and query are episodes."""

    family: str = "navigation-v0"
    """Versioned id of the family, or package:function of your own."""
    episodes: int = argument(Environments, "episodes")
    test_episodes: int = 40
    """Episodes that each update of a test task learns from."""
    discount: float = argument(Environments, "discount")
    gae_lambda: float = argument(Environments, "gae_lambda")
    pooled: bool = argument(Environments, "pooled")
    told: bool = argument(Environments, "told")
    horizon: int | None = argument(Environments, "horizon")

    def load(self, root: Path | None = None, download: bool = False) -> Family:
        """Return the family, which is made and not read."""
        return family(self.family)

    def source(self, part: Part, loaded: Any = None) -> Environments:
        """Return the source of training, validation or test tasks; each of the latter has a baseline of its own."""
        train = part == "train"
        return Environments(
            self.load() if loaded is None else loaded,
            self.episodes if train else self.test_episodes,
            self.discount,
            self.gae_lambda,
            pooled=self.pooled and train,
            told=self.told,
            horizon=self.horizon,
        )

    @property
    def train_shots(self) -> int:
        """Episodes of a training task."""
        return self.episodes

    @property
    def shots(self) -> int:
        """Episodes of a test task."""
        return self.test_episodes

    @property
    def loss(self) -> Loss:
        """The vanilla policy gradient."""
        return PolicyGradient()

    @property
    def input(self) -> dict[str, Any]:
        """What one input is: an observation, with the goal behind it for an oracle."""
        known = self.load()
        goal = goal_size(known) if self.told else 0
        return {
            "kind": "environment",
            "family": self.family,
            "inputs": known.observation_size + goal,
            "outputs": known.action_size,
            "discrete": known.discrete,
            "told": self.told,
            "horizon": self.horizon,
        }

    ways: ClassVar[None] = None
    classes: ClassVar[None] = None
    flat_batch: ClassVar[int] = 0


@dataclass(frozen=True)
class PolicyNet:
    """A policy: a fully connected network, with a normal distribution or with choices behind it."""

    hidden: tuple[int, ...] = argument(GaussianPolicy, "hidden")
    activation: Activation = argument(GaussianPolicy, "activation")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the policy for the observations and actions of `data`."""
        shape = data.input
        name = "CategoricalPolicy" if shape.get("discrete") else "GaussianPolicy"
        sizes = {"observations": shape["inputs"], "actions": shape["outputs"]}
        return {"name": name, "arguments": {**sizes, "hidden": list(self.hidden), "activation": self.activation}}


@dataclass(frozen=True)
class MetaPolicyMethod:
    """MAML for policies; with 0 inner steps one policy for all tasks, as pretraining and the oracle have it."""

    inner_lr: float = 0.1
    """Step size alpha of the inner policy gradient."""
    later: float = argument(Waning, "later")
    steps: int = default_of(MetaPolicy, "steps")
    """Inner steps in training; 0 trains one policy on all tasks."""
    test_steps: int = 3
    """Updates in evaluation and for a new task."""
    meta_gradient: MetaGradient = default_of(MetaPolicy, "meta_gradient")
    """Exact, or first order (FOMAML)."""
    form: Form | Literal["e_maml"] = default_of(PolicyGradient, "form")
    """Inner objective: log_likelihood as published; likelihood_ratio (ProMP) or dice, with a less biased curvature;
    e_maml, as published with E-MAML's term in the outer objective."""
    outer: Literal["trpo", "ppo", "plain"] = "trpo"
    """How the outer step is taken: trpo as published, ppo with the optimizer of the training, or its plain step."""
    max_kl: float = argument(TRPO, "max_kl")
    product: Literal["exact", "difference"] = argument(TRPO, "product")
    curvature_share: float = argument(TRPO, "curvature_share")
    clip: float = argument(PPO, "clip")
    epochs: int = argument(PPO, "epochs")
    inner_kl: float = argument(PPO, "inner_kl")

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around a policy."""
        assert isinstance(model, (GaussianPolicy, CategoricalPolicy))
        return MetaPolicy(
            model,
            PolicyGradient() if self.form == "e_maml" else PolicyGradient(self.form),
            rule=Waning(self.inner_lr, self.later),
            steps=self.steps,
            meta_gradient=self.meta_gradient,
            test_steps=self.test_steps,
            e_maml=self.form == "e_maml",
        )

    @property
    def outer_step(self) -> OuterStep:
        """What one outer step does with the tasks."""
        if self.outer == "trpo":
            return TRPO(max_kl=self.max_kl, product=self.product, curvature_share=self.curvature_share)
        return PPO(self.clip, self.epochs, self.inner_kl) if self.outer == "ppo" else plain_step


@dataclass(frozen=True)
class RecurrentPolicyNet:
    """A policy with a memory."""

    hidden: int = argument(RecurrentPolicy, "hidden")

    def describe(self, data: Any, head: bool = True) -> dict[str, Any]:
        """Return name and arguments of the policy for the observations and actions of `data`."""
        shape = data.input
        if shape.get("told"):
            raise ConfigError("a policy with a memory finds the goal out by itself; leave data.told out")
        sizes = {"observations": shape["inputs"], "actions": shape["outputs"], "discrete": bool(shape.get("discrete"))}
        return {"name": "RecurrentPolicy", "arguments": {**sizes, "hidden": self.hidden}}


@dataclass(frozen=True)
class RL2Method:
    """RL²: a policy with a memory that lives through a few episodes of each task, trained by PPO on whole trials."""

    test_steps: int = 2
    """Episodes of a trial but the first, in training and in evaluation."""
    clip: float = argument(PPO, "clip")
    epochs: int = argument(PPO, "epochs")

    def build(self, model: nn.Module, loss: Loss) -> Learner:
        """Return the learner around a policy with a memory."""
        assert isinstance(model, RecurrentPolicy)
        return RL2(model, test_steps=self.test_steps)

    @property
    def outer_step(self) -> OuterStep:
        """PPO."""
        return PPO(self.clip, self.epochs)


def goal_size(known: Family) -> int:
    """Return how many numbers a goal has."""
    import numpy as np

    return known.draw_tasks(1, np.random.default_rng(0)).shape[1]
