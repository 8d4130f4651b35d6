"""How far two executions of the same computation are apart."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import FastadaptError
from fastadapt.heap import give_back
from fastadapt.inner.generators import torch_random_kept
from fastadapt.layers.bound import first_line
from fastadapt.layers.rewrites import tell_once
from fastadapt.tasks import Tasks

AGREEMENT = 1e-6
"""Largest relative difference, in float64, between the two routes' gradients."""
ROUGH_AGREEMENT = 1e-2
"""The same for a module that runs in its own lower precision only, where rounding flips maxima."""
ROUNDINGS = 100
"""How many times further than one rounding of the start moves it two right executions may be apart."""
Run = Callable[[Any, Tasks, Any], tuple[Any, Any]]
"""`run(state, tasks, extra)`, one of the ways to run a function."""


def widened(state: Any, tasks: Tasks, extra: Any) -> tuple[Any, Tasks, Any]:
    """Return the arguments in float64."""

    def wide(leaf: Any) -> Any:
        return leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    few = Tasks(*pytree.tree_map(wide, (tasks.support, tasks.query)))
    return pytree.tree_map(wide, state), few, pytree.tree_map(wide, extra)


def cuda_devices(tasks: Tasks) -> list[torch.device]:
    """Return the GPUs that hold the tasks."""
    devices = {leaf.device for leaf in pytree.tree_leaves(tasks.support) if isinstance(leaf, Tensor)}
    return [d for d in devices if d.type == "cuda"]


def numbers(averaged: Any, stacked: Any) -> list[Tensor]:
    """Return what two executions are compared by: the gradient, else the losses, else all that they return."""
    return pytree.tree_leaves(averaged) or ([stacked["loss"]] if "loss" in stacked else pytree.tree_leaves(stacked))


def distance(numbers: list[Tensor], reference: list[Tensor]) -> float:
    """Return the relative Euclidean distance; 0 where the reference is not finite, because it can't judge then."""
    pairs = list(zip(numbers, reference, strict=True))
    distance = sum(float((a - b).square().sum()) for a, b in pairs) ** 0.5
    size = sum(float(b.square().sum()) for _, b in pairs) ** 0.5
    if distance == 0 or not math.isfinite(size):
        return 0.0
    return distance / size if size > 0 and math.isfinite(distance) else math.inf


def median(values: list[float]) -> float:
    """Return the upper median."""
    return sorted(values)[len(values) // 2]


class Verdict(NamedTuple):
    """Hold how far two executions of the same computation are apart."""

    difference: float
    """Relative, in float64; 0 where the reference is not finite."""
    allowed: float
    told: bool = True
    """Whether the numbers could judge: they were finite, and rounding alone does not move them as far."""

    def words(self, model: str) -> str:
        """Return why the loop serves, where the difference is too large."""
        why = f"vmap gave {model} another result"
        if not self.told:
            why = "inner steps diverge, and one rounding moves the result as far as vmap"
        return f"{why} (relative difference {self.difference:.1e})"


def disagreement(loop: Run, other: Run, state: Any, tasks: Tasks, extra: Any) -> Verdict:
    """Return the relative difference of the routes' results, and the allowed one."""
    arguments = widened(state, tasks, extra)
    before, allowed = random_states(tasks), AGREEMENT
    try:
        reference = numbers(*loop(*arguments))
    except FastadaptError:
        raise
    except Exception as error:  # a module that insists on its own precision
        tell_once(f"the vmap route is only checked roughly, because float64 does not run: {first_line(error)}")
        arguments, allowed = (state, tasks, extra), ROUGH_AGREEMENT
        reference = numbers(*loop(*arguments))
    if moved(before, tasks):
        return Verdict(0.0, allowed)  # dropout draws other masks on the two routes
    if not all(bool(number.isfinite().all()) for number in reference):
        return Verdict(0.0, allowed, told=False)
    difference = distance(numbers(*other(*arguments)), reference)
    if difference > allowed:
        nudged = numbers(*loop(pytree.tree_map(next_number, arguments[0]), *arguments[1:]))
        moved_by = distance(nudged, reference)  # inner steps that diverge multiply every rounding
        return Verdict(difference, allowed, told=difference > ROUNDINGS * moved_by)
    return Verdict(difference, allowed)


def next_number(leaf: Any) -> Any:
    """Return the next larger number that the precision holds, in the place of each; what is no such tensor stays."""
    if not isinstance(leaf, Tensor) or not leaf.is_floating_point():
        return leaf
    return torch.nextafter(leaf.detach(), torch.full_like(leaf, math.inf)).requires_grad_(leaf.requires_grad)


def drift(compiled: Run, eager: Run, loop: Run, state: Any, groups: list[tuple[Tasks, Any]]) -> tuple[float, float]:
    """Return the compiled result's distance from float64, and the allowed one: ten times that of eager execution.

    Rounding flips a maximum or a ReLU in a task now and then, compiled or not; so where tasks can be told apart the
    median over groups is compared.
    """
    own, plain = [], []
    for few, some in groups:
        try:
            reference = numbers(*loop(*widened(state, few, some)))
        except Exception:  # a module that insists on its own precision
            reference = numbers(*loop(state, few, some))
        plain.append(distance(numbers(*eager(state, few, some)), reference))
        own.append(distance(numbers(*compiled(state, few, some)), reference))
    give_back()  # what a pass in float64 has taken would count for the whole training
    return median(own), 10 * median(plain)


def random_states(tasks: Tasks) -> list[Tensor]:
    """Return the states of the random generators that tasks can draw from."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in cuda_devices(tasks))]


def moved(before: list[Tensor], tasks: Tasks) -> bool:
    """Return whether torch has drawn random numbers since."""
    return any(not torch.equal(a, b) for a, b in zip(before, random_states(tasks), strict=True))


def python_states() -> list[Any]:
    """Return the states of Python's and numpy's generators, as values that can be compared."""
    kind, keys, *rest = np.random.get_state()
    return [random.getstate(), (kind, keys.tobytes(), *rest)]  # type: ignore[union-attr]


@contextmanager
def undisturbed(tasks: Tasks) -> Iterator[None]:
    """Leave all random generators as they were."""
    states = random.getstate(), np.random.get_state()
    with torch_random_kept(cuda_devices(tasks)):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
