"""Which kernels torch uses inside the inner loop: those that can be differentiated twice."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastadapt.errors import TaskError
from fastadapt.layers.bound import first_line
from fastadapt.layers.rewrites import tell_once
from fastadapt.layers.slopes import Sloped


def on_kernels_that_differentiate(run: Callable[[], Any]) -> Any:
    """Return `run()`; where a fused kernel lacks a derivative, run it again on torch's plain ones.

    Raises:
        TaskError: if torch has no such derivative at all.
    """
    try:
        return written_out_where_wanted(run)
    except RuntimeError as error:
        if _is_reentrant(error):
            raise TaskError(
                "torch.utils.checkpoint with use_reentrant=True can't be differentiated in an inner loop; give it "
                "use_reentrant=False (transformers: gradient_checkpointing_enable({'use_reentrant': False}))"
            ) from None
        if not _lacks_a_derivative(error) and "cudnn" not in str(error).lower():
            raise
        told = first_line(error)
    try:
        with plain_kernels():
            result = written_out_where_wanted(run)
    except RuntimeError as error:
        if not _lacks_a_derivative(error):
            raise
        raise TaskError(
            f"torch has no second derivative here ({first_line(error)}); take meta_gradient=FirstOrder(), which needs "
            "none"
        ) from None
    tell_once(f"fused kernels are off inside the inner loop: {told}")
    return result


def written_out_where_wanted(run: Callable[[], Any]) -> Any:
    """Return `run()`; where its loss turns out to differentiate a network with norms, run it again with those sound."""
    try:
        return run()
    except Sloped:
        pass  # one that a vmap has raised would hold on to its tensors
    return run()


def _is_reentrant(error: RuntimeError) -> bool:
    return "use_reentrant=True" in str(error) or "CheckpointFunctionBackward" in str(error)


def _lacks_a_derivative(error: RuntimeError) -> bool:
    text = str(error)
    lacks = "once_differentiable" in text or "derivative" in text or "double backward" in text or "_backward" in text
    return lacks or (isinstance(error, NotImplementedError) and "backward" in text.lower())


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Turn off the fused recurrent, convolution and attention kernels that have no second derivative."""
    with ExitStack() as off:
        off.enter_context(sdpa_kernel(SDPBackend.MATH))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own default for another device
            off.enter_context(torch.backends.mkldnn.flags(enabled=False))
            off.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield
