"""Several processes for one command: torch's own launcher starts them, and each joins the others."""

import logging
import os
import signal
import sys
from collections.abc import Sequence

import torch
import torch.distributed as dist

from fastadapt.errors import ConfigError
from fastadapt.ranks import Ranks

RESTARTS = 3
"""How often processes are started again after one of them was killed."""
logger = logging.getLogger("fastadapt")


def launched() -> bool:
    """Whether a launcher started this process as one of several: torchrun, and what sets the same variables."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def launch(processes: int, words: Sequence[str]) -> int:
    """Run `python -m fastadapt WORDS` in several processes on this machine, and return the exit code.

    Where one is killed all are started again, and go on from the last checkpoint; an error of its own ends them all.

    Args:
        processes: how many.
        words: of the command.

    Raises:
        ConfigError: if there are none, or this torch can't.
    """
    if processes < 1:
        raise ConfigError(f"--processes must be at least 1, got {processes}")
    if not dist.is_available():
        raise ConfigError("--processes needs torch.distributed, which this build of torch lacks; leave it out")
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the command has said what went wrong
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=f"fastadapt-{os.getpid()}",
        max_restarts=0,
        monitor_interval=0.1,
    )
    for restart in range(RESTARTS + 1):
        try:
            elastic_launch(config, sys.executable)("-m", "fastadapt", *words)
            return 0
        except SignalException as stop:
            return 128 + int(stop.sigval)
        except ChildFailedError as failed:
            codes = [failure.exitcode for failure in failed.failures.values()]
            killed = [-code for code in codes if code < 0 and -code != signal.SIGTERM]
            if not killed or restart == RESTARTS:
                return next((code for code in codes if code > 0), 128 + max(killed, default=signal.SIGTERM))
            logger.warning("a process was killed by %s; all are started again", signal.Signals(killed[0]).name)
    raise AssertionError("the last try returns")


def join(device: torch.device) -> tuple[Ranks, torch.device]:
    """Join the other processes, where a launcher started several, and return them with the device of this one.

    Everything but the first one's errors is silent: it says for all what happens.

    Args:
        device: what was chosen; several processes on GPUs take one each.
    """
    if not launched():
        return Ranks.found(), device
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"there are {torch.cuda.device_count()} GPUs and more processes; use fewer, or --device cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    ranks = Ranks.found()
    if not ranks.first:
        logger.setLevel(logging.ERROR)
    return ranks, device


def leave() -> None:
    """Leave the others, who need no more of this process."""
    if launched() and dist.is_initialized():
        dist.destroy_process_group()
