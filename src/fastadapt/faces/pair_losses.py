"""The three losses of meta face recognition (MFR): hard pairs, soft classification, domain alignment.

`G` and `P` are gallery and probe: `[n, d]` each, rows of length 1, row `i` of both of identity `i`. `M = G P^T`.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class HardPairs:
    """Hold the loss of hard pairs, and how many there were.

    Args:
        loss: a scalar; a difference, so that it may be negative: it is no measure of progress.
        positives: `|P|`, pairs of one identity that are too far apart.
        negatives: `|Q|`, pairs of two identities that are too near.
    """

    loss: Tensor
    positives: Tensor
    negatives: Tensor


def hard_pairs(gallery: Tensor, probe: Tensor, positive: float, negative: float) -> HardPairs:
    r"""Pull hard positive pairs together and push hard negative ones apart.

        P = {i : M_ii < tau_p},      Q = {(i, j), i != j : M_ij > tau_n}
        L = 1/(2|P|) sum_P ||G_i - P_i||^2 - 1/(2|Q|) sum_Q ||G_i - P_j||^2 = mean_P (1 - M_ii) - mean_Q (1 - M_ij)

    An empty set adds 0. Which pairs are hard is a constant for the gradient.

    Args:
        gallery: `G: [n, d]`, rows of length 1.
        probe: `P: [n, d]`, rows of length 1.
        positive: tau_p, a cosine in -1..1.
        negative: tau_n, a cosine in -1..1.

    Returns:
        The loss and the sizes of both sets.

    Example:
        >>> e = torch.eye(2)
        >>> float(hard_pairs(e, e, 0.9, 0.5).loss)     # none is hard
        0.0

    References:
        Guo et al. 2020, Learning Meta Face Recognition in Unseen Domains (arXiv:2003.07733). The rule that mines pairs
        is told by readers of the paper; the form of the loss is ours to choose, see docs/faces.md.
    """
    cosines = gallery @ probe.transpose(-1, -2)
    same = torch.eye(cosines.shape[-1], dtype=torch.bool, device=cosines.device)
    hard_same = (same & (cosines < positive)).to(cosines.dtype)
    hard_other = (~same & (cosines > negative)).to(cosines.dtype)
    positives, negatives = hard_same.sum(), hard_other.sum()
    far = (hard_same * (1 - cosines)).sum() / positives.clamp(min=1)
    near = (hard_other * (1 - cosines)).sum() / negatives.clamp(min=1)
    return HardPairs(far - near, positives, negatives)


def soft_classification(gallery: Tensor, probe: Tensor, scale: float, detach: bool = False) -> Tensor:
    r"""Tell every identity of a batch from all others, with class weights that are made of the batch.

        W_i = normalise((G_i + P_i) / 2),      L = [CE(s G W^T, 0..n-1) + CE(s P W^T, 0..n-1)] / 2

    Args:
        gallery: `G: [n, d]`, rows of length 1.
        probe: `P: [n, d]`, rows of length 1.
        scale: s > 0.
        detach: take W as a constant for the gradient.

    Returns:
        A scalar; `log n` where all embeddings are equal.

    Example:
        >>> round(float(soft_classification(torch.eye(2), torch.eye(2), 1.0)), 4)      # -log(e / (e + 1))
        0.3133

    References:
        Guo et al. 2020 (arXiv:2003.07733), as readers tell it; without a margin, which they do not mention.
    """
    weights = F.normalize((gallery + probe) / 2, dim=-1)
    weights = (weights.detach() if detach else weights).transpose(-1, -2)
    numbers = torch.arange(gallery.shape[0], device=gallery.device)
    of_gallery = F.cross_entropy(scale * gallery @ weights, numbers)
    return (of_gallery + F.cross_entropy(scale * probe @ weights, numbers)) / 2


def domain_alignment(centres: Tensor, scale: float = 1.0) -> Tensor:
    r"""Pull the centres of the domains together.

        c_j = mean of all embeddings of domain j,      c = mean_j c_j,      L = (1/D) sum_j ||s (c_j - c)||^2

    With `s = 64`, `s^2 = 4096` multiplies the squared distance, and the other losses are swamped.

    Args:
        centres: `[D, d]`, the mean embedding of each domain, not normalised again.
        scale: s.

    Returns:
        A scalar, 0 for equal centres; it does not change where all are shifted alike.

    Example:
        >>> float(domain_alignment(torch.tensor([[0.0], [2.0]])))
        1.0

    References:
        Guo et al. 2020 (arXiv:2003.07733), as readers tell it; where s stands is not known.
    """
    apart = scale * (centres - centres.mean(0))
    return apart.square().sum(1).mean()
