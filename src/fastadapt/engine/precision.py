"""In which precision the inner loop computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fastadapt.engine.execution import Precision
from fastadapt.tasks import Tasks


@contextmanager
def precision(kind: Precision, tasks: Tasks, parameters: torch.device) -> Iterator[None]:
    """Compute in the given precision: "tf32" rounds the factors of a GPU's matrix products, "bf16" is autocast.

    Args:
        kind: the precision.
        tasks: on whose device it holds.
        parameters: the device of the network, for tasks that show no tensor.
    """
    if kind == "float32":
        yield
        return
    device = (tasks.device or parameters).type
    if kind == "bf16":
        with torch.autocast(device, dtype=torch.bfloat16):
            yield
        return
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
