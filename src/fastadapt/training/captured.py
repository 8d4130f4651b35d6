"""Outer steps on a GPU that is never waited for: the update is one CUDA graph, and decides on the device if it is made.

Where the loss or the gradient is not finite, fused optimizers leave weights and moments as they were by a flag in the
device's memory (`found_inf`, which gradient scalers use), and the learner's buffers are put back in the same graph. The
flag is copied to the host while the next step begins, and is read there: see `Late`. An optimizer without it (one of
your own, or on a CPU) takes `outer_step`, which looks at each step.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.engine.graph import Graphs, copy_all
from fastadapt.engine.recorder import OnCuda, Recorder, Uncapturable
from fastadapt.layers.rewrites import tell_once
from fastadapt.learner import Learner
from fastadapt.tasks import Tasks
from fastadapt.training.outer_step import Late, OuterStep, Stepped, outer_step
from fastadapt.training.programmed import ProgrammedStep
from fastadapt.training.settings import Training
from fastadapt.training.update import fixed, updated
from fastadapt.training.whole_step import WholeStep, detached

logger = logging.getLogger("fastadapt")

HOW = ("fused", "foreach", "capturable")
"""Options of an optimizer that say how it computes: those of the machine, not of the checkpoint."""


def captured_where_it_can_be(step: OuterStep, optimizer: torch.optim.Optimizer) -> OuterStep:
    """Return what takes outer steps: `step`, but for `outer_step` what needs less of Python where it can."""
    if step is not outer_step:
        return step
    return CapturedStep() if capturable(optimizer) else ProgrammedStep()


def capturable(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer steps without the host: a fused one of torch, with its rate on the GPU.

    Example:
        >>> capturable(torch.optim.Adam([torch.zeros(1)]))
        False
    """
    devices = {p.device for group in optimizer.param_groups for p in group["params"]}
    return len(devices) == 1 and devices.pop().type == "cuda" and skips_by_flag(optimizer)


