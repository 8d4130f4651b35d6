"""Run a function of one task over all tasks of a meta-batch, by the route that works and is fast.

Two routes give the same numbers:

* "vmap": many tasks at once (`torch.func.vmap` with the gradient *inside*: a gradient taken from outside of a
  vmap is wrong for some normalisation layers in torch 2.13), in chunks that fit the memory budget;
* "loop": one task after another with plain autograd, which runs whatever torch runs.

"auto" goes by a rule (`fastadapt.engine.rule`), never by the clock, and says in the log what it chose, once for each
shape of task. When vmap can't run a module the loop does, and the reason is logged once. The first time vmap serves a
shape its result is compared in float64 with the loop's; if they disagree, or vmap can't be run so, the loop serves, and
that is logged.

Either route can be compiled (`fastadapt.engine.programs`). A compiled result is compared with the eager one before it
is used, and used only while the Python state that it has frozen is as it was (`fastadapt.engine.watch`).
"""

import logging
import math
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.check import disagreement, drift, seconds, undisturbed
from fastadapt.engine.execution import Execution, Route, as_execution
from fastadapt.engine.memory import PeakBytes, fitting
from fastadapt.engine.plan import Plan, described
from fastadapt.engine.precision import precision
from fastadapt.engine.programs import Compiled, Kind, Whole, laid_out
from fastadapt.engine.routes import (
    TaskFunction,
    all_at_once,
    batched,
    first,
    in_chunks,
    looped,
    on_threads,
    singly,
    vmapped,
)
from fastadapt.engine.rule import convolves_on_cpu, usual_route
from fastadapt.engine.shapes import ALONE, Forms, standing
from fastadapt.engine.watch import Watch
from fastadapt.errors import FastadaptError
from fastadapt.inner.calculus import Captured, able_to_differentiate, differentiable
from fastadapt.layers.bound import first_line
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

__all__ = ["Engine", "Route", "TaskFunction"]

