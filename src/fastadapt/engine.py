"""Run a function of one task over all tasks of a meta-batch, by the route that works and is fast.

Two routes give the same numbers:

* "vmap": many tasks at once (`torch.func.vmap` with the gradient *inside*: a gradient taken from outside of a
  vmap is wrong for some normalisation layers in torch 2.13), in chunks that fit the memory budget;
* "loop": one task after another with plain autograd, which runs whatever torch runs.

"auto" measures both, once for each shape of task, and says in the log what it chose. When vmap can't run a module the
loop does, and the reason is logged once. The first time vmap serves a shape its result is compared in float64 with
the loop's; if they disagree, or vmap can't be run so, the loop serves, and that is logged.

Either route can be compiled (`fastadapt.compiled`). A compiled result is compared with the eager one before it is used.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils import _pytree as pytree

from fastadapt.bound import first_line
from fastadapt.calculus import Autograd, Functional, able_to_differentiate, differentiable
from fastadapt.compiled import Compiled
from fastadapt.errors import FastadaptError
from fastadapt.execution import Execution, Route, as_execution
from fastadapt.kernels import on_kernels_that_differentiate, precision
from fastadapt.memory import PeakBytes, budget
from fastadapt.parallel import run_on_threads
from fastadapt.rewrites import tell_once
from fastadapt.runner import Inline, Runner
from fastadapt.tasks import Tasks

__all__ = ["Engine", "Route", "TaskFunction"]

TaskFunction = Callable[[Any, Any, Any, Any, Runner], tuple[Any, Any]]
"""`f(state, support, query, extra, run) -> (to be averaged over tasks, to be stacked)`."""

AGREEMENT = 1e-6
"""Largest relative difference, in float64, between the two routes' gradients."""
ROUGH_AGREEMENT = 1e-2
"""The same for a module that runs in its own lower precision only, where rounding flips maxima."""
CLEARLY = 1.3
"""How many times faster the loop must be than vmap to be taken: between equals the choice should not flicker."""
WORTH_COMPILING = 300.0
"""Seconds of eager work ahead from which "auto" compiles; a compilation takes 10 to 100 seconds."""

logger = logging.getLogger("fastadapt.engine")


@dataclass
class Plan:
    """Hold how tasks of one shape are run, and why."""

    route: Literal["vmap", "loop"]
    chunk: int | None = None
    compile: Literal["off", "trace", "on"] = "off"
    why: str = ""


