"""Episodes lived through with a policy, many at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import EpisodeError, FastadaptError
from fastadapt.rl.distributions import Distribution
from fastadapt.rl.environments import Episodes, Family

Act = Callable[[Tensor], Distribution]
"""A policy: observations `[n, o]` to distributions over actions `[n, ...]`."""


class Lived(NamedTuple):
    """Hold what `n` environments saw in at most `H` steps: `[n, H, ...]`, see `Experience`."""

    observations: Tensor
    actions: Tensor
    rewards: Tensor
    alive: Tensor
    behaviour: Distribution
    nonfinite: int


def live(act: Act, episodes: Episodes, noise: Tensor, horizon: int, name: str) -> Lived:
    """Act until every environment has ended, or for `horizon` steps.

    An observation or a reward that is not finite ends its episode before that step, which then does not count. An
    action that is not finite is the policy's failure: its episode has no step at all, and no return.

    Args:
        act: the policy; nothing of it is differentiated.
        episodes: `n` environments at their first observation.
        noise: `[n, horizon, k]`, what the actions are made of; all is computed in its type.
        horizon: steps at most.
        name: the family's, for messages.

    Raises:
        EpisodeError: if an environment raises an error, or returns what it should not.
    """
    seen: list[Any] = []
    now = episodes.observations.to(noise)
    alive = torch.isfinite(now).all(1)
    broken, void = int((~alive).sum()), torch.zeros_like(alive)
    for t in range(horizon):
        now = torch.where(alive[:, None], now, 0.0)
        with torch.no_grad():
            behaviour = act(now)
            actions = behaviour.sample(noise[:, t])
        sane = _sane(behaviour, actions)
        void = void | (alive & ~sane)
        then, rewards, ended = _stepped(episodes, actions, name)
        then, rewards = then.to(noise), rewards.to(noise)
        finite = sane & torch.isfinite(then).all(1) & torch.isfinite(rewards)
        broken += int((alive & ~finite).sum())
        alive = alive & finite
        rewards = torch.where(alive, rewards, 0.0)
        seen.append((now, actions, rewards, alive.to(noise), behaviour))
        alive = alive & ~ended.to(alive)
        now = then
        if not bool(alive.any()):
            break
    stacked = pytree.tree_map(lambda *leaves: torch.stack(leaves, 1), *seen)
    observations, actions, rewards, taken, behaviour = stacked
    taken, rewards = (torch.where(void[:, None], 0.0, part) for part in (taken, rewards))
    count = max(broken, episodes.nonfinite)  # environments may have counted the same
    return Lived(observations, actions, rewards, taken, behaviour, count)


def _sane(behaviour: Distribution, actions: Tensor) -> Tensor:
    """Return which actions can be taken, `[n]`; a choice is a number even where its probabilities are none."""
    bad = ~torch.isfinite(actions.reshape(len(actions), -1)).all(1)
    for leaf in behaviour:
        bad = bad | leaf.isnan().any(1)
    return ~bad


def begun(known: Family, goals: Tensor, seeds: Sequence[int]) -> Episodes:
    """Return environments at their first observation.

    Raises:
        EpisodeError: if they can't be made.
    """
    with _told(known.name, "at its start"):
        episodes = known.start(goals, seeds)
        if episodes.observations.shape != (len(goals), known.observation_size):
            raise ValueError(
                f"the first observations have shape {list(episodes.observations.shape)} for {len(goals)} environments "
                f"of {known.observation_size} numbers"
            )
        return episodes


def _stepped(episodes: Episodes, actions: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    with _told(name, "in a step"):
        then, rewards, ended = episodes.step(actions.cpu())
        n = len(actions)
        if then.shape[0] != n or rewards.shape != (n,) or ended.shape != (n,):
            shapes = [list(part.shape) for part in (then, rewards, ended)]
            raise ValueError(f"a step returned shapes {shapes} for {n} environments")
        return then, rewards, ended


@contextmanager
def _told(name: str, when: str) -> Iterator[None]:
    """Say in a sentence what an environment raised."""
    try:
        yield
    except FastadaptError:
        raise
    except (Exception, SystemExit) as error:  # an environment may raise anything, and leave the process
        first = (str(error).splitlines() or [""])[0]
        raise EpisodeError(
            f"the environment {name} failed {when}: {type(error).__name__}: {first}; mend it, and the same command "
            "goes on from the last checkpoint"
        ) from error
