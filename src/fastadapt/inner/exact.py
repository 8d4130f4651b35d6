r"""The exact meta-gradient by sweeping back over the inner loop, with no graph longer than one segment.

The inner loop is a recursion of a *carry* c (the adapted parameters and the rule's state),

    c_{j+1} = A(c_j, f)            j = 0 .. k-1,

where f holds what is fixed along the loop and still learned (parameters that don't adapt, learned rates). With the
meta-objective `sum_j w_j L_Q(c_j)` (MAML: w_k = 1, the others 0), its gradient obeys the adjoint recursion

    lambda_j = d/dc_j [ <lambda_{j+1}, A(c_j, f)> + w_{j+1} L_Q(A(c_j, f)) ],     lambda_{k+1} = 0,

and the gradient to f is the sum of the same expressions' derivatives to f. So only the trajectory c_0 .. c_{k-1} is
kept; each segment of steps is computed once more on the way back. The right-hand side is the meta-objective of a
single step: for SGD it is the Hessian-vector product `lambda_{j+1} - alpha H_j lambda_{j+1}`. Nothing is approximated.

With one segment as long as the loop this is the usual graph of the whole trajectory: faster by the steps that aren't
computed twice, and as large as the loop is long.

References:
    Finn, Abbeel, Levine 2017 (arXiv:1703.03400), Algorithm 1; Maclaurin, Duvenaud, Adams 2015 (arXiv:1502.03492) and
    Griewank, Walther 2008, Evaluating Derivatives, chapter 12, for reversing an iteration from its trajectory.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.inner.calculus import Calculus
from fastadapt.inner.runner import Inline, Runner

UNROLLED = 5
"""Inner steps up to which the whole trajectory's graph is kept where nothing else is said."""

Carry = tuple[dict[str, Tensor], Any]
"""`(theta, state of the update rule)`."""


class Loop(Protocol):
    """Describe the inner loop of one task as pure functions."""

    steps: int
    repeatable: bool
    """Whether a step computed again gives the same result (false for trajectories sampled from the model)."""

    def constants(self, j: int) -> dict[str, Any]:
        """Return the tensors that step `j` uses and nobody learns."""
        ...

    def task_at(self, task: dict[str, Any], j: int) -> dict[str, Any]:
        """Return what step `j` needs of the task."""
        ...

    def advance(
        self, calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any, through: bool
    ) -> tuple[Carry, Any]:
        """Return the carry after one inner step, and a report."""
        ...

    def judge(self, fixed: Any, constants: Any, theta: dict[str, Tensor], task: Any) -> tuple[Tensor, Any]:
        """Return the query loss of adapted parameters, and a report."""
        ...


def walk(
    run: Runner, loop: Loop, carry: Carry, fixed: Any, task: Any, steps: int, draws: list[Any] | None = None
) -> Iterator[tuple[Carry, Any]]:
    """Yield `(carry, report)` after each of the first `steps` inner steps; nothing is differentiated through them.

    Before each step the state of the random generators is appended to `draws`, so that dropout can be repeated.
    """

    def advance(calculus: Calculus, **at: Any) -> tuple[Carry, Any]:
        return loop.advance(calculus, **at, through=False)

    for j in range(steps):
        if draws is not None:
            draws.append(random_state(carry))
        shared, each = _placed(j, carry, fixed, loop.task_at(task, j))
        carry, report = run("advance", advance, {**shared, "constants": loop.constants(j)}, each)
        yield carry, report


def first_order(run: Runner, loop: Loop, start: Carry, fixed: Any, task: Any) -> tuple[Any, Any, Tensor, Any]:
    """Return what `exact` returns, with the inner gradients taken as constants: `lambda_0 = grad L_Q(theta^k)`."""
    path = list(walk(run, loop, start, fixed, task, loop.steps))
    carry = path[-1][0] if path else start

    def judge(calculus: Calculus, fixed: Any, constants: Any, carry: Carry, task: Any) -> Any:
        return calculus.outer(lambda at: loop.judge(at[1], constants, at[0], task), (carry[0], fixed))

    shared, each = _placed(loop.steps, carry, fixed, task)
    (theta, rest), loss, report = run("judge", judge, {**shared, "constants": loop.constants(loop.steps)}, each)
    return theta, rest, loss, {"inner": [seen for _, seen in path], "query": report}


