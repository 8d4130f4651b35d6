"""Losses of a network on pairs of faces, as learners take them: `loss(model, batch)`.

A batch is `(x, y, B)`: `x: [D 2 B, ...]`, domain by domain, in each the gallery of B identities and then their probes,
`y: [D 2 B]`, the number of each one's identity, and B as a plain number. Embeddings are brought to length 1 here.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from fastadapt.errors import ConfigError, TaskError
from fastadapt.faces.margin import Margin, check_margin, margin_logits
from fastadapt.faces.pair_losses import domain_alignment, hard_pairs, soft_classification
from fastadapt.judging.labels import told


def embedded(model: Any, batch: Any) -> Tensor:
    """Return the embeddings of a batch, `[D, 2, B, d]`, of length 1.

    Raises:
        TaskError: if the batch is none of pairs, or the model's output is no embedding.
    """
    x, y = paired(batch)
    return in_pairs(model(x), y)


def paired(batch: Any) -> tuple[Tensor, Tensor]:
    """Return `x` of a batch of pairs, and `y` as `[D, 2, B]`.

    Raises:
        TaskError: if it is none.
    """
    x, y, people = batch if isinstance(batch, (tuple, list)) and len(batch) == 3 else (None, None, None)
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or not isinstance(people, int) or people < 1:
        got = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise TaskError(
            f"a batch of pairs is (x: [D 2 B, ...], y: [D 2 B], B) for B identities of each of D domains, got {got}; "
            "draw them with pair_splits"
        )
    if len(x) != y.numel() or y.numel() % (2 * people) or not y.numel():
        raise TaskError(
            f"pairs of {people} identities a domain are a multiple of {2 * people} samples with an identity each, got "
            f"{len(x)} samples and {y.numel()} identities"
        )
    return x, y.reshape(-1, 2, people)


def in_pairs(output: Any, y: Tensor) -> Tensor:
    """Return a network's output `[D 2 B, d]` as embeddings `[D, 2, B, d]` of length 1.

    Raises:
        TaskError: if it has another form.
    """
    if not isinstance(output, Tensor) or output.dim() != 2 or len(output) != y.numel():
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TaskError(f"an embedding of {y.numel()} faces is [{y.numel()}, d], and the model returned {got}")
    return F.normalize(output, dim=-1).reshape(*y.shape, -1)


def rank_one(output: Tensor, batch: Any) -> Tensor:
    """Return the share of probes whose most similar gallery image, of all in the batch, is of their identity."""
    features = in_pairs(output, paired(batch)[1])
    gallery, probe = (features[:, role].flatten(0, 1) for role in (0, 1))
    best = (probe @ gallery.T).argmax(1)
    return (best == torch.arange(len(best), device=best.device)).to(gallery.dtype).mean()


@dataclass(frozen=True)
class PairLoss:
    """Compute `w_hp L_hp + w_cls L_cls + w_da L_da`, the losses of MFR, on pairs of one or more domains.

    Identities of all domains in the batch stand in one gallery, so that negatives and class weights cross domains. Of a
    single domain L_da is 0. See `fastadapt.faces.pair_losses` for each.

    Args:
        positive: tau_p; a pair of one identity with a cosine below is hard.
        negative: tau_n; a pair of two identities with a cosine above is hard.
        scale: s of the soft classification.
        alignment_scale: s of the domain alignment.
        hard: the weight of L_hp.
        soft: the weight of L_cls.
        alignment: the weight of L_da.
        detach: take the class weights of L_cls as constants.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> x = torch.eye(2).repeat(2, 1)
        >>> found = PairLoss(scale=1.0)(torch.nn.Identity(), (x, torch.tensor([0, 1, 0, 1]), 2))
        >>> round(float(found["loss"]), 4), float(found["alignment"])
        (0.3133, 0.0)

    References:
        Guo et al. 2020, Learning Meta Face Recognition in Unseen Domains (arXiv:2003.07733).
    """

    positive: float = 0.7
    negative: float = 0.3
    scale: float = 16.0
    alignment_scale: float = 1.0
    hard: float = 1.0
    soft: float = 1.0
    alignment: float = 1.6
    detach: bool = False
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"the scale s multiplies cosines and must be > 0, got {self.scale}")
        for name in ("hard", "soft", "alignment"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"the weight {name} of a loss must be a number >= 0, got {getattr(self, name)}")

    def __call__(self, model: Any, batch: Any) -> dict[str, Tensor]:
        """Return the loss, its three terms and the share of pairs that are hard."""
        features = embedded(model, batch)
        gallery, probe = (features[:, role].flatten(0, 1) for role in (0, 1))
        found = hard_pairs(gallery, probe, self.positive, self.negative)
        soft = soft_classification(gallery, probe, self.scale, self.detach)
        apart = domain_alignment(features.mean((1, 2)), self.alignment_scale)
        return {
            "loss": self.hard * found.loss + self.soft * soft + self.alignment * apart,
            "hard": found.loss,
            "soft": soft,
            "alignment": apart,
            "positives": found.positives,
            "negatives": found.negatives,
        }

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"rank1": ...}` among the identities of the batch."""
        return {"rank1": rank_one(output, batch)}


@dataclass(frozen=True)
class MarginLoss:
    """Compute the softmax over all training identities with a margin, on pairs; both images count alike.

    The model has a row of weights for each identity in `model.identities: [C, d]`, as `WithIdentities` has. Identities
    that did not train, with the number -1, have none and do not count; where all are such, the loss is 0.

    Args:
        kind: "cosface" or "arcface".
        scale: s.
        margin: m.

    Raises:
        ConfigError: for a setting outside its range.

    References:
        Wang et al. 2018 (arXiv:1801.09414); Deng et al. 2019 (arXiv:1801.07698).
    """

    kind: Margin = "cosface"
    scale: float = 16.0
    margin: float = 0.2
    higher_is_better: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_margin(self.kind, self.scale, self.margin)

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """Return the loss of a model on a batch.

        Raises:
            TaskError: if the model has no weights for identities.
        """
        x, y = paired(batch)
        features = in_pairs(model(x), y).flatten(0, 2)
        weights = getattr(model, "identities", None)
        if not isinstance(weights, Tensor):
            raise TaskError(
                "a softmax over identities needs a row of weights for each in model.identities: [C, d]; wrap the "
                "embedding in WithIdentities(embedding, identities=C, features=d)"
            )
        numbers, known = y.flatten().clamp(min=0), (y.flatten() >= 0).to(features.dtype)
        chosen: dict[str, Any] = {"kind": self.kind, "scale": self.scale, "margin": self.margin}
        logits = margin_logits(features, weights, numbers, **chosen)
        with told(logits, numbers):
            losses = F.cross_entropy(logits, numbers, reduction="none")
        return (losses * known).sum() / known.sum().clamp(min=1)

    def metrics(self, output: Tensor, batch: Any) -> dict[str, Tensor]:
        """Return `{"rank1": ...}` among the identities of the batch."""
        return {"rank1": rank_one(output, batch)}