MOST_SHAPES, MOST_COUNTS = 16, 4
"""Shapes of task, and numbers of tasks run at once of one shape, that are compiled; others run eagerly."""
WORTH_COMPILING = 300.0
"""Seconds of eager work ahead from which "auto" compiles; a compilation takes 10 to 100 seconds."""
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
        self._forms = Forms()
        self._eager, self._in_state = dict[Any, Plan](), dict[Any, Plan]()
        self._watches: dict[Any, Watch] = {}
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
        owner: Any = None,
        captured: Captured | None = None,
        alone: bool = False,
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
            owner: the learner, whose code's Python state is watched; without it nothing is compiled.
            captured: gathers the gradients of what `f` depends on beside its arguments, which the loop alone finds.
            alone: whether so few tasks have this shape that "auto" takes the loop, see `engine.shapes`.
        """
        if torch.is_inference_mode_enabled():
            with able_to_differentiate():
                support, query, state, extra = differentiable((tasks.support, tasks.query, state, extra))
                tasks = replace(tasks, support=support, query=query)
                return self(f, state, tasks, extra, model, key, pieces, owner, captured, alone)
        home = next((p.device for p in model.parameters()), torch.device("cpu"))
        with precision(self.execution.precision, tasks, home):
            if not tasks.stacked or (alone and self._picks) or self._forms.many(tasks, self.route):
                return self._looped(f, state, tasks, extra, captured)
            leaves = [leaf for leaf in pytree.tree_leaves((tasks.support, tasks.query)) if isinstance(leaf, Tensor)]
            key = (key, tuple((tuple(leaf.shape[1:]), leaf.dtype) for leaf in leaves))
            if tasks.constants:  # a program would freeze them, and each may lead to another computation
                key, pieces = (*key, tasks.constants), False
            ahead, picks = self.calls_ahead > 0, self._picks
            plan = standing(self.plans, key, recorded=self._recorded, tasks=len(tasks), ahead=ahead, picks=picks)
            if plan is None:
                plan = self._choose(f, state, tasks, extra, model, key, pieces, self._watch(key, model, owner))
                self.plans[key] = plan
            if plan.compile == "off":
                result = self._run(plan, f, state, tasks, extra, key, captured)
                if captured is None or plan.route == "loop" or not _depends_on_others(result):
                    return result
                self.plans[key] = self._explain(OTHERS)
                return self._looped(f, state, tasks, extra, captured)
            number = self._watches[key[0]].at(state)
            if number is None:
                return self._run(self._plain(key), f, state, tasks, extra, key, captured)
            place = (*key, number)
            if place not in self._in_state:
                with undisturbed(tasks):
                    self._compile(plan.compile, f, state, tasks, extra, model, key, number)
            return self._run(self._in_state[place], f, state, tasks, extra, place, captured)

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
                done = whole(partial(all_at_once, f, self.execution.segment), state, few.support, few.query, rest)
                return batched(compiled, f, state, few, rest) if done is None else done

            return in_chunks(plan.chunk, tasks, extra, at_once)
        if plan.route == "vmap":
            segment = self.execution.segment
            return in_chunks(plan.chunk, tasks, extra, lambda few, rest: vmapped(f, state, few, rest, segment))
        return self._looped(f, state, tasks, extra, captured)

    @property
    def _picks(self) -> bool:
        """Whether neither the route nor programs were asked for."""
        return self.route == "auto" and self.execution.compile in ("auto", "off")

    def _programs(self, plan: Plan, key: Any) -> Compiled:
        if key not in self._compiled:
            threads, kind = 1 if plan.route == "loop" else torch.get_num_threads(), plan.compile
            assert kind != "off"
            self._compiled[key] = Compiled(kind, plan.route == "vmap", threads, self.execution.segment)
        return self._compiled[key]

    def _watch(self, key: Any, model: nn.Module, owner: Any) -> Watch | None:
        """Return what follows the Python state of this function, whatever the shape of a task."""
        if owner is not None and key[0] not in self._watches:
            self._watches[key[0]] = Watch(owner, model, self.execution.compile != "auto", skipped=(self,))
        return self._watches.get(key[0])

    def _plain(self, key: Any) -> Plan:
        """Return how tasks run where there are no programs for the present state of Python."""
        return self._eager[key] if self._watches[key[0]].alone is None else Plan("loop")

    # ---- choosing ------------------------------------------------------------------------------

    def _choose(
        self,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        key: Any,
        pieces: bool,
        watch: Watch | None,
    ) -> Plan:
        recorded = self._recorded.get(described(key))
        self._seen = Captured()
        with undisturbed(tasks):
            pieces = pieces and watch is not None
            compiles = pieces and self.execution.compile in ("on", "trace")
            single = self.route == "loop" or (self.route == "auto" and len(tasks) == 1)
            if watch is not None and (compiles or self.calls_ahead or not single):
                watch.look(state, tasks, lambda: self._looped(f, state, *first(1, tasks, extra)))
            if watch is not None and watch.alone is not None and self.route != "loop":
                plan = self._explain(f"{type(model).__name__} is not the same for each: {watch.alone}")
            elif recorded is not None:
                plan = Plan(**{**recorded, "compile": "off"})
            else:
                plan = self._choose_route(f, state, tasks, extra, model, key, compiles)
            if torch.is_grad_enabled():
                self._seen.check(model)
            if self._seen.tensors:
                plan, pieces = self._explain(OTHERS), False
            want = (recorded or {}).get("compile") or self._wanted(plan, f, state, tasks, extra, key, pieces)
            if want != "off" and watch is not None and watch.refused is not None:
                want = self._uncompiled(model, watch.refused)
            if want != "off" and watch is not None:
                self._eager[key], number = plan, watch.at(state)
                plan = replace(plan, compile=want)  # if this state is one that passes
                if number is not None:
                    plan = self._compile(want, f, state, tasks, extra, model, key, number)
        self._seen = None
        if len(tasks) > 1 and recorded is None:
            logger.info("%s: %s", described(key), plan.in_words(len(tasks)))
        return plan

    def _compile(
        self, want: Kind, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, key: Any, number: int
    ) -> Plan:
        """Choose how tasks run in this state of Python, and remember it."""
        place, watch = (*key, number), self._watches[key[0]]
        watch.look(state, tasks, lambda: self._looped(f, state, *first(1, tasks, extra)))
        plan = self._in_state[place] = self._plain(key)
        if watch.refused is not None:
            self._uncompiled(model, watch.refused)
        else:
            plan = self._in_state[place] = self._choose_compiled(want, plan, f, state, tasks, extra, model, place)
        return plan

    def _choose_route(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, key: Any, compiles: bool
    ) -> Plan:
        if self.route == "loop":
            return Plan("loop", why="asked for")
        usual, why = usual_route(model, tasks)
        if self.route == "auto" and (usual == "loop" or (compiles and convolves_on_cpu(model, tasks))):
            return Plan("loop", why=why if usual == "loop" else "programs of convolutions on a CPU run one task each")
        if self.route == "auto" and not compiles and len(tasks) == 1 and not self.calls_ahead:
            return Plan("loop", why=ALONE)
        failed = next((p for known, p in self.plans.items() if known[0] == key[0] and not p.vmap_runs), None)
        if self.route == "auto" and failed is not None:  # nor will it run tasks of another shape
            return self._explain(failed.why)
        few, some = first(2, tasks, extra)
        memory = PeakBytes()
        try:
            vmapped(f, state, few, some, self.execution.segment)
            with memory:
                vmapped(f, state, few, some, self.execution.segment)
            routes = partial(self._looped, f), partial(vmapped, f, segment=self.execution.segment)
            difference, allowed = disagreement(*routes, state, few, some)
        except FastadaptError:
            raise
        except Exception as error:  # whatever torch can't batch, the loop may run
            self._looped(f, state, few, some)  # an error of the module itself surfaces here, unchanged
            return self._explain(f"vmap can't run {type(model).__name__}: {first_line(error)}")
        if difference > allowed:
            name = type(model).__name__
            return self._explain(f"vmap gave {name} another result (relative difference {difference:.1e})")
        # kept although this meta-batch may fit: a later one of the same shape can have more tasks
        chunk = self.execution.task_chunk or fitting(memory.peak / len(few), tasks, self.execution.memory)
        return Plan("vmap", chunk, why="asked for" if self.route == "vmap" else why)

    def _wanted(
        self, plan: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, key: Any, pieces: bool
    ) -> Literal["off", "trace", "on"]:
        wanted = self.execution.compile
        if not pieces or wanted == "off":
            return "off"
        if sum(p.compile != "off" for p in self.plans.values()) >= MOST_SHAPES:
            return tell_once(f"tasks of more than {MOST_SHAPES} shapes: further ones are not compiled") or "off"
        if wanted != "auto":
            return wanted
        if not self.calls_ahead or self._short_of_time():
            return "off"  # a compilation would eat what a short budget has
        took = seconds(lambda: self._run(plan, f, state, tasks, extra, key), tasks)
        return "on" if took * self.calls_ahead > WORTH_COMPILING else "off"

    def _choose_compiled(
        self,
        want: Kind,
        eager: Plan,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        key: Any,
    ) -> Plan:
        one_by_one = self.route == "loop" or (
            self.route == "auto" and (not eager.vmap_runs or convolves_on_cpu(model, tasks))
        )
        route: Literal["vmap", "loop"] = "loop" if one_by_one else "vmap"
        plan = Plan(route, eager.chunk if route == "vmap" else None, want, eager.why)
        recorded = self._recorded.get(described(key))
        plan = plan if recorded is None else Plan(**{**recorded, "compile": want})
        groups = [(tasks, extra)] if plan.route == "vmap" else singly(*first(5, tasks, extra))
        compiled, plain = (partial(self._run, how, f, key=key) for how in (plan, eager))
        try:
            error, allowed = drift(compiled, plain, partial(self._looped, f), state, groups)
            allowed = max(allowed, 1e-3 if self.execution.precision == "float32" else 5e-2)
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


def _depends_on_others(result: tuple[Any, Any]) -> bool:
    """Whether a result has a graph: its state was given without one, so that another tensor has brought it in."""
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(result))
