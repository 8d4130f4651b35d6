"""Run a function of one task over all tasks of a meta-batch: one pipeline, entered once.

    shapes of the tasks + device + module + what was asked for -> a strategy -> run it

The strategies give the same numbers: `loop` (one task after another, whatever torch runs), `vmapped` (many at once),
`threads` and `programs` (the same two, compiled) and `graph` (vmapped, replayed on a GPU). Which one serves a shape is
read from a table (`fastadapt.engine.rule`), never from the clock, and is said in the log once for each shape.

What vmap gives is compared with the loop in float64, on two tasks, before it serves; the verdict is kept on disk for
later processes (`fastadapt.engine.verdicts`). Where vmap can't run a module, or gives another result, the loop serves,
and the log says why. Programs and graphs are compared with the eager result before they are used, and used only while
the Python state that they have frozen is as it was (`fastadapt.engine.watch`).
"""

import logging
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine import verdicts
from fastadapt.engine.census import Census
from fastadapt.engine.check import drift, undisturbed
from fastadapt.engine.execution import Execution, Route, as_execution
from fastadapt.engine.graph import Graph, Graphs
from fastadapt.engine.loop import Loop
from fastadapt.engine.memory import fitting
from fastadapt.engine.parts import Results, first, singly
from fastadapt.engine.pieces import Kind
from fastadapt.engine.plan import Name, Plan, described
from fastadapt.engine.precision import precision
from fastadapt.engine.programs import Programs
from fastadapt.engine.rule import Faster, Row, programs_pay, strategy_for
from fastadapt.engine.shapes import ALONE, RETURNS, Forms, history, standing
from fastadapt.engine.strategy import Strategy, TaskFunction
from fastadapt.engine.threads import Threads
from fastadapt.engine.vmapped import Vmapped
from fastadapt.engine.waiting import waiting
from fastadapt.engine.watch import Watch, undone
from fastadapt.errors import FastadaptError
from fastadapt.inner.calculus import Captured, able_to_differentiate, differentiable
from fastadapt.layers.bound import first_line
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

__all__ = ["Engine", "Route", "TaskFunction"]

MOST_SHAPES = 16
"""Shapes of task that are compiled; others run eagerly."""
OTHERS = "the loss depends on tensors that require a gradient beside the learner's own (a closure?)"
"""Why the loop was taken, which alone can find such tensors."""
DRAWS = "it draws random numbers (dropout?), and a program would draw others"
"""Why no program is made of what a CUDA graph can run."""

logger = logging.getLogger("fastadapt.engine")


