"""Library functions that are replaced inside the inner loop, while the user's module stays as it is.

Each replacement gives the numbers of the original and covers only the arguments it says it covers:

* batch normalisation takes the moments that the task's `Statistics` name, and is written out;
* convolution becomes `fastadapt.layers.convolution`, whose derivatives of every order are fast kernels;
* layer, batch and instance normalisation are written out for a loss that differentiates the network itself, as the
  third derivative of torch's kernels is wrong (`fastadapt.layers.slopes`);
* group normalisation gets its maps with channels first: torch's CPU kernel for channels last (2.13) ends the process
  where parameters of the norm want a gradient and the input does not, as behind frozen layers;
* attention runs on the kernel that has a second derivative;
* weight normalisation is written out, as torch's kernel has a wrong second derivative (by `v`, 47 % off in torch 2.13);
* embeddings give dense gradients, and bound the norm of rows without writing to the table;
* while a program is traced for a compiler, max-pooling takes the form of `fastadapt.layers.pooling`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from fastadapt.errors import TaskError
from fastadapt.layers import convolution, embedding, pooling, slopes
from fastadapt.layers.kept import running_again
from fastadapt.layers.norm import Statistics
from fastadapt.layers.tracing import Audience, is_for, written_for

logger = logging.getLogger("fastadapt")
_told: set[str] = set()


def tell_once(message: str) -> None:
    """Log `message` at INFO, the first time only."""
    if message not in _told:
        _told.add(message)
        logger.info(message)


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """Return `g v / |v|`, the norm taken over all dimensions but `dim` (over all for -1)."""
    others = [d for d in range(v.dim()) if d != dim] if dim != -1 else list(range(v.dim()))
    return v * (g / torch.linalg.vector_norm(v, dim=others, keepdim=dim != -1))


_MAX_POOLING = (F.max_pool2d, torch.max_pool2d)
_ATTENTION = (F.scaled_dot_product_attention, F.multi_head_attention_forward)


def _in_a_checkpoint() -> bool:
    autograd: Any = torch._C._autograd  # type: ignore[attr-defined]
    hooks = autograd._top_saved_tensors_default_hooks(True)
    return hooks is not None and "checkpoint" in getattr(hooks[0], "__qualname__", "")


class Rewrites(TorchFunctionMode):
    """Replace library functions during one forward pass of a task.

    Args:
        statistics: with which moments batch normalisation normalises.
        referred: whether the model refers to its parameters in ways that can't be followed back in time (a closure), so
            that a checkpoint, which computes once more in the backward pass, has to be refused.
        model: whose forward pass it is; None where a part of one is run again.
    """

    def __init__(self, statistics: Statistics, referred: bool = False, model: nn.Module | None = None) -> None:
        super().__init__()
        self.statistics = statistics
        self.referred = referred
        self.model = model
        if slopes.known(model):
            statistics.written_out = True
        self._around = slopes.depth()
        self._on_kernels = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.referred and _in_a_checkpoint():
            raise TaskError(
                "the model refers to a parameter in a closure or a list of its own, and computes in a checkpoint, "
                "which computes once more with what that holds by then; use the parameter as an attribute of a "
                "module, or leave the checkpoint off"
            )
        if func in slopes.NORMS:
            return self._norm(func, args, kwargs)
        if func in slopes.BACKWARD:
            return self._differentiated(func, args, kwargs)
        if func is torch.conv2d and self._by_maps() and convolution.covers(*args, **kwargs):
            return convolution.conv2d(*args, **kwargs)
        if func is F.group_norm and args:
            return func(args[0].contiguous(), *args[1:], **kwargs)
        if func is torch._weight_norm:
            return weight_norm(*args, **kwargs)
        if func is F.embedding or func is F.embedding_bag:
            return embedding.replaced(func, args, kwargs)
        if func in _MAX_POOLING and is_for("compiler") and pooling.covers(*args, **kwargs):
            return pooling.max_pool2d(*args, **kwargs)
        if func in _ATTENTION:  # inside of a function this mode is off, so the outer one has to be caught
            tell_once("attention runs with the math kernel: the fused ones have no second derivative")
            with sdpa_kernel(SDPBackend.MATH):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _by_maps(self) -> bool:
        """Whether convolutions are the library's own, which have no forward mode."""
        return not is_for("autograd") and not slopes.forward_mode()

    def _differentiated(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self._on_kernels and self.model is not None and slopes.differentiates(func, args, kwargs):
            slopes.remember(self.model)
            raise slopes.Sloped("the loss differentiates a network whose norms ran on kernels")
        with running_again(as_then):  # a checkpoint runs once more here, and this mode is off inside of a function
            return func(*args, **kwargs)

    def _norm(self, func: Any, args: Any, kwargs: Any) -> Any:
        if self.statistics.written_out or slopes.within_a_loss(self._around):
            with slopes.written_out():
                if func is F.batch_norm:
                    return self.statistics.batch_norm(*args, **kwargs)
                found = slopes.replaced(func, args, kwargs)
            if found is not None:
                return found
        self._on_kernels = self._on_kernels or func is not F.batch_norm or is_for("autograd")
        return self.statistics.batch_norm(*args, **kwargs) if func is F.batch_norm else func(*args, **kwargs)


@contextmanager
def as_then(note: tuple[Statistics, Audience]) -> Iterator[None]:
    """Run a part of a module again as it was run when it was bound, from within a backward pass."""
    statistics, whom = note
    with written_for(whom), Rewrites(statistics.again()):
        yield
