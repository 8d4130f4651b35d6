"""Run a function of one task over all tasks of a meta-batch, by the route that works and is fast.

Two routes give the same numbers:

* "vmap": many tasks at once (`torch.func.vmap` with the gradient *inside*: a gradient taken from outside of a
  vmap is wrong for some normalisation layers in torch 2.13), in chunks that fit the memory budget;
* "loop": one task after another with plain autograd, which runs whatever torch runs.

"auto" measures both, once for each shape of task, and says in the log what it chose. When vmap can't run a module the
loop does, and the reason is logged once. The first time vmap serves a shape its result is compared in float64 with
the loop's; if they disagree, or vmap can't be run so, the loop serves, and that is logged.

Either route can be compiled (`fastadapt.engine.programs`). A compiled result is compared with the eager one before it
is used.
"""

import logging
import math
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.check import cuda_devices, distance, median, numbers, random_states, seconds, widened
from fastadapt.engine.execution import Execution, Route, as_execution
from fastadapt.engine.memory import PeakBytes, budget
from fastadapt.engine.plan import Plan, described, milliseconds
from fastadapt.engine.precision import precision
from fastadapt.engine.programs import Compiled, Whole, laid_out
from fastadapt.engine.routes import TaskFunction, batched, first, in_chunks, looped, on_threads, one_of, vmapped
from fastadapt.errors import FastadaptError
from fastadapt.inner.calculus import Captured, able_to_differentiate, differentiable
from fastadapt.layers.bound import first_line
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

__all__ = ["Engine", "Route", "TaskFunction"]

AGREEMENT = 1e-6
"""Largest relative difference, in float64, between the two routes' gradients."""
ROUGH_AGREEMENT = 1e-2
"""The same for a module that runs in its own lower precision only, where rounding flips maxima."""
CLEARLY = 1.3
"""How many times faster than the usual route the other one must be, every time it is measured."""
SMALL = 0.1
"""Seconds of a meta-batch below which the usual route is taken: there noise is as large as the difference."""
FEW = 8
"""Tasks by which vmap is measured."""
SLOW = 0.3  # seconds of a task from which two are enough
ROUNDS = 3  # times that the unusual route has to be clearly faster; the first time that it is not ends it
LOOP_ABOVE_ELEMENTS = 30_000
"""Input elements of one task above which convolutions on a CPU usually run faster in a loop."""
MOST_SHAPES, MOST_COUNTS = 16, 4
"""Shapes of task, and numbers of tasks run at once of one shape, that are compiled; others run eagerly."""
WORTH_COMPILING = 300.0
"""Seconds of eager work ahead from which "auto" compiles; a compilation takes 10 to 100 seconds."""
ALONE = "a single task"
"""Why the loop was taken without a look at vmap, whose first call takes seconds; trainings and more tasks look."""

OTHERS = "the loss depends on tensors that require a gradient beside the learner's own (a closure?)"
"""Why the loop was taken, which alone can find such tensors."""

