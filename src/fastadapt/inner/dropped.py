r"""Where a gradient that will be differentiated again loses its graph: custom functions, and hooks on gradients.

A `torch.autograd.Function`, a hook of a tensor, of a node or of a module computes by Python code a gradient `y` from an
incoming gradient g and from whatever it has kept, x. If a part of that is done without a graph (in numpy, under
`no_grad`, by tensors that were detached), then a second derivative through it silently lacks that part. What autograd
says of such a step is held to what it does when the parameters are moved a little, by delta:

    dy/dg (g' - g) + dy/dtheta delta  =  y' - y           up to the order of delta^2

Nothing is computed twice unless there is code that could lose something: a hook that returns a gradient; a function
whose result rests on nothing that entered it, that has kept numbers without a graph, or that is not linear in g by its
graph, as every derivative is. Elements that jump (a mask) have no derivative and are not looked at.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fastadapt.errors import TaskError
from fastadapt.inner.generators import random_state, set_random_state
from fastadapt.inner.graph import nodes_of
from fastadapt.layers.bound import as_then
from fastadapt.layers.kept import running_again

_NODE_OF: Any = Tensor.grad_fn.__get__  # type: ignore[attr-defined]
_HOOK_OF_MODULE = "BackwardHookFunction"
Objective = Callable[[dict[str, Tensor]], tuple[Tensor, Any]]


@dataclass
class Step:
    """Hold one call of Python code within a backward pass: gradients in, gradients out."""

    name: str
    given: list[Tensor]
    made: list[Tensor]
    node: Any = None

    @property
    def differentiable(self) -> bool:
        """Whether a gradient came in that has a graph, so that what goes out is to have one."""
        return any(g.requires_grad for g in self.given) and bool(self.made)


@dataclass
class Look:
    """Look at the first gradient of an inner loss that will be differentiated again."""

    steps: list[Step] = field(default_factory=list)
    open: bool = True
    quiet: bool = False
    """Whether hooks on gradients hand on what they are given, for derivatives of one step alone."""
    _nodes: list[Any] = field(default_factory=list)

    @contextmanager
    def forward(self) -> Iterator[None]:
        """See which hooks are put on gradients while the loss is computed."""
        with _Hooks(self):
            yield

    @contextmanager
    def backward(self, value: Tensor, since: int) -> Iterator[None]:
        """Keep what custom functions and hooks do to the gradients of `value`, by nodes made since `since`."""
        own = [n for n in nodes_of(value, since) if isinstance(n, torch.autograd.function.BackwardCFunction)]
        custom = [node for node in own if not type(node).__module__.startswith("fastadapt.")]
        hooks = [node.register_hook(self._seeing(node)) for node in {*custom, *self._nodes}]
        try:
            yield
        finally:
            self.open = False
            for hook in hooks:
                hook.remove()

    def watched(self, hook: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
        """Return a hook of a tensor whose work is kept."""
        name = f"the hook {getattr(hook, '__qualname__', type(hook).__name__)} on the gradient of a tensor"

        def kept(g: Tensor) -> Any:
            if self.quiet:
                return None
            made = hook(g)
            if self.open and isinstance(made, Tensor):
                self.steps.append(Step(name, [g], [made]))
            return made

        return kept

    def _seeing(self, node: Any) -> Callable[[Any, Any], None]:
        def see(to_inputs: Any, from_outputs: Any) -> None:
            if self.open:
                self.steps.append(Step(_called(node), _tensors(from_outputs), _tensors(to_inputs), node))

        return see

    def check(self, objective: Objective, at: dict[str, Tensor], drawn: Any) -> None:
        """Refuse code that loses a part of its graph.

        Args:
            objective: the inner loss.
            at: the parameters at which it was differentiated.
            drawn: the state of the random generators before it was computed.

        Raises:
            TaskError: naming the function or the hook.
        """
        suspects = [i for i, step in enumerate(self.steps) if step.differentiable and _may_lose(step)]
        if not suspects:
            return
        moved = {name: _nudge(p) for name, p in at.items()}
        other = _once_more(objective, {name: at[name].detach() + moved[name] for name in at}, drawn)
        comparable = other is not None and [s.name for s in other.steps] == [s.name for s in self.steps]
        for i in suspects:
            step = self.steps[i]
            if comparable and step.made[0].dtype in _TOLERANCE:
                lost = self._loses(step, other.steps[i], list(at.values()), list(moved.values()))  # type: ignore[union-attr]
            else:
                lost = not any(y.requires_grad for y in step.made)
            if lost:
                raise TaskError(
                    f"{step.name} computes its gradient without a graph of all that it depends on, so that the exact "
                    "meta-gradient through it would silently lack its second derivative; take "
                    "meta_gradient=FirstOrder(), or compute that gradient by operations of torch on tensors that are "
                    "not detached"
                )

    def _loses(self, step: Step, other: Step, theta: list[Tensor], delta: list[Tensor]) -> bool:
        """Whether the change of what goes out is another than the graph says."""
        if [y.shape for y in step.made] != [y.shape for y in other.made] or len(step.given) != len(other.given):
            return not any(y.requires_grad for y in step.made)
        changes = [_smooth(b.detach() - y.detach(), y.detach()) for y, b in zip(step.made, other.made, strict=True)]
        actual = sum(float(c.square().sum()) for c in changes)
        size = sum(float(y.detach().square().sum()) for y in step.made)
        tolerance, noise = _TOLERANCE[step.made[0].dtype]
        if actual <= noise**2 * size:
            return False
        self.quiet = True
        try:
            with running_again(as_then):
                said = _said(step, other, changes, theta, delta)
        finally:
            self.quiet = False
        return not abs(said - actual) <= tolerance * actual


class _Hooks(TorchFunctionMode):
    """See the hooks that a model or a loss puts on tensors, and the nodes that it takes into its hands."""

    def __init__(self, look: Look) -> None:
        super().__init__()
        self.look = look

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.register_hook:
            tensor, hook = args if len(args) == 2 else (args[0], kwargs["hook"])
            return func(tensor, self.look.watched(hook))
        found = func(*args, **kwargs)
        if func == _NODE_OF and found is not None:
            self.look._nodes.append(found)
        return found


_TOLERANCE = {torch.float64: (1e-2, 1e-9), torch.float32: (5e-2, 1e-5)}
"""By the precision: how far the two may be apart, relative to the change, and what is rounding relative to y."""
_NUDGE = {torch.float64: 1e-4, torch.complex128: 1e-4}


def _said(step: Step, other: Step, along: list[Tensor], theta: list[Tensor], delta: list[Tensor]) -> float:
    """Return `<along, dy/dg (g' - g) + dy/dtheta delta>`, as the graph has it."""
    value = _dot(step.made, along)
    if value is None:
        return 0.0
    given = [(g, h.detach() - g.detach()) for g, h in zip(step.given, other.given, strict=True) if g.requires_grad]
    by_g = torch.autograd.grad(value, [g for g, _ in given], retain_graph=True, allow_unused=True)
    total = sum(float((c * change).detach().sum()) for c, (_, change) in zip(by_g, given, strict=True) if c is not None)
    total += _along(value, theta, delta)
    through_g = _dot(
        [g for (g, _), c in zip(given, by_g, strict=True) if c is not None], [c for c in by_g if c is not None]
    )
    return total - (0.0 if through_g is None else _along(through_g, theta, delta))


def _along(value: Tensor, theta: list[Tensor], delta: list[Tensor]) -> float:
    """Return the derivative of `value` by the parameters, along `delta`."""
    by = torch.autograd.grad(value, theta, retain_graph=True, allow_unused=True)
    return sum(float((c.conj() * d).real.detach().sum()) for c, d in zip(by, delta, strict=True) if c is not None)


def _dot(values: list[Tensor], along: list[Tensor]) -> Tensor | None:
    """Return the inner product with what has a graph, None where nothing has one."""
    terms = [(y * c.detach()).sum() for y, c in zip(values, along, strict=True) if y.requires_grad]
    return torch.stack(terms).sum() if terms else None


def _may_lose(step: Step) -> bool:
    if step.node is None or not any(y.requires_grad for y in step.made):
        return True
    graph = {node for y in step.made for node in nodes_of(y, beyond=[g.grad_fn for g in step.given])}
    entered = {node for node, _ in step.node.next_functions if node is not None}
    if not graph & entered or any(map(_without_graph, _kept_by(step.node))):
        return True
    value = _dot(step.made, [y.detach() for y in step.made])
    assert value is not None
    given = [g for g in step.given if g.requires_grad]
    with running_again(as_then):
        by_g = torch.autograd.grad(value, given, retain_graph=True, allow_unused=True)
    said = sum(float((c * g).detach().sum()) for c, g in zip(by_g, given, strict=True) if c is not None)
    is_worth = float(value.detach())
    return not abs(said - is_worth) <= 1e-3 * abs(is_worth)


def _kept_by(node: Any) -> list[Any]:
    """Return what a custom function has kept for its backward."""
    saved: Any = ()
    with suppress(Exception):  # hooks on what is saved may not unpack it twice
        saved = node.saved_tensors
    return [*saved, *getattr(node, "__dict__", {}).values()]


def _without_graph(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.is_floating_point() and not value.requires_grad and value.numel() > 0
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _once_more(objective: Objective, at: dict[str, Tensor], drawn: Any) -> Look | None:
    """Return a look at the same loss at other parameters, None if it can't be computed again."""
    look, stands = Look(), random_state(at)
    set_random_state(drawn)
    try:
        leaves = {name: p.requires_grad_() for name, p in at.items()}
        since = torch.autograd._get_sequence_nr()
        with look.forward():
            value, _ = objective(leaves)
        with look.backward(value, since), running_again(as_then):
            torch.autograd.grad(value, list(leaves.values()), create_graph=True, allow_unused=True)
        return look
    except Exception:  # whatever a second call of the user's code raises
        return None
    finally:
        set_random_state(stands)


def _nudge(p: Tensor) -> Tensor:
    """Return a small step in a direction that is the same each time, and that draws from no global generator."""
    # neither a generator nor a number goes into an operation of torch: by these a verdict on vmap is known
    drawn = np.asarray(np.random.default_rng(p.numel()).standard_normal(p.shape))
    draw = torch.from_numpy(drawn).to(p.device, p.dtype)
    size = p.detach().abs().square().mean().sqrt()
    return _NUDGE.get(p.dtype, 1e-3) * torch.where(size > 0, size, torch.ones_like(size)) * draw


def _smooth(change: Tensor, y: Tensor) -> Tensor:
    """Return the change without the elements that jump."""
    return torch.where(change.abs() > 0.5 * y.abs(), 0.0, change)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in values if isinstance(value, Tensor)]


def _called(node: Any) -> str:
    name = type(node).__name__.removesuffix("Backward")
    if name.startswith(_HOOK_OF_MODULE):
        return "a backward hook of a module (register_full_backward_hook)"
    if not isinstance(node, torch.autograd.function.BackwardCFunction):
        return f"a hook on the node {type(node).__name__}"
    return f"the function {name}"
