"""The tasks and the initial weights of a workload, the same for every implementation."""

import sys
from pathlib import Path

import numpy as np
import torch
from workloads import Workload

sys.path.insert(0, str(Path(__file__).parent / "workers"))
from on_torch import network


def arrays(workload: Workload) -> dict[str, np.ndarray]:
    """Return tasks of white noise as images or of sine waves, and weights as the network draws them."""
    rng = np.random.default_rng(0)
    sizes = (workload.support, workload.query)
    if workload.ways:
        xs = [rng.standard_normal((workload.tasks, n, *workload.inputs), dtype=np.float32) for n in sizes]
        ys = [np.tile(np.arange(n) % workload.ways, (workload.tasks, 1)) for n in sizes]
    else:
        height, phase = rng.uniform(0.1, 5, (workload.tasks, 1, 1)), rng.uniform(0, np.pi, (workload.tasks, 1, 1))
        xs = [rng.uniform(-5, 5, (workload.tasks, n, *workload.inputs)).astype(np.float32) for n in sizes]
        ys = [(height * np.sin(x - phase)).astype(np.float32) for x in xs]
    torch.manual_seed(0)
    net = network(workload.net, workload.net_settings)
    weights = {f"weight/{name}": p.detach().numpy() for name, p in net.named_parameters()}
    return {"support_x": xs[0], "support_y": ys[0], "query_x": xs[1], "query_y": ys[1], **weights}