def exact(
    run: Runner,
    loop: Loop,
    start: Carry,
    fixed: Any,
    task: Any,
    *,
    weights: Sequence[float] | None = None,
    through: bool = True,
) -> tuple[Any, Any, Tensor, Any]:
    """Return the gradient of the meta-objective by the sweep above.

    Args:
        run: the runner of the pieces.
        loop: the inner loop.
        start: c_0.
        fixed: f, a pytree of tensors.
        task: support, query and whatever else the steps need.
        weights: `w_1 .. w_k` of the query losses after each step; None weighs the last alone.
        through: False takes the inner gradients as constants (first order with learned rates).

    Returns:
        `(gradient to theta^0, gradient to f, meta-objective, report)`; the report holds those of the inner steps and
        of the last query.
    """
    k = loop.steps
    if k == 0:
        return first_order(run, loop, start, fixed, task)
    weights = [0.0] * (k - 1) + [1.0] if weights is None else list(weights)
    segment = k if not loop.repeatable else run.segment or (k if k <= UNROLLED else 1)
    starts = list(range(0, k, segment))
    # programs draw no random numbers, and several threads run them
    draws: list[Any] | None = [] if isinstance(run, Inline) else None
    carries = {0: start}
    inner = []
    for j, (carry, report) in enumerate(walk(run, loop, start, fixed, task, starts[-1], draws), start=1):
        inner.append(report)
        if j % segment == 0:
            carries[j] = carry

    cotangent: Any = None
    gradient: Any = None
    total: Any = None
    query: Any = None
    end: Any = None
    for a in reversed(starts):
        b = min(a + segment, k)
        last = b == k
        if not last and draws is not None:
            set_random_state(draws[a])
        shared, each = _placed(a, carries.pop(a), fixed, task)  # let go of at once: a frame may outlive its call
        shared |= {f"constants_{j - a}": loop.constants(j) for j in range(a, b + 1)}
        if cotangent is not None:
            each["cotangent"] = cotangent
        some = tuple(weights[a:b])
        piece = _sweep(loop, b - a, some, through)
        (cotangent, step_gradient), value, reports = run(f"sweep {b - a} {some} {last} {through}", piece, shared, each)
        gradient = step_gradient if gradient is None else pytree.tree_map(torch.add, gradient, step_gradient)
        total = value if total is None else total + value
        if last:
            query = reports["query"]
            inner += reports["inner"]
            end = random_state(start) if draws else None
    if end is not None:
        set_random_state(end)
    return cotangent[0], gradient, total, {"inner": inner, "query": query}


def _sweep(loop: Loop, steps: int, weights: tuple[float, ...], through: bool) -> Any:
    """Return the piece that differentiates `steps` inner steps, of which those with a weight are judged."""

    def piece(calculus: Calculus, fixed: Any, carry: Carry, task: Any, cotangent: Any = None, **constants: Any) -> Any:
        def objective(at: tuple[Carry, Any]) -> tuple[Tensor, Any]:
            (theta, state), fixed = at
            inner, judged, query = [], [], {}
            for i, weight in enumerate(weights):
                (theta, state), report = loop.advance(
                    calculus, fixed, constants[f"constants_{i}"], (theta, state), task, through
                )
                inner.append(report)
                if weight:
                    loss, query = loop.judge(fixed, constants[f"constants_{i + 1}"], theta, task)
                    judged.append(weight * loss)
            value = torch.stack(judged).sum() if judged else _zero(theta)
            pulled = value if cotangent is None else value + _inner_product(cotangent, (theta, state))
            return pulled, (value.detach(), {"inner": inner, "query": query})

        gradient, _, (value, reports) = calculus.outer(objective, (carry, fixed))
        return gradient, value, reports

    return piece


def _placed(j: int, carry: Carry, fixed: Any, task: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the shared arguments and those of each task; before the first step all tasks share the carry."""
    shared, each = {"fixed": fixed}, {"task": task}
    (shared if j == 0 else each)["carry"] = carry  # type: ignore[assignment]
    return shared, each


def random_state(tree: Any) -> list[Any]:
    """Return the states of the random generators that serve the devices of `tree`: the CPU's first."""
    devices = sorted({str(leaf.device) for leaf in pytree.tree_leaves(tree) if leaf.is_cuda})
    return [torch.get_rng_state(), *((d, torch.cuda.get_rng_state(d)) for d in devices)]


def set_random_state(state: list[Any]) -> None:
    """Put the random generators into a state that `random_state` returned."""
    torch.set_rng_state(state[0])
    for device, value in state[1:]:
        torch.cuda.set_rng_state(value, device)


def _inner_product(a: Any, b: Any) -> Tensor:
    pairs = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    return torch.stack([(x * y).sum() for x, y in pairs]).sum()


def _zero(params: Mapping[str, Tensor]) -> Tensor:
    return next(iter(params.values())).new_zeros(())
