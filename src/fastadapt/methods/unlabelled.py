"""Losses that need no labels, for adapting to a domain of which there are only inputs."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastadapt.errors import ConfigError, TaskError


def inputs_of(batch: Any) -> Tensor:
    """Return the inputs of a batch: itself, or what stands first in it; labels are not looked at.

    Raises:
        TaskError: if there is no tensor.
    """
    x = batch[0] if isinstance(batch, (tuple, list)) and batch else batch
    if not isinstance(x, Tensor):
        raise TaskError(
            f"a batch without labels is a tensor x: [n, ...], or begins with it; got {type(batch).__name__}"
        )
    return x


def logits_of(model: Any, batch: Any) -> Tensor:
    """Return a classifier's outputs `[n, N]` on the inputs of a batch.

    Raises:
        TaskError: if they have another form, or there is one class alone.
    """
    output = model(inputs_of(batch))
    if not isinstance(output, Tensor) or output.dim() != 2 or output.shape[1] < 2:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise TaskError(f"entropy is of answers among 2 classes or more, [n, N], and the model returned {got}")
    return output


@dataclass(frozen=True)
class Entropy:
    """Compute the mean entropy of a classifier's answers, `-(1/n) sum_i sum_c p_ic log p_ic`, `p = softmax(s f(x))`.

    Sure answers have little entropy, so minimising it makes a network surer of what it says already, right or wrong.

    Args:
        scale: s, for outputs that are cosines.
        diverse: the weight of the entropy of the mean answer, which is taken off: above 0 it keeps all answers from
            becoming the same one.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> round(float(Entropy()(nn.Identity(), torch.zeros(3, 2))), 4)        # log 2
        0.6931

    References:
        Wang et al. 2021, Tent: Fully Test-Time Adaptation by Entropy Minimization (arXiv:2006.10726); Liang, Hu, Feng
        2020 for the diverse part (arXiv:2002.08546).
    """

    scale: float = 1.0
    diverse: float = 0.0
    higher_is_better: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf") or not 0 <= self.diverse < float("inf"):
            raise ConfigError(f"scale must be > 0 and diverse >= 0, got {self.scale} and {self.diverse}")

    def __call__(self, model: Any, batch: Any) -> Tensor:
        """Return the loss of a model on a batch whose labels are not looked at."""
        surprise = F.log_softmax(self.scale * logits_of(model, batch), dim=1)
        entropy = -(surprise.exp() * surprise).sum(1).mean()
        if not self.diverse:
            return entropy
        mean = surprise.exp().mean(0)
        return entropy + self.diverse * (mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum()


class LearnedLoss(nn.Module):
    r"""Learn a loss that needs no labels: a network of a classifier's answers, meta-trained as the inner loss.

        L_psi(theta; x) = (1/n) sum_i [ H(p_i) + g_psi(H(p_i), max p_i, H(p_i) - H(mean p)) ]

    `p_i` are the answers to one input, H is the entropy over the logarithm of the number of classes, and g a small
    network that begins at 0, so that the loss begins as entropy. As `inner_loss` of `MAML`, with a labelled loss on the
    query and the exact meta-gradient, psi learns such a loss whose step on inputs alone lowers the labelled loss on
    others of their domain.

    Args:
        width: hidden units of g.

    Raises:
        ConfigError: if there are none.

    Example:
        >>> from fastadapt import MAML, SGD, CrossEntropy
        >>> learner = MAML(nn.Linear(4, 3), CrossEntropy(), rule=SGD(0.1), inner_loss=LearnedLoss())
        >>> learner.adapt(torch.randn(6, 4))(torch.randn(2, 4)).shape
        torch.Size([2, 3])

    References:
        Zhang et al. 2021, Adaptive Risk Minimization (arXiv:2007.02931), whose ARM-LL has a network of the features;
        this one sees how sure the answers are, and works for any classes.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        if width < 1:
            raise ConfigError(f"a learned loss needs at least 1 hidden unit, got {width}")
        self.hidden, self.out = nn.Linear(3, width), nn.Linear(width, 1, bias=False)  # a constant moves nothing
        nn.init.zeros_(self.out.weight)

    def forward(self, model: Any, batch: Any) -> Tensor:
        """Return the loss of a model on a batch whose labels are not looked at."""
        logits = logits_of(model, batch)
        surprise = F.log_softmax(logits, dim=1)
        p = surprise.exp()
        most = torch.log(torch.tensor(float(logits.shape[1]), dtype=p.dtype, device=p.device))
        entropy = -(p * surprise).sum(1) / most
        mean = p.mean(0)
        together = -(mean * mean.clamp(min=torch.finfo(p.dtype).tiny).log()).sum() / most
        seen = torch.stack((entropy, p.amax(1), entropy - together), 1)
        return (entropy + self.out(F.softplus(self.hidden(seen))).squeeze(1)).mean()