class Engine:
    """Choose and remember how to run each shape of task.

    Args:
        route: a route, or an `Execution` with every option.

    Raises:
        ConfigError: for an unknown route.
    """

    def __init__(self, route: "Route | Execution" = "auto") -> None:
        self.execution = as_execution(route)
        self.route = self.execution.route
        self.calls_ahead = 0
        self.plans: dict[Any, Plan] = {}
        self._recorded: dict[str, dict[str, Any]] = {}
        self._compiled: dict[Any, Compiled] = {}
        self._explained = False

    def expect(self, calls: int) -> None:
        """Say that about `calls` meta-batches are to come, by which "auto" decides whether compiling pays."""
        self.calls_ahead = calls

    def choices(self) -> dict[str, dict[str, Any]]:
        """Return what was chosen for each shape of task, as JSON values."""
        return {**self._recorded, **{_described(key): asdict(plan) for key, plan in self.plans.items()}}

    def recall(self, choices: dict[str, dict[str, Any]]) -> None:
        """Take the choices of an earlier run where the same shapes come, so that a resume computes alike."""
        self._recorded = dict(choices)

    def __call__(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, key: Any, pieces: bool = False
    ) -> tuple[Any, Any]:
        """Return `(mean over tasks of the first result, stack over tasks of the second)`.

        Args:
            f: the function of one task.
            state: everything it depends on besides the task: a pytree of tensors.
            tasks: stacked tasks (or collectors, which always run in the loop).
            extra: a pytree of tensors with a leading task axis; `()` if there is none.
            model: the module inside, to choose the route by.
            key: what else distinguishes this function, for remembering how it runs; its first item is its name.
            pieces: whether `f` only calls pieces through its runner, so that it can be compiled.
        """
        if torch.is_inference_mode_enabled():
            with able_to_differentiate():
                support, query, state, extra = differentiable((tasks.support, tasks.query, state, extra))
                return self(f, state, replace(tasks, support=support, query=query), extra, model, key, pieces)
        with precision(self.execution.precision, tasks):
            if not tasks.stacked:
                return self._loop(f, state, tasks, extra)
            leaves = pytree.tree_leaves((tasks.support, tasks.query))
            key = (key, tuple((tuple(leaf.shape[1:]), leaf.dtype) for leaf in leaves))
            plan = self.plans.get(key)
            if plan is None:
                plan = self.plans[key] = self._choose(f, state, tasks, extra, model, key, pieces)
            return self._run(plan, f, state, tasks, extra, key)

    def _run(self, plan: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, key: Any) -> tuple[Any, Any]:
        if plan.compile != "off":
            compiled = self._programs(plan, key)
            if plan.route == "loop":
                return self._on_threads(compiled, f, state, tasks, extra)
            return _in_chunks(plan.chunk, tasks, extra, lambda few, rest: _batched(compiled, f, state, few, rest))
        if plan.route == "vmap":
            segment = self.execution.segment
            return _in_chunks(plan.chunk, tasks, extra, lambda few, rest: _vmap(f, state, few, rest, segment))
        return self._loop(f, state, tasks, extra)

    def _programs(self, plan: Plan, key: Any) -> Compiled:
        if key not in self._compiled:
            threads = 1 if plan.route == "loop" else torch.get_num_threads()
            kind: Literal["trace", "on"] = "trace" if plan.compile == "trace" else "on"
            self._compiled[key] = Compiled(kind, plan.route == "vmap", threads, self.execution.segment)
        return self._compiled[key]

    # ---- choosing ------------------------------------------------------------------------------

    def _choose(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, key: Any, pieces: bool
    ) -> Plan:
        recorded = self._recorded.get(_described(key))
        began = _random_states(tasks)
        with torch.random.fork_rng(devices=_cuda_devices(tasks)):
            if recorded is not None:
                plan = Plan(**recorded)
            else:
                plan = self._choose_route(f, state, tasks, extra, model)
            drew = any(not torch.equal(a, b) for a, b in zip(began, _random_states(tasks), strict=True))
            want = self._wanted(plan, f, state, tasks, extra, key, pieces) if recorded is None else plan.compile
            if want != "off" and drew:
                want = self._uncompiled(model, "it draws random numbers (dropout?), and a program would draw others")
            if want != "off":
                plan = self._choose_compiled(want, plan, f, state, tasks, extra, model, key)
        if len(tasks) > 1 and recorded is None:
            logger.info("%s: %s", _described(key), _in_words(plan))
        return plan

    def _choose_route(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module) -> Plan:
        if self.route == "loop":
            # one task, so that whether random numbers are drawn shows here as well
            _ = self._loop(f, state, *_first(1, tasks, extra)) if self.execution.compile != "off" else None
            return Plan("loop", why="asked for")
        few, some = _first(2, tasks, extra)
        memory = PeakBytes()
        try:
            _vmap(f, state, few, some, self.execution.segment)
            with memory:
                _vmap(f, state, few, some, self.execution.segment)
            difference, allowed = self._disagreement(f, state, few, some)
        except FastadaptError:
            raise
        except Exception as error:  # whatever torch can't batch, the loop may run
            self._loop(f, state, few, some)  # an error of the module itself surfaces here, unchanged
            return self._explain(f"vmap can't run {type(model).__name__}: {first_line(error)}")
        if difference > allowed:
            return self._explain(
                f"vmap gave {type(model).__name__} another result (relative difference {difference:.1e})"
            )
        chunk = self._chunk(memory.peak / len(few), tasks)
        if self.route == "vmap" or len(tasks) == 1:
            return Plan("vmap", chunk, why="asked for" if self.route == "vmap" else "one task")
        return self._faster(f, state, tasks, extra, chunk)

    def _faster(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, chunk: int | None) -> Plan:
        one, of_one = _first(1, tasks, extra)
        loop = _seconds(lambda: self._loop(f, state, one, of_one), tasks) * len(tasks)
        many, of_many = _first(min(len(tasks), chunk or len(tasks), 8), tasks, extra)
        vmapped = _seconds(lambda: _vmap(f, state, many, of_many, self.execution.segment), tasks)
        share = len(tasks) / len(many) if vmapped > loop / len(tasks) else 1.0  # a short call costs its launches only
        vmapped *= share
        why = f"measured: vmap {1e3 * vmapped:.3g} ms, loop {1e3 * loop:.3g} ms for {len(tasks)} tasks"
        return Plan("loop", why=why) if loop * CLEARLY < vmapped else Plan("vmap", chunk, why=why)

    def _chunk(self, bytes_per_task: float, tasks: Tasks) -> int | None:
        if self.execution.task_chunk is not None:
            return self.execution.task_chunk
        device = pytree.tree_leaves(tasks.support)[0].device
        fits = max(1, int(budget(device, self.execution.memory) / max(bytes_per_task, 1)))
        return None if fits >= len(tasks) else fits

    def _wanted(
        self, plan: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, key: Any, pieces: bool
    ) -> Literal["off", "trace", "on"]:
        wanted = self.execution.compile
        if not pieces or wanted == "off":
            return "off"
        if wanted != "auto":
            return wanted
        if not self.calls_ahead:
            return "off"
        seconds = _seconds(lambda: self._run(plan, f, state, tasks, extra, key), tasks)
        return "on" if seconds * self.calls_ahead > WORTH_COMPILING else "off"

    def _choose_compiled(
        self, want: Literal["trace", "on"], eager: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any,
        model: nn.Module, key: Any,
    ) -> Plan:
        route = self.route if self.route != "auto" else "loop" if _convolves_on_cpu(model, tasks) else eager.route
        plan = Plan(route, eager.chunk if route == "vmap" else None, want, "compiled")
        if plan.chunk is not None:  # chunks of one size need one program
            plan.chunk = max(n for n in range(1, plan.chunk + 1) if len(tasks) % n == 0)
        few, some = (tasks, extra) if route == "vmap" else _first(5, tasks, extra)
        try:
            error, allowed = self._drift(plan, eager, f, state, few, some, key)
        except FastadaptError:
            raise
        except Exception as error:  # no compiler, or an operation it doesn't know
            self._compiled.pop(key, None)
            if want == "on":
                tell_once(f"compiling {type(model).__name__} failed, so its steps are recorded and replayed: {first_line(error)}")
                return self._choose_compiled("trace", eager, f, state, tasks, extra, model, key)
            self._uncompiled(model, first_line(error))
            return eager
        if error > allowed:
            self._compiled.pop(key, None)
            self._uncompiled(model, f"the compiled gradient is off by {error:.1e}, where eager float32 is by {allowed / 10:.1e}")
            return eager
        return plan

    def _drift(
        self, plan: Plan, eager: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, key: Any
    ) -> tuple[float, float]:
        """Return the compiled result's distance from float64, and the allowed one: ten times that of eager execution.

        Rounding flips a maximum or a ReLU in a task now and then, compiled or not; so where tasks can be told apart
        the median over tasks is compared.
        """
        groups = [_one(tasks, extra, t) for t in range(len(tasks))] if plan.route == "loop" else [(tasks, extra)]
        compiled, plain = [], []
        for few, some in groups:
            try:
                reference = _numbers(*self._loop(f, *_widened(state, few, some)))
            except Exception:  # a module that insists on its own precision
                reference = _numbers(*self._loop(f, state, few, some))
            plain.append(_distance(_numbers(*self._run(eager, f, state, few, some, key)), reference))
            compiled.append(_distance(_numbers(*self._run(plan, f, state, few, some, key)), reference))
        floor = 1e-3 if self.execution.precision == "float32" else 5e-2
        return _median(compiled), max(10 * _median(plain), floor)

    def _explain(self, reason: str) -> Plan:
        if not self._explained:  # one reason is enough: training and evaluation often fail in different words
            tell_once(f"tasks run in a loop, because {reason}")
        self._explained = True
        return Plan("loop", why=reason)

    def _uncompiled(self, model: nn.Module, reason: str) -> Literal["off"]:
        tell_once(f"{type(model).__name__} is not compiled: {reason}")
        return "off"

    # ---- running -------------------------------------------------------------------------------

    def _loop(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
        run = Inline(Autograd(), self.execution.segment)

        def one(t: int) -> tuple[Any, Any]:
            task, rest = tasks[t], pytree.tree_map(lambda leaf: leaf[t], extra)
            return on_kernels_that_differentiate(partial(f, state, task.support, task.query, rest, run))

        return _mean_and_stack(len(tasks), map(one, range(len(tasks))))

    def _on_threads(self, run: Compiled, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
        def one(t: int) -> tuple[Any, Any]:
            task, rest = tasks[t], pytree.tree_map(lambda leaf: leaf[t], extra)
            return f(state, task.support, task.query, rest, run)

        threads = self.execution.threads or torch.get_num_threads()
        return _mean_and_stack(len(tasks), run_on_threads(one, len(tasks), threads))

    def _disagreement(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[float, float]:
        """Return the relative difference between the routes' results (0 where it can't be told), and the allowed one."""
        arguments = _widened(state, tasks, extra)
        before, allowed = _random_states(tasks), AGREEMENT
        try:
            reference = _numbers(*self._loop(f, *arguments))
        except Exception as error:  # a module that insists on its own precision
            tell_once(f"the vmap route is only checked roughly, because float64 does not run: {first_line(error)}")
            arguments, allowed = (state, tasks, extra), ROUGH_AGREEMENT
            reference = _numbers(*self._loop(f, *arguments))
        if any(not torch.equal(a, b) for a, b in zip(before, _random_states(tasks), strict=True)):
            return 0.0, allowed  # dropout draws other masks on the two routes
        return _distance(_numbers(*_vmap(f, *arguments, self.execution.segment)), reference), allowed


def _vmap(f: TaskFunction, state: Any, tasks: Tasks, extra: Any, segment: int | None = None) -> tuple[Any, Any]:
    def one(support: Any, query: Any, rest: Any) -> tuple[Any, Any]:
        return f(state, support, query, rest, Inline(Functional(), segment))

    averaged, stacked = vmap(one, randomness="different")(tasks.support, tasks.query, extra)
    return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked


def _batched(run: Compiled, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Any]:
    averaged, stacked = f(state, tasks.support, tasks.query, extra, run)
    return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked


def _in_chunks(
    chunk: int | None, tasks: Tasks, extra: Any, run: Callable[[Tasks, Any], tuple[Any, Any]]
) -> tuple[Any, Any]:
    """Run `chunk` tasks at once, and put the results together."""
    if chunk is None or chunk >= len(tasks):
        return run(tasks, extra)
    total: Any = None
    parts = []
    for start in range(0, len(tasks), chunk):
        part = slice(start, start + chunk)
        support, query, rest = pytree.tree_map(lambda leaf, p=part: leaf[p], (tasks.support, tasks.query, extra))
        few = Tasks(support, query)
        averaged, stacked = run(few, rest)
        averaged = pytree.tree_map(lambda leaf, s=len(few) / len(tasks): leaf * s, averaged)
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        parts.append(stacked)
    return total, pytree.tree_map(lambda *leaves: torch.cat(leaves), *parts)


def _mean_and_stack(count: int, results: Any) -> tuple[Any, Any]:
    total: Any = None
    each = []
    for averaged, stacked in results:
        # a running sum: memory does not grow with the number of tasks
        total = averaged if total is None else pytree.tree_map(torch.add, total, averaged)
        each.append(stacked)
    return pytree.tree_map(lambda leaf: leaf / count, total), pytree.tree_map(_stack, *each)


def _stack(*leaves: Tensor) -> Tensor | list[Tensor]:
    return torch.stack(leaves) if len({leaf.shape for leaf in leaves}) == 1 else list(leaves)


def _first(count: int, tasks: Tasks, extra: Any) -> tuple[Tasks, Any]:
    few = Tasks(*pytree.tree_map(lambda leaf: leaf[:count], (tasks.support, tasks.query)))
    return few, pytree.tree_map(lambda leaf: leaf[:count], extra)


def _one(tasks: Tasks, extra: Any, t: int) -> tuple[Tasks, Any]:
    few = Tasks(*pytree.tree_map(lambda leaf: leaf[t : t + 1], (tasks.support, tasks.query)))
    return few, pytree.tree_map(lambda leaf: leaf[t : t + 1], extra)


def _seconds(run: Callable[[], Any], tasks: Tasks) -> float:
    """Return how long `run` takes, at best of two after one to warm up."""
    devices = _cuda_devices(tasks)

    def once() -> float:
        began = time.perf_counter()
        run()
        for device in devices:
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    once()
    return min(once(), once())


def _convolves_on_cpu(model: nn.Module, tasks: Tasks) -> bool:
    convolves = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in model.modules())
    return convolves and pytree.tree_leaves(tasks.support)[0].device.type == "cpu"


def _widened(state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Tasks, Any]:
    """Return the arguments in float64."""

    def wide(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    few = Tasks(*pytree.tree_map(wide, (tasks.support, tasks.query)))
    return pytree.tree_map(wide, state), few, pytree.tree_map(wide, extra)


def _cuda_devices(tasks: Tasks) -> list[torch.device]:
    devices = {leaf.device for leaf in pytree.tree_leaves(tasks.support)}
    return [d for d in devices if d.type == "cuda"]


def _numbers(averaged: Any, stacked: Any) -> list[Tensor]:
    """Return what two executions are compared by: the gradient, or the losses where there is none."""
    return pytree.tree_leaves(averaged) or [stacked["loss"]]


def _distance(numbers: list[Tensor], reference: list[Tensor]) -> float:
    """Return the relative Euclidean distance; 0 where the reference is not finite, because it can't judge then."""
    pairs = list(zip(numbers, reference, strict=True))
    distance = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    size = sum(float(b.square().sum()) for _, b in pairs) ** 0.5
    if distance == 0 or not math.isfinite(size):
        return 0.0
    return distance / size if size > 0 and math.isfinite(distance) else math.inf


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _random_states(tasks: Tasks) -> list[Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in _cuda_devices(tasks))]


def _described(key: Any) -> str:
    """Return a key in words: the function's name and the shapes of a task."""
    (name, *_), shapes = key
    return f"{name} {' '.join('x'.join(map(str, shape)) or 'scalar' for shape, _ in shapes)}"


def _in_words(plan: Plan) -> str:
    how = "tasks at once (vmap)" if plan.route == "vmap" else "one task after another (loop)"
    chunk = f", {plan.chunk} at a time" if plan.chunk else ""
    form = {"off": "", "trace": ", as recorded programs", "on": ", as compiled programs"}[plan.compile]
    return f"{how}{chunk}{form}; {plan.why}"
