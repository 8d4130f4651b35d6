"""Which kernels torch uses inside the inner loop: those that can be differentiated twice."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fastadapt.layers.bound import first_line
from fastadapt.layers.rewrites import tell_once


def on_kernels_that_differentiate(run: Callable[[], Any]) -> Any:
    """Return `run()`; where a fused kernel lacks a derivative, run it again on torch's plain ones."""
    try:
        return run()
    except RuntimeError as error:
        if "derivative" not in str(error) and "double backward" not in str(error) and "cudnn" not in str(error).lower():
            raise
        with plain_kernels():
            result = run()
        tell_once(f"fused kernels are off inside the inner loop: {first_line(error)}")
        return result


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
