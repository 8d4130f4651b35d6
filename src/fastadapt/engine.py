"""Run a function of one task over all tasks of a meta-batch, by the route that works and is fast.

Two routes give the same numbers:

* "vmap": all tasks at once (`torch.func.vmap` with the gradient *inside*: a gradient taken from outside of a
  vmap is wrong for some normalisation layers in torch 2.13);
* "loop": one task after another with plain autograd, which runs whatever torch runs.

"auto" takes vmap, except for convolutions on large inputs on a CPU, where grouped convolutions lose. When
vmap can't run a module the loop does, and the reason is logged once. The first time vmap serves a shape its result
is compared in float64 with the loop's; if they disagree, or vmap can't be run so, the loop serves, and that is logged.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from fastadapt.bound import first_line, tell_once
from fastadapt.calculus import Autograd, Calculus, Functional, able_to_differentiate, differentiable
from fastadapt.errors import ConfigError, FastadaptError
from fastadapt.tasks import Tasks

Route = Literal["auto", "vmap", "loop"]
TaskFunction = Callable[[Any, Any, Any, Any, Calculus], tuple[Any, Any]]
"""`f(state, support, query, extra, calculus) -> (to be averaged over tasks, to be stacked)`."""

LOOP_ABOVE_ELEMENTS = 30_000
"""Input elements of one task above which convolutions on a CPU run faster in a loop."""
AGREEMENT = 1e-6
"""Largest relative difference, in float64, between the two routes' gradients."""
ROUGH_AGREEMENT = 1e-2
"""The same for a module that runs in its own lower precision only, where rounding flips maxima."""

logger = logging.getLogger("fastadapt")


class Engine:
    """Choose and remember the route for each shape of task.

    Args:
        route: "auto", or one of the routes to force it.

    Raises:
        ConfigError: for an unknown route.
    """

    def __init__(self, route: Route = "auto") -> None:
        if route not in get_args(Route):
            raise ConfigError(f"route must be 'auto', 'vmap' or 'loop', got {route!r}")
        self.route = route
        self._chosen: dict[Any, Literal["vmap", "loop"]] = {}
        self._explained = False

    def __call__(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, key: Any
    ) -> tuple[Any, Any]:
        """Return `(mean over tasks of the first result, stack over tasks of the second)`.

        Args:
            f: the function of one task.
            state: everything it depends on besides the task: a pytree of tensors.
            tasks: stacked tasks (or collectors, which always run in the loop).
            extra: a pytree of tensors with a leading task axis; `()` if there is none.
            model: the module inside, to choose the route by.
            key: what else distinguishes this function, for remembering its route.
        """
        if torch.is_inference_mode_enabled():
            with able_to_differentiate():
                support, query, state, extra = differentiable((tasks.support, tasks.query, state, extra))
                return self(f, state, replace(tasks, support=support, query=query), extra, model, key)
        if not tasks.stacked or self.route == "loop":
            return _loop(f, state, tasks, extra)
        shapes = tuple((tuple(leaf.shape[1:]), leaf.dtype) for leaf in pytree.tree_leaves((tasks.support, tasks.query)))
        key = (key, shapes, model.training)
        if key not in self._chosen:
            self._chosen[key] = self._choose(f, state, tasks, extra, model)
        return (_vmap if self._chosen[key] == "vmap" else _loop)(f, state, tasks, extra)

    def _choose(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module
    ) -> Literal["vmap", "loop"]:
        if self.route == "auto" and _loop_is_faster(model, tasks):
            return "loop"
        few = Tasks(*pytree.tree_map(lambda leaf: leaf[:2], (tasks.support, tasks.query)))
        some = pytree.tree_map(lambda leaf: leaf[:2], extra)
        with torch.random.fork_rng(devices=_cuda_devices(tasks)):
            try:
                _vmap(f, state, few, some)
                difference, allowed = _disagreement(f, state, few, some)
            except FastadaptError:
                raise
            except Exception as error:  # whatever torch can't batch, the loop may run
                _loop(f, state, few, some)  # an error of the module itself surfaces here, unchanged
                return self._explain(f"vmap can't run {type(model).__name__}: {first_line(error)}")
        if difference > allowed:
            return self._explain(
                f"vmap gave {type(model).__name__} another result (relative difference {difference:.1e})"
            )
        return "vmap"

    def _explain(self, reason: str) -> Literal["loop"]:
        if not self._explained:  # one reason is enough: training and evaluation often fail in different words
            tell_once(f"tasks run in a loop, because {reason}")
        self._explained = True
        return "loop"


def _vmap(f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
    def one(support: Any, query: Any, rest: Any) -> tuple[Any, Any]:
        return f(state, support, query, rest, Functional())

    averaged, stacked = vmap(one, randomness="different")(tasks.support, tasks.query, extra)
    return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked


def _loop(f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
    total: Any = None
    each = []
    for t, task in enumerate(tasks):
        rest = pytree.tree_map(lambda leaf, t=t: leaf[t], extra)
        averaged, stacked = on_kernels_that_differentiate(partial(f, state, task.support, task.query, rest, Autograd()))
        # a running sum: memory does not grow with the number of tasks
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        each.append(stacked)
    return pytree.tree_map(lambda leaf: leaf / len(tasks), total), pytree.tree_map(_stack, *each)


def _stack(*leaves: Tensor) -> Tensor | list[Tensor]:
    return torch.stack(leaves) if len({leaf.shape for leaf in leaves}) == 1 else list(leaves)


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


def _loop_is_faster(model: nn.Module, tasks: Tasks) -> bool:
    leaves = pytree.tree_leaves((tasks.support, tasks.query))
    convolves = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in model.modules())
    elements = sum(leaf[0].numel() for leaf in leaves)
    return convolves and leaves[0].device.type == "cpu" and elements > LOOP_ABOVE_ELEMENTS


def _cuda_devices(tasks: Tasks) -> list[torch.device]:
    devices = {leaf.device for leaf in pytree.tree_leaves(tasks.support)}
    return [d for d in devices if d.type == "cuda"]


def _disagreement(f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[float, float]:
    """Return the relative difference between the routes' results (0 where it can't be told), and the allowed one."""

    def wide(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    wide_tasks = Tasks(*pytree.tree_map(wide, (tasks.support, tasks.query)))
    arguments = (pytree.tree_map(wide, state), wide_tasks, pytree.tree_map(wide, extra))
    before, allowed = _random_states(tasks), AGREEMENT
    try:
        reference = _numbers(*_loop(f, *arguments))
    except Exception as error:  # a module that insists on its own precision
        tell_once(f"the vmap route is only checked roughly, because float64 does not run: {first_line(error)}")
        arguments, allowed = (state, tasks, extra), ROUGH_AGREEMENT
        reference = _numbers(*_loop(f, *arguments))
    if any(not torch.equal(a, b) for a, b in zip(before, _random_states(tasks), strict=True)):
        return 0.0, allowed  # dropout draws other masks on the two routes
    pairs = list(zip(reference, _numbers(*_vmap(f, *arguments)), strict=True))
    distance = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    size = sum(float(a.square().sum()) for a, _ in pairs) ** 0.5
    if distance == 0 or not math.isfinite(size):  # where the loop's own result is not finite it can't judge
        return 0.0, allowed
    return (distance / size if size > 0 and math.isfinite(distance) else math.inf), allowed


def _numbers(averaged: Any, stacked: Any) -> list[Tensor]:
    """Return what the two routes are compared by: the gradient, or the losses where there is none."""
    return pytree.tree_leaves(averaged) or [stacked["loss"]]


def _random_states(tasks: Tasks) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in _cuda_devices(tasks))]
