"""First-order MAML as the Reptile paper compares it: only the last inner step counts (Nichol et al. 2018)."""

from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.calculus import Params
from fastadapt.learner import MetaBatch, Outcome
from fastadapt.losses import Loss
from fastadapt.methods.minibatches import minibatch_order
from fastadapt.methods.reptile import Reptile
from fastadapt.tasks import Tasks, as_groups, map_tensors


class FOML(Reptile):
    r"""Meta-learn an initialisation phi from the last step of every inner loop.

        theta_i^0 = phi,   theta_i^{j+1} = rule(theta_i^j, minibatch j of task i)         j = 0 .. k-1
        phi       <- phi + epsilon mean_i (theta_i^k - theta_i^{k-1})

    `loss.backward()` gives the pseudo-gradient `mean_i (theta_i^{k-1} - theta_i^k)`; with SGD inside, it is the inner
    rate times the gradient that first-order MAML takes with the last minibatch as its query. The paper finds that this
    needs a last minibatch with samples that the steps before have not seen, and Reptile does not:

    * *shared tail*, `tail=None`: the last minibatch is the next one of Reptile's stream, and may repeat samples;
    * *separate tail*, `tail=s`: `s` samples of each class, drawn anew each time, are kept apart and make up the last
      minibatch; the k-1 before it stream over the others. `batch` does not apply to the last.

    `adapt` and evaluation have no tail: they are Reptile's.

    Args:
        model: the network; its trainable parameters are phi.
        loss: `loss(model, batch) -> scalar`; default mean squared error.
        tail: samples of each class in a separate tail, or None. Classes are the whole numbers `y: [n]` of a support
            `(x, y)`; all samples of any other task, such as a regression, are one class. Where samples are collected
            anew at every step the last ones are separate anyway.
        settings: those of `Reptile`.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> from fastadapt import SGD, Task
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.ones_(net.weight)
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]])
        >>> FOML(net, rule=SGD(0.05), steps=2)(Task((x, y), (x, y))).loss.backward()
        >>> round(float(net.weight.grad) / 0.05, 4)      # the second gradient; Reptile adds the first, -3
        -2.25

    References:
        Nichol, Achiam, Schulman 2018, On First-Order Meta-Learning Algorithms (arXiv:1803.02999), section 6.3 and its
        public code.
    """

    def __init__(self, model: nn.Module, loss: Loss | None = None, *, tail: int | None = None, **settings: Any) -> None:
        super().__init__(model, loss, **settings)
        if tail is not None and tail < 1:
            raise ConfigError(f"tail must be at least 1 sample of each class, or None for a shared tail; got {tail}")
        self.tail = tail

    def signature(self) -> dict[str, Any]:
        """Return the facts of `Reptile.signature`, with the tail."""
        return {**super().signature(), "tail": self.tail}

    def forward(self, tasks: MetaBatch) -> Outcome:
        """Return the mean loss of the last minibatches, ahead of the step on them.

        Its `backward()` gives `mean_i (theta_i^{k-1} - theta_i^k)`.
        """
        return super().forward(tasks if self.tail is None else _by_number_of_classes(as_groups(tasks)))

    def _displaced(self, phi: Params, before: Params, end: Params) -> Params:
        return {name: before[name] - end[name] for name in end}

    def _reported(self, losses: list[Tensor]) -> Tensor:
        return losses[-1]

    def _train_batches(self, groups: list[Tasks]) -> dict[str, list[Tensor]]:
        if self.tail is None or self.steps == 0 or not all(group.stacked for group in groups):
            return super()._train_batches(groups)
        device = groups[0].device
        classes = {p: own for group in groups for p, own in zip(group.positions, _classes(group), strict=True)}
        batches, last = [], []
        for position in sorted(classes):
            others, tail = separate_tail(classes[position], self.tail)
            last.append(tail.to(device))
            if self.steps > 1:
                batches.append(self._stream(others).to(device))
        return {"last": last, "batches": batches} if batches else {"last": last}

    def _stream(self, samples: Tensor) -> Tensor:
        """Return the minibatches before the last one, `[k-1, batch]`, of these sample numbers."""
        size = len(samples)
        if not size:
            raise TaskError(
                f"tail={self.tail} keeps all samples of a task for the last inner step and leaves none for the "
                f"{self.steps - 1} before it; draw more shots, or take a smaller tail"
            )
        batch = size if self.batch is None else min(self.batch, size)
        return samples[minibatch_order(size, batch, self.steps - 1, replacement=self.replacement)]


def separate_tail(classes: Tensor, tail: int) -> tuple[Tensor, Tensor]:
    """Return the sample numbers of all others, and those of `tail` random samples of each class.

    Args:
        classes: the class of every sample, `[n]`.
        tail: samples of each class to keep apart, >= 1.

    Raises:
        TaskError: if a class has fewer than `tail` samples.

    Example:
        >>> others, last = separate_tail(torch.tensor([0, 0, 0, 1, 1, 1]), tail=1)
        >>> len(others), len(last), sorted((others.tolist() + last.tolist()))
        (4, 2, [0, 1, 2, 3, 4, 5])
    """
    shuffled = torch.randperm(len(classes))
    _, sizes = classes.unique(return_counts=True)
    if int(sizes.min()) < tail:
        raise TaskError(
            f"tail={tail} keeps {tail} samples of each class apart, and a class of a task has {int(sizes.min())} "
            "(a regression task counts as one class); draw more shots, or take a smaller tail"
        )
    members = shuffled[classes[shuffled].argsort(stable=True)].split(sizes.tolist())
    return torch.cat([one[tail:] for one in members]), torch.cat([one[:tail] for one in members])


def _classes(group: Tasks) -> Tensor:
    """Return the class of every sample, `[T, n]` on the CPU; where samples have none, they are all of class 0."""
    support = group.support
    labels = support[1] if isinstance(support, (tuple, list)) and len(support) > 1 else None
    if isinstance(labels, Tensor) and labels.dim() == 2 and not labels.is_floating_point():
        return labels.cpu()
    return torch.zeros(group.samples.shape[:2], dtype=torch.long)


def _by_number_of_classes(groups: list[Tasks]) -> list[Tasks]:
    """Return the groups such that the tasks of one have equally many classes, so that their tails can be stacked."""
    split = []
    for group in groups:
        counts = [len(own.unique()) for own in _classes(group)] if group.stacked else []
        if len(set(counts)) < 2:
            split.append(group)
            continue
        for count in sorted(set(counts)):
            members = [i for i, own in enumerate(counts) if own == count]
            support, query = map_tensors(lambda leaf, m=members: leaf[m], (group.support, group.query))
            split.append(Tasks(support, query, tuple(group.positions[i] for i in members)))
    return split
