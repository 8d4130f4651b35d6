"""The states of Python that programs were made for: which one is the present one, and whether programs may be used."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.check import moved, python_states, random_states
from fastadapt.engine.guards import Guards
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

MOST_STATES = 4
"""States that have programs of their own; in any further one tasks run eagerly."""
PATIENCE, LONG_PATIENCE = 2, 50
"""Calls that a further state has to last before programs are made for it: where they were asked for, and in "auto"."""
MOST_PASSING = 8
"""States without programs that are remembered, to count their calls."""


class Watch:
    """Follow the Python state that the tasks of one function depend on.

    Args:
        owner: the learner, whose losses, modules and rule are watched.
        model: the network, for messages.
        asked: whether programs were asked for; a schedule that moves at every step gets none anew either way.
        skipped: what isn't looked into.
    """

    refused: str | None = None
    """Why programs are not used at all."""
    alone: str | None = None
    """Why each task has to run by itself."""
    draws = False
    """Whether it draws torch's random numbers: a program would draw others, a CUDA graph would not."""

    def __init__(self, owner: Any, model: nn.Module, asked: bool, skipped: Any) -> None:
        self.owner = owner
        self.name = type(model).__name__
        self.patience = PATIENCE if asked else LONG_PATIENCE
        self.skipped = skipped
        self.number: int | None = None
        self._told = False
        self._guards: Guards | None = None
        self._looked: set[int] = set()
        self._states: list[Guards] = []
        self._passing: list[tuple[Guards, list[int]]] = []
        self._before: Guards | None = None  # where tasks change Python state: what it was

    def look(self, state: Any, tasks: Tasks, run: Callable[[], Any]) -> None:
        """Find out once in each state whether the Python code is a function of what is guarded, by running it twice.

        Args:
            state: the tensors that programs take.
            tasks: the tasks, to know whose random numbers could be drawn.
            run: runs one task in the loop.
        """
        passing = self._guards is not None and self.number is None
        if self.refused is not None or passing or self.number in self._looked:
            return
        before = self._walk(state)
        before.checks.remember_tensors()
        if before.drawing is not None:
            self._refuse(before.drawing, alone=True)
            return  # what an iterator has given can't be put back
        run()  # fills what is filled once, such as a mask kept for later
        warm, generators, drawn = self._walk(state), python_states(), random_states(tasks)
        run()
        after = self._walk(state)
        what = after.changed(warm)
        if python_states() != generators:
            self._refuse("it draws from Python's or numpy's random numbers", alone=True)
        elif moved(drawn, tasks):
            self.draws = True
        if self.refused is not None:
            pass
        elif what is not None:
            self._refuse(f"running it changes Python state: {what}", alone=not _stores(after, warm))
        elif after.drawing is not None:
            self._refuse(after.drawing, alone=True)
        elif after.unguardable is not None:
            self._refuse(after.unguardable, alone=False)
        if what is not None:
            before.restore()
            self._before = before
        if self.refused is None:
            if self.number is None:
                self.number = len(self._states)
                self._states.append(after)
            self._guards = self._states[self.number] = after
            self._looked.add(self.number)

    def undo(self) -> None:
        """Put back what looks have changed: they are not the user's calls."""
        if self._before is not None:
            self._before.restore()

    def at(self, state: Any) -> int | None:
        """Return the number of the present state, or None where there are no programs for it."""
        if self.refused is not None:
            return None
        if self._guards is None or not self._guards.hold():
            self._move_to(self._walk(state))
            if self.refused is not None:
                return None
        if self.number is None:
            self._wait()
        return self.number

    def _walk(self, state: Any) -> Guards:
        leaves = [leaf for leaf in pytree.tree_leaves(state) if isinstance(leaf, Tensor)]
        inputs = {leaf.untyped_storage().data_ptr() for leaf in leaves}
        return Guards(self.owner, inputs=inputs, skipped=self.skipped)

    def _refuse(self, why: str, alone: bool) -> None:
        self.refused = why
        self.alone = why if alone else None

    def _move_to(self, guards: Guards) -> None:
        if guards.drawing is not None:
            self._refuse(guards.drawing, alone=True)
        elif guards.unguardable is not None:
            self._refuse(guards.unguardable, alone=False)
        known = [i for i, seen in enumerate(self._states) if seen.facts == guards.facts]
        if self._states and not known and not self._told:
            self._told = True
            tell_once(
                f"{self.name}: {guards.changed(self._guards or self._states[0])}; what was compiled has the old value "
                f"in it, so tasks run eagerly unless the new one lasts (for at most {MOST_STATES} values)"
            )
        self._guards = guards
        self.number = known[0] if known else None
        if known:
            self._states[known[0]] = guards

    def _wait(self) -> None:
        """Count a call in a state without programs, and let it have some once it lasts."""
        assert self._guards is not None
        if len(self._states) >= MOST_STATES:
            return
        found = [p for p in self._passing if p[0] is self._guards or p[0].facts == self._guards.facts]
        calls = found[0][1] if found else [0]
        calls[0] += 1
        if not self._states or calls[0] > self.patience:
            self._passing = [p for p in self._passing if p[1] is not calls]
            self.number = len(self._states)
            self._states.append(self._guards)
        elif not found:
            self._passing = [*self._passing[-MOST_PASSING + 1 :], (self._guards, calls)]


@contextmanager
def undone(watch: Watch | None) -> Iterator[None]:
    """Take everything that runs inside for a look, which leaves Python's state as it was; so do those before it."""
    if watch is not None:
        watch.undo()
    try:
        yield
    finally:
        if watch is not None:
            watch.undo()
            watch._before = None


def _stores(after: Guards, before: Guards) -> bool:
    """Whether all that a run has changed are places with another tensor, which the comparison of the routes judges.

    A tensor that was written to is none of these: it would be written to once for all tasks.
    """
    changed = [path for path in after.facts if after.facts[path] != before.facts.get(path)]
    return all(_is_another(after.facts[path], before.facts.get(path)) for path in changed)


def _is_another(new: Any, old: Any) -> bool:
    tensor = isinstance(new, tuple) and new[0] == "tensor"
    return tensor and (not isinstance(old, tuple) or old[0] != "tensor" or old[1] != new[1])
