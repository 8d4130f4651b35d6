"""Adaptive subspaces: the class whose span of samples comes nearest to the query (Simon et al. 2020)."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError
from fastadapt.layers.norm import Norm
from fastadapt.losses import Loss
from fastadapt.methods.compared import Comparison, Memory, class_means
from fastadapt.methods.episodes import Episode
from fastadapt.methods.metric import MetricLearner
from fastadapt.methods.one_pass import Answer

Basis = Literal["svd", "solve"]
RIDGE = 1e-6
"""Of the form without SVD, relative to the mean square of the offsets: below what float32 resolves of a distance."""


class Spans(Comparison):
    r"""Compare with the affine subspace through the samples of each class, `s_c(x) = -||(I - P_c)(f(x) - m_c)||`.

    Args:
        basis: "svd" or "solve", see `AdaptiveSubspaces`.
        squared: take the squared distance.
    """

    def __init__(self, basis: Basis = "solve", squared: bool = False) -> None:
        super().__init__(basis=basis, squared=squared)
        if basis not in get_args(Basis):
            raise ConfigError(f"basis must be 'svd' or 'solve', got {basis!r}")
        self.basis, self.squared = basis, squared

    def remember(self, features: Tensor, y: Tensor, ways: int) -> Memory:
        """Return `{"means": [N, d], "bases": [N, d, k]}` with `P_c = B_c B_c^T`."""
        f = features.flatten(1)
        means = class_means(f, y, ways)
        members = F.one_hot(y, ways)
        place = (members.cumsum(0) - members).gather(1, y.unsqueeze(1)).squeeze(1)  # which sample of its class it is
        most = int(members.sum(0).max())
        if most > f.shape[1]:
            raise TaskError(
                f"{most} samples of a class span {most - 1} dimensions, and the embedding has {f.shape[1]}: every "
                "query would lie in that subspace; take an embedding with more numbers than a class has samples"
            )
        offsets = f.new_zeros(ways, most, f.shape[1]).index_put((y, place), f - means[y])  # rows of zeros span nothing
        if self.basis == "svd":
            return {"means": means, "bases": _singular(offsets, members.sum(0).tolist())}
        gram = offsets @ offsets.transpose(1, 2)
        level = gram.diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(f.dtype).tiny)
        ridge = RIDGE * level.view(-1, 1, 1) * torch.eye(most, dtype=f.dtype, device=f.device)
        root = torch.linalg.cholesky(gram + ridge)  # gram + ridge = L L^T, and P = X (L L^T)^-1 X^T
        return {"means": means, "bases": torch.linalg.solve_triangular(root, offsets, upper=False).transpose(1, 2)}

    def forward(self, features: Tensor, memory: Memory) -> Tensor:
        """Return minus the distances, or squared distances, to the subspaces, `[n, N]`."""
        offsets = features.flatten(1) - memory["means"].unsqueeze(1)  # [N, n, d]
        within = offsets @ memory["bases"]
        squares = (offsets - within @ memory["bases"].transpose(1, 2)).square().sum(2).T
        return -squares if self.squared else -(squares + 1e-12).sqrt()


class AdaptiveSubspaces(MetricLearner):
    r"""Learn an embedding in which the samples of a class span a subspace that its further samples are near to.

        m_c = mean_j f(x_j),      X_c = [f(x_j) - m_c]_j,      P_c: the projection onto the span of X_c
        s_c(x) = -||(I - P_c)(f(x) - m_c)||,      loss = CE(s(x), y) + lambda sum_{j != k} ||P_j^T P_k||_F^2

    The last term pushes the subspaces of two classes apart, each ordered pair counting once. `K` samples of a class
    span `K - 1` dimensions. Two forms of `P_c` are equal up to rounding: "svd", the published one, `P_c = U U^T` of
    the first `K - 1` left singular vectors, found in float64, whose gradient grows without bound where two singular
    values meet; and "solve", `P_c = X (X^T X + eps I)^{-1} X^T`, whose gradient does not.

    A task in which some class has a single sample gets a copy of every support image, flipped left to right, so that
    two span a line.

    Args:
        model: the embedding `f`, see `MetricLearner`; features are flattened.
        loss: on the outputs; default cross-entropy.
        basis: "solve" or "svd".
        squared: take squared distances.
        discriminative: lambda >= 0; the paper: 0.03 with four convolution blocks, 0 with ResNet-12.
        norm: the batch-norm mode; any but "per_step".

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> learner = AdaptiveSubspaces(nn.Identity())
        >>> x = torch.tensor([[1.0, 0, 0], [3.0, 0, 2], [9.0, 9, 9], [9.0, 8, 9]])
        >>> predict = learner.adapt((x, torch.tensor([0, 0, 1, 1])))
        >>> round(float(predict(torch.tensor([[2.0, 1.0, 3.0]]))[0, 0]), 3)      # minus the root of 3
        -1.732

    References:
        Simon, Koniusz, Nock, Harandi 2020, Adaptive Subspaces for Few-Shot Learning (CVPR), and their public code.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None = None,
        *,
        basis: Basis = "solve",
        squared: bool = False,
        discriminative: float = 0.03,
        norm: Norm = "running",
    ) -> None:
        super().__init__(model, Spans(basis, squared), loss, norm)
        if not 0 <= discriminative < float("inf"):
            raise ConfigError(f"discriminative must be finite and >= 0, got {discriminative}")
        self.discriminative = discriminative

    def signature(self) -> dict[str, Any]:
        """Return the facts of `MetricLearner.signature`, with the weight of the discriminative term."""
        return {**super().signature(), "discriminative": self.discriminative}

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return a support set with a flipped copy beside it, where a class has a single sample."""
        if not bool((torch.bincount(y) == 1).any()):
            return x, y
        if x.dim() != 4:
            raise TaskError(
                f"one sample of a class spans no subspace, and samples of shape {tuple(x.shape[1:])} are no images "
                "(C, H, W) that could be flipped; give at least 2 samples of each class, or choose ProtoNet"
            )
        return torch.cat((x, x.flip(3))), torch.cat((y, y))

    def objective(self, answer: Answer, episode: Episode) -> Tensor:
        """Return the loss of the outputs, and the discriminative term."""
        loss = super().objective(answer, episode)
        return loss + self.discriminative * overlap(answer.memory["bases"]) if self.discriminative else loss


def overlap(bases: Tensor) -> Tensor:
    """Return `sum_{j != k} ||B_j^T B_k||_F^2` of bases `[N, d, k]`, ordered pairs.

    It is 0 for orthogonal subspaces, and their dimension for each ordered pair of equal ones.

    Example:
        >>> line = torch.tensor([[1.0], [0.0]])
        >>> overlap(torch.stack((line, line))), overlap(torch.stack((line, line.flip(0))))
        (tensor(2.), tensor(0.))
    """
    products = torch.einsum("jda,kdb->jkab", bases, bases).square().sum((2, 3))
    return products.sum() - products.diagonal().sum()


def _singular(offsets: Tensor, counts: list[int]) -> Tensor:
    """Return the left singular vectors of each class, `[N, d, k]`, as many as its samples span; zeros beyond."""
    bases = []
    for own, count in zip(offsets.double(), counts, strict=True):
        if count < 2:
            bases.append(own.new_zeros(own.shape[1], 0))
        else:
            # K offsets that sum to zero are K - 1 contrasts of the same span: no singular value is zero for nothing
            bases.append(torch.linalg.svd(own[:count].T @ _contrasts(count).to(own), full_matrices=False)[0])
    most = max(1, *(basis.shape[1] for basis in bases))
    return torch.stack([F.pad(basis, (0, most - basis.shape[1])) for basis in bases]).to(offsets.dtype)


def _contrasts(count: int) -> Tensor:
    """Return the orthonormal contrasts of `count` samples, `[count, count - 1]` (Helmert's)."""
    rows = torch.arange(1, count, dtype=torch.float64)
    table = torch.ones(count - 1, count, dtype=torch.float64).tril()
    table[torch.arange(count - 1), torch.arange(1, count)] = -rows
    return (table / (rows * (rows + 1)).sqrt().unsqueeze(1)).T
