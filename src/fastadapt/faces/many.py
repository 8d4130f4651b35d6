"""Softmax over very many identities: a step sees those of the batch and a random share of the others."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.faces.margin import Margin, check_margin, margin_softmax


class SampledIdentities(nn.Module):
    r"""Hold a row of weights for each of C identities, of which a step touches few.

    With all rows a step of n images keeps `n C` logits and a gradient of C rows. Here the identities of the batch are
    joined by others at random until there are `rate C`, and the softmax with margin is over these. The gradient is
    sparse: rows that were not drawn take no memory in it, and an optimizer for sparse gradients
    (`torch.optim.SparseAdam`, `SGD` without momentum) does not touch them.

    Args:
        identities: C.
        features: numbers of an embedding, d.
        rate: the share of the rows that a step sees, in (0, 1]; at least the batch's own are seen.
        kind: "cosface" or "arcface".
        scale: s.
        margin: m.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> rows = SampledIdentities(1000, 8, rate=0.1)
        >>> loss = rows(torch.randn(4, 8, requires_grad=True), torch.tensor([5, 5, 7, 999]))
        >>> loss.backward()
        >>> rows.weight.grad.is_sparse, rows.weight.grad.coalesce().indices().shape[1]
        (True, 100)

    References:
        An et al. 2021, Partial FC: Training 10 Million Identities on a Single Machine (arXiv:2010.05222), and 2022
        (arXiv:2203.15565), where the rows lie on several devices besides; here they lie on one.
    """

    def __init__(
        self,
        identities: int,
        features: int,
        *,
        rate: float = 0.1,
        kind: Margin = "cosface",
        scale: float = 64.0,
        margin: float = 0.35,
    ) -> None:
        super().__init__()
        check_margin(kind, scale, margin)
        if identities < 2 or features < 1:
            raise ConfigError(f"weights of identities are [C, d], C at least 2, got [{identities}, {features}]")
        if not 0 < rate <= 1:
            raise ConfigError(f"rate is the share of identities that a step sees and must be in (0, 1], got {rate}")
        self.weight = nn.Parameter(torch.randn(identities, features) * 0.01)
        self.rate = rate
        self.how: dict[str, Any] = {"kind": kind, "scale": scale, "margin": margin}

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of embeddings `[n, d]` of the identities `[n]`; which others are seen is drawn by torch.

        Raises:
            TaskError: if a label is no identity.
        """
        rows, places = self.drawn(labels)
        return margin_softmax(features, F.embedding(rows, self.weight, sparse=True), places, **self.how)

    def drawn(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the identities that a step sees, `[m]` in ascending order, and where each label stands among them.

        Raises:
            TaskError: if a label is no identity.
        """
        count = len(self.weight)
        if labels.dim() != 1 or not labels.numel() or int(labels.min()) < 0 or int(labels.max()) >= count:
            raise TaskError(
                f"labels are [n] of whole numbers in 0..{count - 1}, got {tuple(labels.shape)}"
                + (f" in {int(labels.min())}..{int(labels.max())}" if labels.numel() else "")
            )
        chance = torch.rand(count, device=labels.device)
        chance[labels] = 2.0  # those of the batch come first
        wanted = max(int(self.rate * count), len(labels.unique()))
        rows = chance.topk(wanted, sorted=False).indices.sort().values
        return rows, torch.searchsorted(rows, labels)
