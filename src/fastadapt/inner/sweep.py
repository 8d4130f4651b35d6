r"""Sweep back over the inner loop for its gradient, with no graph longer than one segment.

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

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from fastadapt.errors import TaskError
from fastadapt.inner.calculus import Autograd, Calculus
from fastadapt.inner.generators import RandomState, random_state, set_random_state
from fastadapt.inner.runner import Inline, Runner
from fastadapt.inner.trajectory import Carry, Loop, judged, placed, walk

UNROLLED = 5
"""Inner steps up to which the whole trajectory's graph is kept where nothing else is said."""


def sweep(
    run: Runner,
    loop: Loop,
    start: Carry,
    fixed: Any,
    task: Any,
    weights: Mapping[int, float | Tensor],
    *,
    segment: int | None = None,
    through: bool = True,
) -> tuple[Any, Any, Tensor, Any]:
    """Return the gradient of the meta-objective by the sweep above.

    Args:
        run: the runner of the pieces.
        loop: the inner loop.
        start: c_0.
        fixed: f, a pytree of tensors.
        task: support, query and whatever else the steps need.
        weights: `w_j` of the query loss after step `j`; those that are not named are 0. Scalars in tensors are inputs
            of what is compiled: they may be others at every call.
        segment: inner steps to differentiate at once.
        through: False takes the inner gradients as constants (first order with learned rates).

    Returns:
        `(gradient to theta^0, gradient to f, meta-objective, report)`; the report holds those of the inner steps and
        of the last query.

    Raises:
        TaskError: if the rule's state holds something else than tensors.
    """
    k = loop.steps
    _check_state(start[1])
    if k == 0:
        (theta, rest), loss, report = judged(run, loop, start, fixed, task)
        return theta, rest, loss, {"inner": [], "query": report}
    terms = [weights.get(j, 0.0) for j in range(1, k + 1)]
    segment = k if not loop.repeatable else segment or run.segment or (k if k <= UNROLLED else 1)
    starts = list(range(0, k, segment))
    # programs draw no random numbers, and several threads run them
    draws: list[RandomState] | None = [] if isinstance(run, Inline) else None
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
    again: list[tuple[Tensor, Tensor]] = []
    for a in reversed(starts):
        b = min(a + segment, k)
        last = b == k
        if not last and draws is not None:
            set_random_state(draws[a])
        shared, each = placed(a, carries.pop(a), fixed, task)  # let go of at once: a frame may outlive its call
        shared |= {f"constants_{j - a}": loop.constants(j) for j in range(a, b + 1)}
        if any(own := [_of_step(loop, task, j) for j in range(a, b)]):
            each["own"] = tuple(own)
        if cotangent is not None:
            each["cotangent"] = cotangent
        some = tuple(None if isinstance(w, Tensor) else w for w in terms[a:b])
        given = tuple(w for w in terms[a:b] if isinstance(w, Tensor))
        if given:
            shared["weights"] = given
        piece = _sweep(loop, some, through)
        (cotangent, step_gradient), value, reports = run(f"sweep {b - a} {some} {last} {through}", piece, shared, each)
        gradient = step_gradient if gradient is None else pytree.tree_map(torch.add, gradient, step_gradient)
        total = value if total is None else total + value
        if last:
            query = reports["query"]
            inner += reports["inner"]
            end = random_state(start) if draws else None
        else:
            again += [(inner[a + i]["loss"], seen["loss"]) for i, seen in enumerate(reports["inner"])]
    if end is not None:
        set_random_state(end)
    if isinstance(run, Inline) and isinstance(run.calculus, Autograd):
        _check_again(again, k)
    return cotangent[0], gradient, total, {"inner": inner, "query": query}


def _check_state(state: Any) -> None:
    """Refuse a state of the rule that is not made of tensors."""
    for leaf in pytree.tree_leaves(state):
        if not isinstance(leaf, Tensor):
            raise TaskError(
                f"the state that the rule's init returns holds {leaf!r}, a {type(leaf).__name__}, and the "
                "meta-gradient passes through tensors alone; count steps by torch.zeros(()), and keep what is fixed "
                "on the rule"
            )


def _sweep(loop: Loop, terms: tuple[float | None, ...], through: bool) -> Any:
    """Return the piece that differentiates some inner steps, of which those with a weight are judged.

    A weight that is None is one of the `weights` that the piece is given, in this order.
    """

    def piece(
        calculus: Calculus,
        fixed: Any,
        carry: Carry,
        task: Any,
        cotangent: Any = None,
        weights: tuple[Tensor, ...] = (),
        own: tuple[dict[str, Any], ...] = (),
        **constants: Any,
    ) -> Any:
        def objective(at: tuple[Carry, Any]) -> tuple[Tensor, Any]:
            (theta, state), fixed = at
            inner, judged, query = [], [], {}
            given = iter(weights)
            for i, term in enumerate(terms):
                weight = next(given) if term is None else term
                at_step = {**task, **own[i]} if own else task
                (theta, state), report = loop.advance(
                    calculus, fixed, constants[f"constants_{i}"], (theta, state), at_step, through
                )
                inner.append(report)
                if term is None or term:
                    loss, query = loop.judge(fixed, constants[f"constants_{i + 1}"], theta, task)
                    judged.append(weight * loss)
            value = torch.stack(judged).sum() if judged else _zero(theta)
            pulled = value if cotangent is None else value + inner_product(cotangent, (theta, state))
            return pulled, (value.detach(), {"inner": inner, "query": query})

        gradient, _, (value, reports) = calculus.outer(objective, (carry, fixed))
        return gradient, value, reports

    return piece


def _of_step(loop: Loop, task: Any, j: int) -> dict[str, Any]:
    """Return what step `j` takes beside the task: the numbers of its minibatch."""
    return {name: value for name, value in loop.task_at(task, j).items() if name not in task}


def _check_again(losses: list[tuple[Tensor, Tensor]], steps: int) -> None:
    """Refuse a loop whose steps, computed once more, have other losses: its gradient would be that of no loop."""
    if not losses:
        return
    first, second = (torch.stack(each).double() for each in zip(*losses, strict=True))
    allowed = torch.finfo(losses[0][0].dtype).eps ** 0.5 * torch.maximum(first.abs(), second.abs())
    if bool(((first - second).abs() > allowed).any()):  # what is not finite is not
        raise TaskError(
            "an inner step that is computed again, to differentiate it, has another loss than the first time: the "
            "model or the loss counts its calls, or draws from a random generator of its own; use torch's, Python's or "
            f"numpy's global one, or take meta_gradient=Exact(segment={steps}), which computes each step once"
        )


def inner_product(a: Any, b: Any) -> Tensor:
    """Return the real inner product; torch's gradient of a complex number is that of its two parts."""
    pairs = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    return torch.stack([(x.conj() * y).real.sum() if x.is_complex() else (x * y).sum() for x, y in pairs]).sum()


def _zero(params: Mapping[str, Tensor]) -> Tensor:
    return next(iter(params.values())).real.new_zeros(())