logger = logging.getLogger("fastadapt.engine")


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
        self.calls_ahead, self.seconds_ahead = 0, math.inf
        self.plans: dict[Any, Plan] = {}
        self._recorded: dict[str, dict[str, Any]] = {}
        self._compiled: dict[Any, Compiled] = {}
        self._whole: dict[Any, Whole] = {}
        self._counts: dict[Any, set[int]] = {}
        self._forms: set[Any] = set()
        self._explained = False
        self._seen: Captured | None = None  # what a look at the loop finds, while a plan is made

    def __reduce__(self) -> Any:
        # programs can't be copied or stored; the choices are made again, or recalled
        return Engine, (self.execution,)

    def expect(self, calls: int, seconds: float = math.inf) -> None:
        """Say that about `calls` meta-batches are to come, within `seconds`: "auto" decides by it if compiling pays."""
        self.calls_ahead, self.seconds_ahead = calls, seconds

    def choices(self) -> dict[str, dict[str, Any]]:
        """Return what was chosen for each shape of task, as JSON values."""
        made = {described(key): asdict(plan) for key, plan in self.plans.items() if plan.why != ALONE}
        for name in made:
            if self._short_of_time() and "compile" not in self._recorded.get(name, {}):
                del made[name]["compile"]  # the clock's choice; with more time it is made again
        return {**self._recorded, **made}

    def _short_of_time(self) -> bool:
        return self.execution.compile == "auto" and self.seconds_ahead <= WORTH_COMPILING

    def recall(self, choices: dict[str, dict[str, Any]]) -> None:
        """Take the choices of an earlier run where the same shapes come, so that a resume computes alike."""
        self._recorded = dict(choices)

    def __call__(
        self,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        key: Any,
        pieces: bool = False,
        captured: Captured | None = None,
    ) -> tuple[Any, Any]:
        """Return `(mean over tasks of the first result, stack over tasks of the second)`.

        Args:
            f: the function of one task.
            state: everything it depends on besides the task: a pytree of tensors.
            tasks: stacked tasks (or collectors and objects of data, which always run in the loop).
            extra: a pytree of tensors with a leading task axis; `()` if there is none.
            model: the module inside, to choose the route by.
            key: what else distinguishes this function, for remembering how it runs; its first item is its name.
            pieces: whether `f` only calls pieces through its runner, so that it can be compiled.
            captured: gathers the gradients of what `f` depends on beside its arguments, which the loop alone finds.
        """
        if torch.is_inference_mode_enabled():
            with able_to_differentiate():
                support, query, state, extra = differentiable((tasks.support, tasks.query, state, extra))
                return self(f, state, replace(tasks, support=support, query=query), extra, model, key, pieces, captured)
        home = next((p.device for p in model.parameters()), torch.device("cpu"))
        with precision(self.execution.precision, tasks, home):
            if not tasks.stacked or self._in_many_forms(tasks):
                return self._looped(f, state, tasks, extra, captured)
            leaves = [leaf for leaf in pytree.tree_leaves((tasks.support, tasks.query)) if isinstance(leaf, Tensor)]
            key = (key, tuple((tuple(leaf.shape[1:]), leaf.dtype) for leaf in leaves))
            if tasks.constants:  # a program would freeze them, and each may lead to another computation
                key, pieces = (*key, tasks.constants), False
            plan = self.plans.get(key)
            if plan is None or (plan.why == ALONE and self._looks(tasks, key)):
                plan = self.plans[key] = self._choose(f, state, tasks, extra, model, key, pieces)
            result = self._run(plan, f, state, tasks, extra, key, captured)
            if captured is not None and plan.route == "vmap" and plan.compile == "off" and _depends_on_others(result):
                self.plans[key] = self._explain(OTHERS)
                return self._looped(f, state, tasks, extra, captured)
            return result

    def _run(
        self,
        plan: Plan,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        key: Any,
        captured: Captured | None = None,
    ) -> tuple[Any, Any]:
        if plan.compile != "off":
            compiled = self._programs(plan, key)
            if plan.route == "loop":
                state = pytree.tree_map(laid_out, state)  # once, and not for every task
                return on_threads(compiled, f, state, tasks, extra, self.execution.threads)
            whole = self._whole.setdefault(key, Whole(compiled.kind, compiled.threads))

            def at_once(few: Tasks, rest: Any) -> tuple[Any, Any]:
                counts = self._counts.setdefault(key, set())
                if len(few) not in counts and len(counts) >= MOST_COUNTS:
                    tell_once("meta-batches of ever other sizes run eagerly, as each size needs a program of its own")
                    return vmapped(f, state, few, rest, self.execution.segment)
                counts.add(len(few))
                done = whole(partial(_all, f, self.execution.segment), state, few.support, few.query, rest)
                return batched(compiled, f, state, few, rest) if done is None else done

            return in_chunks(plan.chunk, tasks, extra, at_once)
        if plan.route == "vmap":
            segment = self.execution.segment
            return in_chunks(plan.chunk, tasks, extra, lambda few, rest: vmapped(f, state, few, rest, segment))
        return self._looped(f, state, tasks, extra, captured)

    def _in_many_forms(self, tasks: Tasks) -> bool:
        """Return whether what rides along differs so often (a name for each task) that looking at routes can't pay."""
        if any(constant != (type(None), "None") for constant in tasks.constants):
            self._forms.add(tasks.constants)
        return bool(tasks.constants) and len(self._forms) > MOST_SHAPES and self.route != "vmap"

    def _looks(self, tasks: Tasks, key: Any) -> bool:
        """Return whether a plan is to be made by looking at the routes, or recalled."""
        return len(tasks) > 1 or self.calls_ahead > 0 or described(key) in self._recorded

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
        recorded = self._recorded.get(described(key))
        began = random_states(tasks)
        self._seen = Captured() if torch.is_grad_enabled() else None
        with torch.random.fork_rng(devices=cuda_devices(tasks)):
            if recorded is not None:
                plan = Plan(**{**recorded, "compile": "off"})
            else:
                compiles = pieces and self.execution.compile in ("on", "trace")
                plan = self._choose_route(f, state, tasks, extra, model, measure=not compiles)
            if self._seen is not None:
                self._seen.check(model)
                if self._seen.tensors:
                    plan, pieces = self._explain(OTHERS), False
            drew = any(not torch.equal(a, b) for a, b in zip(began, random_states(tasks), strict=True))
            want = (recorded or {}).get("compile") or self._wanted(plan, f, state, tasks, extra, key, pieces)
            if want != "off" and drew:
                want = self._uncompiled(model, "it draws random numbers (dropout?), and a program would draw others")
            if want != "off":
                plan = self._choose_compiled(want, plan, f, state, tasks, extra, model, key)
        self._seen = None
        if len(tasks) > 1 and recorded is None:
            logger.info("%s: %s", described(key), plan.in_words(len(tasks)))
        return plan

    def _choose_route(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, measure: bool
    ) -> Plan:
        if self.route == "loop":
            # one task, so that whether random numbers are drawn shows here as well
            _ = self._looped(f, state, *first(1, tasks, extra)) if not measure or self.calls_ahead else None
            return Plan("loop", why="asked for")
        if self.route == "auto" and not measure and _convolves_on_cpu(model, tasks):
            self._looped(f, state, *first(1, tasks, extra))
            return Plan("loop", why="convolutions on a CPU")  # what a vmap of them would take needn't be tried
        if self.route == "auto" and measure and len(tasks) == 1 and not self.calls_ahead:
            return Plan("loop", why=ALONE)
        few, some = first(2, tasks, extra)
        memory = PeakBytes()
        try:
            vmapped(f, state, few, some, self.execution.segment)
            with memory:
                vmapped(f, state, few, some, self.execution.segment)
            difference, allowed = self._disagreement(f, state, few, some)
        except FastadaptError:
            raise
        except Exception as error:  # whatever torch can't batch, the loop may run
            self._looped(f, state, few, some)  # an error of the module itself surfaces here, unchanged
            return self._explain(f"vmap can't run {type(model).__name__}: {first_line(error)}")
        if difference > allowed:
            return self._explain(
                f"vmap gave {type(model).__name__} another result (relative difference {difference:.1e})"
            )
        chunk = self._chunk(memory.peak / len(few), tasks)
        if self.route == "vmap":
            return Plan("vmap", chunk, why="asked for")
        if len(tasks) == 1 and _loop_is_usual(model, tasks):
            return Plan("loop", why="usual for one task")
        if len(tasks) == 1 or not measure:
            return Plan("vmap", chunk, why="not measured")
        return self._faster(f, state, tasks, extra, model, chunk)

    def _faster(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, chunk: int | None
    ) -> Plan:
        """Measure both routes; take the one that is usually faster unless the other is so clearly and every time.

        A choice that flickered with the noise of a machine would make two runs of one seed differ in their last bits.
        """
        one, of_one = first(1, tasks, extra)
        whole = min(len(tasks), chunk or len(tasks))

        def together(count: int) -> float:
            many, of_many = first(count, tasks, extra)
            took = seconds(lambda: vmapped(f, state, many, of_many, self.execution.segment), tasks)
            return took * len(tasks) / count

        def both() -> dict[str, float]:
            looping = seconds(lambda: self._looped(f, state, one, of_one), tasks) * len(tasks)
            return {"vmap": together(min(whole, FEW if looping < SLOW * len(tasks) else 2)), "loop": looping}

        usual: Literal["vmap", "loop"] = "loop" if _loop_is_usual(model, tasks) else "vmap"
        plans = {"vmap": Plan("vmap", chunk), "loop": Plan("loop")}
        times = both()
        if min(times.values()) < SMALL:
            plan, why = plans[usual], f"usual for work of {milliseconds(times[usual])}"
        else:
            other: Literal["vmap", "loop"] = "vmap" if usual == "loop" else "loop"
            rounds = [times]
            while len(rounds) < ROUNDS and CLEARLY * rounds[-1][other] < rounds[-1][usual]:
                rounds.append(both())
            plan = plans[other if CLEARLY * rounds[-1][other] < rounds[-1][usual] else usual]
            best = {route: min(t[route] for t in rounds) for route in times}
            why = f"measured: vmap {milliseconds(best['vmap'])}, loop {milliseconds(best['loop'])}"
        return replace(plan, why=f"{why} for {len(tasks)} tasks")

    def _chunk(self, bytes_per_task: float, tasks: Tasks) -> int:
        if self.execution.task_chunk is not None:
            return self.execution.task_chunk
        device = tasks.device or torch.device("cpu")
        # kept although this meta-batch may fit: a later one of the same shape can have more tasks
        return max(1, int(budget(device, self.execution.memory) / max(bytes_per_task, 1)))

    def _wanted(
        self, plan: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, key: Any, pieces: bool
    ) -> Literal["off", "trace", "on"]:
        wanted = self.execution.compile
        if not pieces or wanted == "off":
            return "off"
        if sum(p.compile != "off" for p in self.plans.values()) >= MOST_SHAPES:
            tell_once(f"tasks of more than {MOST_SHAPES} shapes: further ones are not compiled")
            return "off"
        if wanted != "auto":
            return wanted
        if not self.calls_ahead:
            return "off"
        if self._short_of_time():
            return "off"  # a compilation would eat what a short budget has
        took = seconds(lambda: self._run(plan, f, state, tasks, extra, key), tasks)
        return "on" if took * self.calls_ahead > WORTH_COMPILING else "off"

    def _choose_compiled(
        self,
        want: Literal["trace", "on"],
        eager: Plan,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        key: Any,
    ) -> Plan:
        one_by_one = self.route == "loop" or (
            self.route == "auto" and (not eager.vmap_runs or _convolves_on_cpu(model, tasks))
        )
        route: Literal["vmap", "loop"] = "loop" if one_by_one else "vmap"
        plan = Plan(route, eager.chunk if route == "vmap" else None, want, eager.why)
        recorded = self._recorded.get(described(key))
        if recorded is not None:
            plan = Plan(**{**recorded, "compile": want})
        few, some = (tasks, extra) if route == "vmap" else first(5, tasks, extra)
        try:
            error, allowed = self._drift(plan, eager, f, state, few, some, key)
        except FastadaptError:
            raise
        except Exception as error:  # no compiler, or an operation it doesn't know
            self._forget(key)
            if want == "on":
                name = type(model).__name__
                tell_once(f"compiling {name} failed, so its steps are recorded and replayed: {first_line(error)}")
                return self._choose_compiled("trace", eager, f, state, tasks, extra, model, key)
            self._uncompiled(model, first_line(error))
            return eager
        if error > allowed:
            self._forget(key)
            self._uncompiled(model, f"its compiled gradient is off by {error:.1e}, and {allowed:.1e} is allowed")
            return eager
        return plan

    def _drift(
        self, plan: Plan, eager: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, key: Any
    ) -> tuple[float, float]:
        """Return the compiled result's distance from float64, and the allowed one: ten times that of eager execution.

        Rounding flips a maximum or a ReLU in a task now and then, compiled or not; so where tasks can be told apart
        the median over tasks is compared.
        """
        groups = [one_of(tasks, extra, t) for t in range(len(tasks))] if plan.route == "loop" else [(tasks, extra)]
        compiled, plain = [], []
        for few, some in groups:
            try:
                reference = numbers(*self._looped(f, *widened(state, few, some)))
            except Exception:  # a module that insists on its own precision
                reference = numbers(*self._looped(f, state, few, some))
            plain.append(distance(numbers(*self._run(eager, f, state, few, some, key)), reference))
            compiled.append(distance(numbers(*self._run(plan, f, state, few, some, key)), reference))
        floor = 1e-3 if self.execution.precision == "float32" else 5e-2
        return median(compiled), max(10 * median(plain), floor)

    def _forget(self, key: Any) -> None:
        self._compiled.pop(key, None)
        self._whole.pop(key, None)

    def _explain(self, reason: str) -> Plan:
        if not self._explained:  # one reason is enough: training and evaluation often fail in different words
            tell_once(f"tasks run in a loop, because {reason}")
        self._explained = True
        return Plan("loop", why=reason, vmap_runs=False)

    def _uncompiled(self, model: nn.Module, reason: str) -> Literal["off"]:
        tell_once(f"{type(model).__name__} is not compiled: {reason}")
        return "off"

    def _looped(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, captured: Captured | None = None
    ) -> tuple[Any, Any]:
        return looped(f, state, tasks, extra, self.execution.segment, captured if captured is not None else self._seen)

    def _disagreement(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> tuple[float, float]:
        """Return the relative difference of the routes' results (0 where it can't be told), and the allowed one."""
        arguments = widened(state, tasks, extra)
        before, allowed = random_states(tasks), AGREEMENT
        try:
            reference = numbers(*self._looped(f, *arguments))
        except FastadaptError:
            raise
        except Exception as error:  # a module that insists on its own precision
            tell_once(f"the vmap route is only checked roughly, because float64 does not run: {first_line(error)}")
            arguments, allowed = (state, tasks, extra), ROUGH_AGREEMENT
            reference = numbers(*self._looped(f, *arguments))
        if any(not torch.equal(a, b) for a, b in zip(before, random_states(tasks), strict=True)):
            return 0.0, allowed  # dropout draws other masks on the two routes
        return distance(numbers(*vmapped(f, *arguments, self.execution.segment)), reference), allowed


def _all(f: TaskFunction, segment: int | None, state: Any, support: Any, query: Any, extra: Any) -> tuple[Any, Any]:
    return vmapped(f, state, Tasks(support, query), extra, segment)


def _depends_on_others(result: tuple[Any, Any]) -> bool:
    """Whether a result has a graph: its state was given without one, so that another tensor has brought it in."""
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(result))


def _convolves_on_cpu(model: nn.Module, tasks: Tasks) -> bool:
    convolves = any(isinstance(m, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for m in model.modules())
    return convolves and tasks.device == torch.device("cpu")


def _loop_is_usual(model: nn.Module, tasks: Tasks) -> bool:
    leaves = pytree.tree_leaves((tasks.support, tasks.query))
    elements = sum(leaf[0].numel() for leaf in leaves if isinstance(leaf, Tensor))
    return _convolves_on_cpu(model, tasks) and elements > LOOP_ABOVE_ELEMENTS