def skips_by_flag(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether an optimizer takes `found_inf`, and its rate from a tensor, and calls nothing of anybody's."""
    scales = bool(getattr(optimizer, "_step_supports_amp_scaling", False))
    hooked = [getattr(optimizer, f"_optimizer_step_{when}_hooks", None) for when in ("pre", "post")]
    if any(hooked):
        return False
    groups = optimizer.param_groups
    return scales and all(isinstance(g["lr"], Tensor) and g.get("fused") and g.get("capturable", True) for g in groups)


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set the rate of a parameter group; a tensor keeps its place, from where a graph reads it."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def saved(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state of an optimizer with its rates as numbers, whatever device it steps on."""
    state = optimizer.state_dict()
    rates = ("lr", "initial_lr")
    plain = [{k: float(v) if k in rates else v for k, v in group.items()} for group in state["param_groups"]]
    return {**state, "param_groups": plain}


def load(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Put an optimizer into a state of `saved`, perhaps that of another device; how it computes stays its own."""
    own = [{name: group[name] for name in (*HOW, "lr") if name in group} for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for group, mine in zip(optimizer.param_groups, own, strict=True):
        rate = float(group["lr"])
        group.update(mine)
        set_rate(group, rate)
        for p in group["params"]:
            step = optimizer.state[p].get("step") if p in optimizer.state else None
            if isinstance(step, Tensor) and (mine.get("fused") or mine.get("capturable")):
                optimizer.state[p]["step"] = step.to(p.device, torch.float32)


class CapturedStep:
    """Take outer steps as `outer_step` does, without waiting for the device.

    The first updates are made of single calls, as these make the optimizer's state; then one is recorded. It is
    recorded anew when other parameters receive a gradient, or anything lies elsewhere or is set otherwise. Once that
    stands, the step is recorded from the tasks to the weights, where it can be: see `WholeStep`.

    Args:
        recorder: makes what records on a device; None takes what the learner's engine records with, and its memory.
    """

    def __init__(self, recorder: Callable[[torch.device], Recorder] | None = None) -> None:
        self._make = recorder
        self._recorder: Recorder | None = None
        self._update: _Update | None = None
        self._facts: Any = None
        self._refused = self._parted = False
        self._whole: WholeStep | None = None

    def __call__(
        self, learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training
    ) -> Stepped:
        """Take one step."""
        optimizer._warned_capturable_if_run_uncaptured = True  # type: ignore[attr-defined]  # torch warns of step one
        if self._whole is not None and self._whole.fits(learner, tasks, optimizer, training):
            outcome, finite, gradient = self._whole(tasks)
            return Stepped(outcome, Late(_fetched(finite)), gradient)
        buffers = list(learner.buffers())
        before = [torch.empty_like(buffer) for buffer in buffers]
        copy_all(before, buffers)
        optimizer.zero_grad(set_to_none=True)
        outcome = learner(tasks)
        outcome.loss.backward()
        params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        loss = outcome.loss.detach()
        facts = fixed(optimizer, params, buffers, loss, training)
        if facts != self._facts:
            self._facts, self._update, self._whole = facts, None, None
        elif self._update is None and not self._refused:
            self._update = self._recorded(learner, loss, params, buffers, before, optimizer, training)
        if self._update is None:
            finite, gradient = updated(loss, params, buffers, before, optimizer, training)
        else:
            finite, gradient = self._update(loss, [p.grad for p in params], before)
            self._join(learner, tasks, optimizer, training, params)
        # without its graph: what the next step records must not meet what this one has left
        return Stepped(detached(outcome), Late(_fetched(finite)), gradient)

    def _join(
        self,
        learner: Learner,
        tasks: list[Tasks],
        optimizer: torch.optim.Optimizer,
        training: Training,
        params: list[nn.Parameter],
    ) -> None:
        """Record the whole step, once, where it can be."""
        if self._whole is not None or self._parted:
            return
        assert self._recorder is not None
        try:
            self._whole = WholeStep(learner, tasks, optimizer, training, params, self._recorder)
        except Uncapturable as error:
            self._parted = True
            logger.debug("an outer step stays in two graphs, because %s", error)

    def _recorded(
        self,
        learner: Learner,
        loss: Tensor,
        params: list[nn.Parameter],
        buffers: list[Tensor],
        before: list[Tensor],
        optimizer: torch.optim.Optimizer,
        training: Training,
    ) -> "_Update | None":
        if self._recorder is None:
            graphs = getattr(getattr(learner, "engine", None), "graphs", None)
            shared = graphs.recorder if isinstance(graphs, Graphs) else OnCuda
            self._recorder = (self._make or shared)(params[0].device)
        given = [p.grad for p in params]
        own = loss.clone(), [torch.empty_like(p) for p in params], [torch.empty_like(b) for b in buffers]
        try:
            for p, static in zip(params, own[1], strict=True):
                p.grad = static
            with torch.no_grad():
                result, replay = self._recorder.record(
                    lambda: updated(own[0], params, buffers, own[2], optimizer, training)
                )
        except Uncapturable as error:
            self._refused = True
            tell_once(f"the outer optimizer steps by single calls, because {error}")
            return None
        finally:
            for p, grad in zip(params, given, strict=True):
                p.grad = grad
        return _Update(own, result, replay)


class _Update:
    """Hold a recorded update, the tensors that it reads, and those that it writes its results to."""

    def __init__(self, own: Any, results: tuple[Tensor, Tensor], replay: Callable[[], None]) -> None:
        self.loss, self.grads, self.before = own
        self.results = results
        self.replay = replay

    def __call__(self, loss: Tensor, grads: list[Any], before: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return whether all was finite, and the norm of the gradient."""
        with torch.no_grad():
            copy_all([self.loss, *self.grads, *self.before], [loss, *grads, *before])
            self.replay()
            finite, gradient = self.results
            return finite, gradient.clone()


def _fetched(flag: Tensor) -> Callable[[], bool]:
    """Return what waits for a flag of the device, whose copy to the host is under way from now on."""
    if not flag.is_cuda:
        kept = flag.clone()
        return lambda: bool(kept)
    host = torch.empty(flag.shape, dtype=flag.dtype, pin_memory=True)
    host.copy_(flag, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(flag.device))

    def wait() -> bool:
        event.synchronize()
        return bool(host)

    return wait
