"""Which samples of its support set a task takes at which inner step."""

import torch
from torch import Tensor

from fastadapt.errors import ConfigError
from fastadapt.tasks import Tasks


def check_batch_size(name: str, size: int | None) -> None:
    """Raise `ConfigError` unless `size` counts samples, or is None."""
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ConfigError(f"{name} must be at least 1 sample, got {size}")


def minibatch_order(
    samples: int, batch: int, steps: int, *, replacement: bool = False, generator: torch.Generator | None = None
) -> Tensor:
    """Return the sample numbers of `steps` minibatches of one task, `[steps, batch]`.

    Without replacement the shuffled samples are streamed, reshuffled when they run out, so a minibatch may
    straddle two passes. With replacement every minibatch is drawn afresh: distinct inside, independent between.
    They are drawn from `generator`, or else from torch's own.

    Example:
        >>> sorted(minibatch_order(6, 2, 3).flatten().tolist())
        [0, 1, 2, 3, 4, 5]
    """
    if replacement:
        return torch.stack([torch.randperm(samples, generator=generator)[:batch] for _ in range(steps)])
    passes = -(-steps * batch // samples)
    stream = torch.cat([torch.randperm(samples, generator=generator) for _ in range(passes)])
    return stream[: steps * batch].view(steps, batch)


def minibatches(
    groups: list[Tasks], steps: int, batch: int | None, *, replacement: bool = False, seed: int | None = None
) -> dict[str, list[Tensor]]:
    """Return `{"batches": one [steps, batch] per task}`, or nothing where every step takes the whole support set.

    A task's minibatches depend on nothing but its own size and its turn; with a `seed`, not on its turn either.

    Args:
        groups: the tasks.
        steps: inner steps.
        batch: samples of a minibatch; None takes the whole support set.
        replacement: draw every minibatch afresh, see `minibatch_order`.
        seed: of the order; None draws it from torch's generator.
    """
    if batch is None or steps == 0 or not all(group.stacked for group in groups):
        return {}
    first = {p: group.samples[i] for group in groups for i, p in enumerate(group.positions)}
    if max(len(samples) for samples in first.values()) <= batch:
        return {}
    order = []
    for _, samples in sorted(first.items(), key=lambda item: item[0]):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        size = len(samples)
        indices = minibatch_order(size, min(batch, size), steps, replacement=replacement, generator=generator)
        order.append(indices.to(samples.device))
    return {"batches": order}
