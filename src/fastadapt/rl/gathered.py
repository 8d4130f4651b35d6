"""What a meta-batch of tasks lived through, and the collectors that it was asked of."""

from dataclasses import dataclass

from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.learner import MetaBatch
from fastadapt.rl.experience import Experience
from fastadapt.rl.tasks import EpisodeCollector
from fastadapt.tasks import as_groups, is_collector


@dataclass(frozen=True)
class Gathered:
    """Hold what a meta-batch of `T` tasks lived through.

    Args:
        supports: for each inner step the steps that it learned from, `[T, R, ...]`.
        query: the steps of the adapted policies.
        metrics: of each task, `[T]`: the return of the first and of the adapted policy, steps in environments, episodes
            that were not finite.
        worth: of each task, `[T]`, see `fastadapt.rl.e_maml.worth`; None where theta's part in what is sampled is left
            out.
    """

    supports: list[Experience]
    query: Experience
    metrics: dict[str, Tensor]
    worth: Tensor | None = None

    def first(self, tasks: int) -> "Gathered":
        """Return what the first so many tasks lived through."""

        def some(leaf: Tensor) -> Tensor:
            return leaf[:tasks]

        supports, query, metrics = pytree.tree_map(some, (self.supports, self.query, self.metrics))
        return Gathered(supports, query, metrics, None if self.worth is None else self.worth[:tasks])


def collectors_of(tasks: MetaBatch) -> tuple[list[EpisodeCollector], list[EpisodeCollector]]:
    """Return the collectors of all tasks in the order in which they were given."""
    placed = [pair for group in as_groups(tasks) for pair in zip(group.positions, group, strict=True)]
    ordered = [task for _, task in sorted(placed, key=lambda pair: pair[0])]
    pairs = [(task.support, task.query) for task in ordered]
    for side in (each for pair in pairs for each in pair):
        if not isinstance(side, EpisodeCollector):
            raise TaskError(
                f"a meta-policy learns from episodes, got a {type(side).__name__}; draw tasks from "
                f"fastadapt.rl.tasks.Environments{', or take MAML with a Collector of your own' * is_collector(side)}"
            )
    return [support for support, _ in pairs], [query for _, query in pairs]
