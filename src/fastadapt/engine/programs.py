"""Strategy "programs": all tasks at once, as one program, or as one for each piece where that would be too long."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch.utils import _pytree as pytree

from fastadapt.engine.parts import Results, in_chunks
from fastadapt.engine.pieces import Compiled, Flat, Kind, finished, laid_out, recorded
from fastadapt.engine.strategy import TaskFunction
from fastadapt.engine.vmapped import Vmapped
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

LONGEST = 3000
"""Operations of a program that runs a whole meta-batch at once: some 25 seconds of compilation."""
MOST_COUNTS = 4
"""Numbers of tasks run at once of one shape that are compiled; others run eagerly."""


class Programs:
    """Run a meta-batch as a program.

    Args:
        kind: "trace" or "on".
        eager: how the tasks run without programs, in its chunks and segments.
        threads: threads of one program.
    """

    def __init__(self, kind: Kind, eager: Vmapped, threads: int) -> None:
        self.eager = eager
        self._pieces = Compiled(kind, batched=True, threads=threads, segment=eager.segment)
        self._whole = Whole(kind, threads)
        self._counts: set[int] = set()
        self.ran: Made | None = None
        """The program that ran all tasks of the last call at once, if one did."""

    def run(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> Results:
        """Return the mean over tasks of the first result, and the stack of the second."""

        def at_once(few: Tasks, rest: Any) -> Results:
            if len(few) not in self._counts and len(self._counts) >= MOST_COUNTS:
                tell_once("meta-batches of ever other sizes run eagerly, as each size needs a program of its own")
                return self.eager.run(f, state, few, rest)
            self._counts.add(len(few))

            def all_at_once(*arguments: Any) -> Results:
                return self.eager.of_tensors(f, *arguments)

            done = self._whole(all_at_once, state, few.support, few.query, rest)
            self.ran = self._whole.ran if len(few) == len(tasks) else None
            return self._by_pieces(f, state, few, rest) if done is None else done

        self.ran = None
        return in_chunks(self.eager.chunk, tasks, extra, at_once)

    def _by_pieces(self, f: TaskFunction, state: Any, tasks: Tasks, extra: Any) -> Results:
        averaged, stacked = f(state, tasks.support, tasks.query, extra, self._pieces)
        return pytree.tree_map(lambda leaf: leaf.mean(0), averaged), stacked


class Made(NamedTuple):
    """Hold a program, the form of what it returns, and how many tensors it takes."""

    program: Flat
    outputs: Any
    takes: int


class Whole:
    """Run a function of all tasks as one program, or say that it is too long for that.

    Short computations are bound by the calls between programs; long ones would take minutes to compile.

    Args:
        kind: "trace" or "on".
        threads: threads of the program.
    """

    def __init__(self, kind: Kind, threads: int) -> None:
        self.kind: Kind = kind
        self.threads = threads
        self._programs: dict[Any, Made | None] = {}
        self.ran: Made | None = None

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return `function(*arguments)`, or None if its program would be longer than `LONGEST` operations."""
        leaves, structure = pytree.tree_flatten(arguments)
        leaves = [laid_out(leaf) for leaf in leaves]
        key = tuple((leaf.shape, leaf.dtype, leaf.device) for leaf in leaves)
        if key not in self._programs:
            graph, outputs = recorded(function, leaves, structure)
            short = len(graph.graph.nodes) <= LONGEST
            made = Made(finished(graph, leaves, self.kind, self.threads), outputs, len(leaves)) if short else None
            self._programs[key] = made
        found = self.ran = self._programs[key]
        return None if found is None else pytree.tree_unflatten(found.program(*leaves), found.outputs)
