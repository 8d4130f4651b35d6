"""In which precision the inner loop computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils import _pytree as pytree

from fastadapt.engine.execution import Precision
from fastadapt.tasks import Tasks


@contextmanager
def precision(kind: Precision, tasks: Tasks) -> Iterator[None]:
    """Compute in the given precision: "tf32" rounds the factors of a GPU's matrix products, "bf16" is autocast."""
    if kind == "float32":
        yield
        return
    device = pytree.tree_leaves(tasks.support)[0].device.type if tasks.stacked else "cpu"
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
