"""Reinforcement learning: MAML's five experiments, its baselines on each, and later methods on navigation."""

from dataclasses import replace

from fastadapt.evaluation import Protocol
from fastadapt.rl.settings import EnvironmentData, MetaPolicyMethod, PolicyNet, RecurrentPolicyNet, RL2Method
from fastadapt.runs.config import RunConfig
from fastadapt.training.settings import Training

# Finn et al. 2017 (arXiv:1703.03400), section 5.3, and the public code: 20 tasks of 20 episodes and alpha 0.5 for
# navigation (the script; the paper says 0.1), 40 tasks and alpha 0.1 for locomotion. A test batch has 4,000 steps, for
# the direction of the ant 8,000. Name -> (what, family, episodes, test episodes, later updates' share of alpha)
LOCOMOTION = {
    "half-cheetah-velocity": ("a half-cheetah that is to run at a speed", 20, 20, 0.5),
    "half-cheetah-direction": ("a half-cheetah that is to run forward or backward", 20, 20, 0.5),
    "ant-velocity": ("an ant that is to walk at a speed", 20, 20, 0.5),
    "ant-direction": ("an ant that is to walk forward or backward", 40, 40, 0.01),
}


def policy_presets() -> dict[str, tuple[str, RunConfig]]:
    """Return the presets by name, with a word on each."""
    navigation = _maml("navigation", EnvironmentData(), 0.5, 0.5)
    navigation = replace(
        navigation,
        method=replace(navigation.method, test_steps=4),
        training=replace(navigation.training, steps=100, meta_batch=20),
        protocol=replace(navigation.protocol, steps=4, report=1),
    )
    found = _family("navigation", "a point that is to walk to a place", navigation, pretrain_steps=100, batch=10)
    # the published row, unlike those of locomotion, is of the public code's MAML class with MAML switched off: the same
    # batches, and one update of Adam on each; a trust region would let slopes grow that a step of 0.5 overshoots
    found["pretrain-navigation"] = (
        found["pretrain-navigation"][0],
        replace(navigation, method=replace(navigation.method, steps=0, outer="plain")),
    )
    found["fomaml-navigation"] = (
        "first-order MAML on navigation",
        replace(navigation, method=replace(navigation.method, meta_gradient="first_order")),
    )
    # Rothfuss et al. 2019 (arXiv:1810.06784): LVC inside, clipped outside, 5 updates of Adam on the same episodes
    promp = replace(navigation.method, form="likelihood_ratio", outer="ppo")
    found["promp-navigation"] = (
        "ProMP on navigation: unbiased curvature inside, PPO outside",
        replace(navigation, method=promp, training=replace(navigation.training, lr=1e-3)),
    )
    # Duan et al. 2016 (arXiv:1611.02779), by PPO as it is compared today; sizes and rate are ours
    found["rl2-navigation"] = (
        "RL² on navigation: a policy with a memory, over three episodes",
        replace(
            navigation,
            net=RecurrentPolicyNet(),
            method=RL2Method(),
            data=replace(navigation.data, episodes=10),  # type: ignore[call-arg]
            training=replace(navigation.training, steps=1000, lr=1e-3, checkpoint_every=20),
            protocol=replace(navigation.protocol, name="navigation-rl2-v1", steps=2, report=2),
        ),
    )
    for name, (what, episodes, test_episodes, later) in LOCOMOTION.items():
        data = EnvironmentData(f"{name}-v0", episodes=episodes, test_episodes=test_episodes)
        found |= _family(name, what, _maml(name, data, 0.1, later), pretrain_steps=1000, batch=100)
    return found


def own_environment(spec: str) -> RunConfig:
    """Return MAML for a family of environments of the user's own, with the settings of locomotion."""
    return _maml(spec, EnvironmentData(spec, test_episodes=20), 0.1, 0.5)


def _maml(name: str, data: EnvironmentData, inner_lr: float, later: float) -> RunConfig:
    return RunConfig(
        data=data,
        net=PolicyNet(),
        method=MetaPolicyMethod(inner_lr=inner_lr, later=later),
        training=Training(steps=500, meta_batch=40, checkpoint_every=5, log_every=1),
        protocol=Protocol(f"{name}-v1", tasks=40, steps=3, report=1),
        validation_tasks=40,
        export="last",
    )


def _family(
    name: str, what: str, maml: RunConfig, *, pretrain_steps: int, batch: int
) -> dict[str, tuple[str, RunConfig]]:
    """Return MAML, pretraining and the oracle in an environment."""
    training = replace(maml.training, steps=pretrain_steps, meta_batch=batch)
    one = replace(maml.data, episodes=1, pooled=True)  # type: ignore[call-arg]
    pretrain = replace(maml, data=one, method=replace(maml.method, steps=0), training=training)
    oracle = replace(
        pretrain,
        data=replace(one, told=True),
        method=replace(pretrain.method, test_steps=0),  # type: ignore[call-arg]
        training=replace(training, meta_batch=100),
        protocol=replace(maml.protocol, name=f"{name}-oracle-v1", steps=0, report=None),
    )
    return {
        f"maml-{name}": (f"MAML for {what}", maml),
        f"pretrain-{name}": (f"one policy for all tasks, then fine-tuning, for {what}", pretrain),
        f"oracle-{name}": (f"a policy that is told the goal, for {what}", oracle),
    }