class Engine:
    """Choose by the rule how to run each shape of task, and remember it.

    Args:
        route: a route, or an `Execution` with every option.

    Raises:
        ConfigError: for an unknown route.
    """

    def __init__(self, route: "Route | Execution" = "auto") -> None:
        self.execution = as_execution(route)
        self.route = self.execution.route
        self.at_once = False
        """Whether "auto" runs what comes in the loop without a look, as the first step of a training is."""
        self.calls_ahead, self.seconds_ahead = 0, math.inf
        self.plans: dict[Any, Plan] = {}
        self._recorded: dict[str, int] = {}
        self._built: dict[Any, Strategy] = {}
        self.graphs = Graphs(self.execution.memory)
        self._forms = Forms()
        self._eager, self._in_state = dict[Any, Plan](), dict[Any, Plan]()
        self._watches: dict[Any, Watch] = {}
        self.latest: tuple[Strategy, Watch] | None = None  # what ran last, where it has Python's state frozen in it
        self._explained = False
        self._seen: Captured | None = None  # what a look at the loop finds, while a plan is made
        self._counted: Census | None = None  # the operations of one task in the loop, while a plan is made

    def __reduce__(self) -> Any:
        # programs can't be copied or stored; the rule gives the same choices again
        return Engine, (self.execution,)

    def expect(self, calls: int, seconds: float = math.inf) -> None:
        """Say that a training of `calls` meta-batches within `seconds` is under way: programs are built where it pays.

        What was decided before is decided anew, so that a call before the training changes nothing of it.
        """
        self.calls_ahead, self.seconds_ahead = calls, seconds
        for made in (self.plans, self._eager, self._in_state):
            made.clear()

    def history(self) -> dict[str, int]:
        """Return how often each shape of task has come: with it, and the rule, a resume runs tasks alike."""
        return {**self._recorded, **history(self.plans)}

    def recall(self, seen: dict[str, Any]) -> None:
        """Take up the history of the run that this one resumes."""
        self._recorded = {name: came if isinstance(came, int) else RETURNS for name, came in seen.items()}

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
            unlooked = self._picks and (alone or self.at_once)
            if not tasks.stacked or unlooked or self._forms.many(tasks, self.route):
                return self._looped(f, state, tasks, extra, captured)
            leaves = [leaf for leaf in pytree.tree_leaves((tasks.support, tasks.query)) if isinstance(leaf, Tensor)]
            key = (key, tuple((tuple(leaf.shape[1:]), leaf.dtype) for leaf in leaves))
            if tasks.constants:  # a program would freeze them, and each may lead to another computation
                key, pieces = (*key, tasks.constants), False
            ahead, picks = self.calls_ahead > 0, self._picks
            plan = standing(self.plans, key, recorded=self._recorded, tasks=len(tasks), ahead=ahead, picks=picks)
            if plan is None:
                row = strategy_for(model, tasks, self.execution)
                watch = self._watch(key, model, owner, row)
                plan = self._choose(row, f, state, tasks, extra, model, key, pieces, watch)
                self.plans[key] = plan
            if not plan.frozen:
                result = self._run(plan, f, state, tasks, extra, key, captured)
                if captured is None or plan.strategy == "loop" or not _depends_on_others(result):
                    return result
                self.plans[key] = self._explain(OTHERS)
                return self._looped(f, state, tasks, extra, captured)
            number = self._watches[key[0]].at(state)
            if number is None:
                return self._run(self._plain(key), f, state, tasks, extra, key, captured)
            place = (*key, number)
            if place not in self._in_state:
                with undisturbed(tasks):
                    self._raise(plan, f, state, tasks, extra, model, key, number)
            return self._run(self._in_state[place], f, state, tasks, extra, place, captured)

    def _run(
        self,
        plan: Plan,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        place: Any,
        captured: Captured | None = None,
    ) -> Results:
        self.latest = None
        if plan.strategy == "loop":
            return self._looped(f, state, tasks, extra, captured)
        eager = Vmapped(self.execution.segment, plan.chunk)
        if plan.strategy == "vmapped":
            return eager.run(f, state, tasks, extra)
        if place not in self._built:
            self._built[place] = self._build(plan.strategy, plan.kind, eager, place)
        self.latest = self._built[place], self._watches[place[0]]
        return self._built[place].run(f, state, tasks, extra)

    def _build(self, name: Name, kind: Kind, eager: Vmapped, place: Any) -> Strategy:
        if name == "graph":
            return Graph(self.graphs, eager, place)
        if name == "threads":
            return Threads(kind, self.execution.segment, self.execution.threads)
        return Programs(kind, eager, torch.get_num_threads())

    @property
    def _picks(self) -> bool:
        """Whether neither the route nor programs were asked for."""
        return self.route == "auto" and self.execution.compile in ("auto", "off")

    @property
    def _asked(self) -> Kind | None:
        """The kind of programs that was asked for, if they were."""
        if self.execution.compile in ("on", "trace"):
            return self.execution.compile
        return "on" if self.execution.compile == "auto" and self.route in ("threads", "programs") else None

    def _watch(self, key: Any, model: nn.Module, owner: Any, row: Row) -> Watch | None:
        """Return what follows the Python state of this function, whatever the shape of a task."""
        if owner is not None and key[0] not in self._watches:
            soon = self._asked is not None or row.faster == "graph"
            self._watches[key[0]] = Watch(owner, model, soon, skipped=(self,))
        return self._watches.get(key[0])

    def _plain(self, key: Any) -> Plan:
        """Return how tasks run where there are no programs for the present state of Python."""
        return self._eager[key] if self._watches[key[0]].alone is None else Plan("loop")

    # ---- choosing ------------------------------------------------------------------------------

    def _choose(
        self,
        row: Row,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        key: Any,
        pieces: bool,
        watch: Watch | None,
    ) -> Plan:
        self._seen, self._counted = Captured(), None
        arguments = (f, state, tasks, extra)
        with undisturbed(tasks), undone(watch):
            single = row.eager == "loop" or (self.route == "auto" and len(tasks) == 1)
            if watch is not None and (self._asked or self.calls_ahead or not single):
                watch.look(state, tasks, lambda: self._count(*arguments))
            faster, kind = self._wanted(row, arguments, pieces) if watch is not None else (None, "on")
            if faster is not None and watch is not None and watch.refused is not None:
                faster = self._uncompiled(model, watch.refused)
            if watch is not None and watch.alone is not None and row.eager != "loop":
                plan = self._explain(f"{type(model).__name__} is not the same for each: {watch.alone}")
            else:
                plan = self._eager_plan(row, *arguments, model, key, faster)
            self._seen.check(model, getattr(watch and watch.owner, "adapted", ()))
            if self._seen.tensors:
                plan, faster = self._explain(OTHERS), None
            if faster == "graph" and plan.strategy == "loop":
                faster = None
            if faster is not None and watch is not None:
                faster = "threads" if faster == "programs" and not plan.vmap_runs else faster
                self._eager[key], number = plan, watch.at(state)
                chunk = None if faster == "threads" else plan.chunk
                plan = Plan(faster, chunk, kind, plan.why)  # if this state is one that passes
                if number is not None:
                    plan = self._raise(plan, *arguments, model, key, number)
        self._seen = self._counted = None
        if len(tasks) > 1:
            logger.info("%s: %s", described(key), plan.in_words(len(tasks)))
        return plan

    def _count(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> Census:
        """Run one task in the loop and count its operations."""
        with Census() as census:
            self._looped(f, state, *first(1, tasks, extra))
        self._counted = census
        return census

    def _wanted(
        self, row: Row, arguments: tuple[TaskFunction, Any, Tasks, Any], pieces: bool
    ) -> tuple[Faster | None, Kind]:
        """Return the strategy that is faster than the eager one, where it was asked for or pays."""
        tasks = arguments[2]
        if row.faster == "graph":  # a second to record, and no compiler: it always pays
            return (None if tasks.constants else "graph"), "on"
        if not pieces or (self._asked is None and (self.execution.compile == "off" or not self.calls_ahead)):
            return None, "on"
        if sum(p.compile != "off" for p in self.plans.values()) >= MOST_SHAPES:
            tell_once(f"tasks of more than {MOST_SHAPES} shapes: further ones are not compiled")
            return None, "on"
        if self._asked is not None:
            return row.faster, self._asked
        work = (self._counted or self._count(*arguments)).work
        pays = programs_pay(work, len(tasks), row.eager, row.faster, self.calls_ahead, self.seconds_ahead)
        return (row.faster if pays else None), "on"

    def _raise(
        self, plan: Plan, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, model: nn.Module, key: Any, number: int
    ) -> Plan:
        """Choose how tasks run in this state of Python, and remember it."""
        place, watch = (*key, number), self._watches[key[0]]
        watch.look(state, tasks, lambda: self._looped(f, state, *first(1, tasks, extra)))
        eager = self._in_state[place] = self._plain(key)
        if watch.refused is not None or (watch.draws and plan.strategy != "graph"):
            self._uncompiled(model, watch.refused or DRAWS)
            return eager
        if plan.strategy != "graph":  # which launches what vmap launches, and that was compared
            plan = self._compared(plan, eager, f, state, tasks, extra, model, place)
        self._in_state[place] = plan
        return self._in_state[place]

    def _eager_plan(
        self,
        row: Row,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        key: Any,
        faster: Faster | None,
    ) -> Plan:
        if row.eager == "loop" or ((auto := self.route == "auto") and faster == "threads"):
            return Plan("loop", why=row.words if row.eager == "loop" else "programs of convolutions run one task each")
        if auto and not self._asked and len(tasks) == 1 and not self.calls_ahead:
            return Plan("loop", why=ALONE)
        failed = next((p for known, p in self.plans.items() if known[0] == key[0] and not p.vmap_runs), None)
        if auto and failed is not None:  # nor will it run tasks of another shape
            return self._explain(failed.why)
        few, some = first(2, tasks, extra)
        vmapped, loop = Vmapped(self.execution.segment), Loop(self.execution.segment, self._seen)
        try:
            alone = self._counted or self._count(f, state, tasks, extra)
            verdict, peak = verdicts.compared(loop, vmapped, alone, f, state, few, some)
        except FastadaptError:
            raise
        except Exception as error:  # whatever torch can't batch, the loop may run
            with undone(self._watches.get(key[0])):  # first of all of what a vmap has left behind
                self._looped(f, state, few, some)  # an error of the module itself surfaces here, unchanged
            return self._explain(f"vmap can't run {type(model).__name__}: {first_line(error)}")
        if verdict.difference > verdict.allowed:
            return self._explain(
                f"{verdict.words(type(model).__name__)} (relative difference {verdict.difference:.1e})"
            )
        # kept although this meta-batch may fit: a later one of the same shape can have more tasks
        chunk = self.execution.task_chunk or fitting(peak / len(few), tasks, self.execution.memory)
        return Plan("vmapped", chunk, why=row.words)

    def _compared(
        self,
        plan: Plan,
        eager: Plan,
        f: TaskFunction,
        state: Any,
        tasks: Tasks,
        extra: Any,
        model: nn.Module,
        place: Any,
    ) -> Plan:
        """Return `plan` if it can be built and gives the eager numbers, else the next one that does."""
        name = type(model).__name__
        groups = [(tasks, extra)] if plan.route == "vmap" else singly(*first(5, tasks, extra))

        def way(how: Plan) -> Any:
            return lambda state, tasks, extra: self._run(how, f, state, tasks, extra, place)

        try:
            with waiting(f"compiling {name}"):
                error, allowed = drift(way(plan), way(eager), way(Plan("loop")), state, groups)
            allowed = max(allowed, 1e-3 if self.execution.precision == "float32" else 5e-2)
        except FastadaptError:
            raise
        except Exception as error:  # no compiler, or an operation it doesn't know
            self._built.pop(place, None)
            if plan.kind == "on":
                tell_once(f"compiling {name} failed, so its steps are recorded and replayed: {first_line(error)}")
                return self._compared(replace(plan, kind="trace"), eager, f, state, tasks, extra, model, place)
            self._uncompiled(model, first_line(error))
            return eager
        if error > allowed:
            self._built.pop(place, None)
            self._uncompiled(model, f"its compiled gradient is off by {error:.1e}, and {allowed:.1e} is allowed")
            return eager
        return plan

    def _explain(self, reason: str) -> Plan:
        if not self._explained:  # one reason is enough: training and evaluation often fail in different words
            tell_once(f"tasks run in a loop, because {reason}")
        self._explained = True
        return Plan("loop", why=reason, vmap_runs=False)

    def _uncompiled(self, model: nn.Module, reason: str) -> None:
        tell_once(f"{type(model).__name__} is not compiled: {reason}")

    def _looped(
        self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any, captured: Captured | None = None
    ) -> Results:
        return Loop(self.execution.segment, self._seen if captured is None else captured).run(f, state, tasks, extra)


def _depends_on_others(result: Results) -> bool:
    """Whether a result has a graph: its state was given without one, so that another tensor has brought it in."""
    return any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in pytree.tree_leaves(result))
