"""Meta-learning written out with plain copies of a module: what every number of this folder is held to.

No parameter is bound from outside here. An inner step is `loss.backward()` and `p -= rate * p.grad` on a deep copy, the
first-order gradient is one more `backward()` on it, and the exact one is found in two ways: by central differences of
that procedure, and by autograd through copies whose parameters are the tensors that carry the graph. A copy is never
put back, so it is right whenever it is evaluated: in a recomputed block, an adjoint solver, a distribution asked later.
"""

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import nn

import fastadapt as fa

ROUTES = ("auto", "loop")


@dataclass
class Case:
    """A module with its loss and tasks, as a user of some library has them, and what it is compared with.

    Args:
        model: the module that a learner is given.
        loss: its loss.
        tasks: a list of `Task`.
        rate: the inner learning rate; large enough that a lost step is seen.
        steps: the inner steps.
        adapt: the selection that the learner is given.
        chosen: which parameters that is, by name; None is all that can be trained.
        twin: the module that is run by hand, with the same trainable parameters in the same order; None is `model`.
        twin_loss: its loss; None is `loss`.
        twin_tasks: its tasks; None is `tasks`.
        unrolled: whether autograd passes twice through the twin; otherwise central differences are the only witness.
        apart: the relative distance that is allowed, where no difference quotient is in it.
        h: the step of the difference quotients; larger where a module rounds to float32 on its way.
        detaches: whether the module detaches something by design: its gradients are no slopes of its losses then.
        order: how the learner differentiates when it is asked for the exact meta-gradient.
    """

    model: nn.Module
    loss: Callable[[Any, Any], Any]
    tasks: list[fa.Task]
    rate: float = 0.2
    steps: int = 3
    adapt: Any = "all"
    chosen: Callable[[str], bool] | None = None
    twin: nn.Module | None = None
    twin_loss: Callable[[Any, Any], Any] | None = None
    twin_tasks: list[fa.Task] | None = None
    unrolled: bool = True
    apart: float = 1e-9
    h: float = 1e-5
    detaches: bool = False
    order: Any = "exact"

    def learner(self, method: Any = fa.MAML, **options: Any) -> Any:
        """Return a learner of this module, in training mode as constructed."""
        if method is fa.MAML:
            options.setdefault("meta_gradient", self.order)
        return method(self.model, self.loss, rule=fa.SGD(self.rate), steps=self.steps, adapt=self.adapt, **options)

    @property
    def other(self) -> "Plain":
        """What is run by hand."""
        own = self.twin if self.twin is not None else self.model
        loss = self.twin_loss if self.twin_loss is not None else self.loss
        tasks = self.twin_tasks if self.twin_tasks is not None else self.tasks
        # a copy, so that nothing that a learner leaves behind in the module could reach it
        return Plain(copy.deepcopy(own), loss, tasks, self.rate, self.chosen, self.h)


# ---- by hand ---------------------------------------------------------------------------------------


@dataclass
class Plain:
    """The same by hand, see the head of this file."""

    model: nn.Module
    loss: Callable[[Any, Any], Any]
    tasks: list[fa.Task]
    rate: float
    chosen: Callable[[str], bool] | None = None
    h: float = 1e-5

    def adapts(self, name: str) -> bool:
        return self.chosen is None or self.chosen(name)

    def value(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return self.loss(model, batch)

    def descended(self, support: Any, steps: int) -> nn.Module:
        """Return a copy after `steps` steps down the gradient."""
        twin = copy.deepcopy(self.model)
        moved = [p for n, p in twin.named_parameters() if p.requires_grad and self.adapts(n)]
        for _ in range(steps):
            twin.zero_grad(set_to_none=True)
            self.value(twin, support).backward()
            with torch.no_grad():
                for p in moved:
                    if p.grad is not None:
                        p -= self.rate * p.grad
        twin.zero_grad(set_to_none=True)
        return twin

    def losses(self, steps: int) -> torch.Tensor:
        """Return the loss of each task's query after `steps` steps, `[T]`."""
        ends = [(self.descended(t.support, steps), t.query) for t in self.tasks]
        return torch.stack([self.value(end, query).detach() for end, query in ends])

    def first_order(self, steps: int) -> list[torch.Tensor]:
        """Return the mean over tasks of the query loss's gradient at the adapted parameters."""
        total = zeros(self.model)
        for task in self.tasks:
            end = self.descended(task.support, steps)
            self.value(end, task.query).backward()
            for place, p in zip(total, trainable(end), strict=True):
                place += 0 if p.grad is None else p.grad / len(self.tasks)
        return total

    def reptile(self, steps: int) -> list[torch.Tensor]:
        """Return `phi - mean phi_i`."""
        ends = [trainable(self.descended(t.support, steps)) for t in self.tasks]
        start = trainable(self.model)
        return [(p - sum(each) / len(ends)).detach() for p, *each in zip(start, *ends, strict=True)]

    def exact(self, steps: int) -> list[torch.Tensor]:
        """Return the gradient of the mean query loss through every step."""
        theta = {n: p.detach().clone().requires_grad_() for n, p in self.model.named_parameters() if p.requires_grad}
        losses = []
        for task in self.tasks:
            phi = dict(theta)
            moved = [n for n in phi if self.adapts(n)]
            for _ in range(steps):
                value = self.value(carrying(self.model, phi), task.support)
                grads = torch.autograd.grad(value, [phi[n] for n in moved], create_graph=True, allow_unused=True)
                phi |= {n: phi[n] if g is None else phi[n] - self.rate * g for n, g in zip(moved, grads, strict=True)}
            losses.append(self.value(carrying(self.model, phi), task.query))
        grads = torch.autograd.grad(sum(losses) / len(losses), list(theta.values()), allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(theta.values(), grads, strict=True)]

    def slope(self, steps: int, direction: Sequence[torch.Tensor]) -> float:
        """Return how fast the mean query loss grows along `direction`, by central differences of the fourth order."""

        def at(s: float) -> float:
            moved = replace(self, model=copy.deepcopy(self.model))
            with torch.no_grad():
                for p, d in zip(trainable(moved.model), direction, strict=True):
                    p += s * d
            return moved.losses(steps).mean().item()

        h = self.h
        return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def trainable(model: nn.Module) -> list[torch.Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def zeros(model: nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(p) for p in trainable(model)]


def carrying(model: nn.Module, values: dict[str, torch.Tensor]) -> nn.Module:
    """Return a copy of `model` in which these tensors stand where the Parameters were, under all of their names."""
    twin = copy.deepcopy(model)
    names = {id(p): name for name, p in twin.named_parameters()}
    for part in twin.modules():
        for own, p in list(part._parameters.items()):
            if p is not None and names[id(p)] in values:
                del part._parameters[own]
                part.__dict__[own] = values[names[id(p)]]
    return twin


def apart(got: Sequence[torch.Tensor], want: Sequence[torch.Tensor]) -> float:
    """Return the relative Euclidean distance of two lists of tensors."""
    far = sum((g - w).abs().square().sum().item() for g, w in zip(got, want, strict=True)) ** 0.5
    size = sum(w.abs().square().sum().item() for w in want) ** 0.5
    assert size > 1e-12, "the right value is zero: the case tells nothing"
    return far / size


# ---- what a learner says, against it ----------------------------------------------------------------


def grads_of(model: nn.Module) -> list[torch.Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in trainable(model)]


@contextlib.contextmanager
def untouched(model: nn.Module):
    """Check that the module has its own Parameters, with the values they had."""
    before = {n: (p, p.detach().clone()) for n, p in model.named_parameters(remove_duplicate=False)}
    yield
    after = dict(model.named_parameters(remove_duplicate=False))
    assert list(after) == list(before)
    for name, (p, value) in before.items():
        assert after[name] is p, f"{name} is another object than before"
        assert isinstance(p, nn.Parameter), name
        assert torch.equal(p, value), f"{name} has moved"


def meta_gradient(case: Case, **options: Any) -> tuple[Any, list[torch.Tensor]]:
    """Return outcome and gradient of a second call, as the first one may have left something behind."""
    learner = case.learner(**options)
    for _ in range(2):
        with untouched(case.model):
            learner.zero_grad()
            outcome = learner(case.tasks)
            outcome.loss.backward()
    return outcome, grads_of(case.model)


def exact(case: Case) -> None:
    """Check losses and exact meta-gradient of MAML on every route."""
    other = case.other
    losses = other.losses(case.steps)
    want = other.exact(case.steps) if case.unrolled else None
    differences = max(1e-5, case.apart)
    if want is not None and not case.detaches:
        assert _along(want, want) == pytest.approx(other.slope(case.steps, _unit(want)), rel=differences), (
            "the yardstick"
        )
    for route in ROUTES:
        outcome, got = meta_gradient(case, route=route)
        assert apart([outcome.losses], [losses]) < case.apart, route
        assert sum(g.norm().item() for g in got) > 0, f"every gradient is zero on route {route!r}"
        if want is not None:
            assert apart(got, want) < case.apart, route
        else:
            assert _along(got, got) == pytest.approx(other.slope(case.steps, _unit(got)), rel=differences), route
            other_way = [torch.randn_like(g) for g in got]
            assert _along(got, other_way) == pytest.approx(
                other.slope(case.steps, _unit(other_way)), rel=differences, abs=differences * _along(got, got)
            ), route


def _unit(direction: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the direction with every tensor at length one, so that none is lost beside a large one."""
    return [d / max(d.norm().item(), 1e-12) for d in direction]


def _along(grads: Sequence[torch.Tensor], direction: Sequence[torch.Tensor]) -> float:
    return sum((g * d).sum().item() for g, d in zip(grads, _unit(direction), strict=True))


def first_order(case: Case) -> None:
    """Check losses and first-order meta-gradient of MAML on every route."""
    other = case.other
    losses, want = other.losses(case.steps), other.first_order(case.steps)
    for route in ROUTES:
        outcome, got = meta_gradient(case, route=route, meta_gradient="first_order")
        assert apart([outcome.losses], [losses]) < case.apart, route
        assert apart(got, want) < case.apart, route


def adapted(case: Case) -> None:
    """Check the parameters of what `adapt` returns."""
    learner = case.learner()
    for task, own in zip(case.tasks, case.other.tasks, strict=True):
        with untouched(case.model):
            predictor = learner.adapt(task.support)
        want = case.other.descended(own.support, case.steps)
        assert isinstance(predictor, nn.Module)
        start = [p.detach() for p in trainable(case.other.model)]
        far = [w.detach() - s for w, s in zip(trainable(want), start, strict=True)]
        got = [p.detach() - s for p, s in zip(_same(predictor, case.model), start, strict=True)]
        assert apart(got, far) < max(case.apart, 1e-8)


def _same(predictor: nn.Module, model: nn.Module) -> list[torch.Tensor]:
    """Return the predictor's own version of what can be trained in `model`."""
    flags = [p.requires_grad for p in model.parameters()]
    return [p for p, yes in zip(predictor.parameters(), flags, strict=True) if yes]


def trace(case: Case) -> None:
    """Check the losses after each of 0..k steps."""
    learner = case.learner()
    with untouched(case.model):
        got = learner.trace(case.tasks).losses
    want = torch.stack([case.other.losses(j) for j in range(case.steps + 1)], dim=1)
    assert got.shape == want.shape
    assert apart([got], [want]) < case.apart


def reptile(case: Case) -> None:
    """Check Reptile's pseudo-gradient, with the whole support set in every step."""
    learner = case.learner(fa.Reptile)
    learner.zero_grad()
    with untouched(case.model):
        learner(case.tasks).loss.backward()
    assert apart(grads_of(case.model), case.other.reptile(case.steps)) < max(case.apart, 1e-8)


every_number = pytest.mark.parametrize("number", [exact, first_order, adapted, trace, reptile])


def falls_on_support(case: Case) -> None:
    """Check that the support loss falls with the steps: a rate that is sane for the case, and steps that are taken."""
    learner = case.learner()
    losses = learner.trace([fa.Task(t.support, t.support) for t in case.tasks]).losses
    assert bool((losses[:, 1:] < losses[:, :-1]).all()), losses


@contextlib.contextmanager
def or_a_sentence(*words: str):
    """Let the body hold, or take one sentence of the library that has at least one of `words` in it."""
    try:
        yield
    except fa.FastadaptError as error:
        is_a_sentence(error, *words)


def is_a_sentence(error: BaseException, *words: str) -> None:
    """Check that an error is one line that a user can act on."""
    said = str(error)
    assert said, type(error).__name__
    assert "\n" not in said, said
    assert len(said) <= 400, said
    assert not words or any(word in said.lower() for word in words), said


@contextlib.contextmanager
def refused(*words: str):
    """Check that the body raises one sentence of the library's own."""
    with pytest.raises(fa.FastadaptError) as caught:
        yield
    is_a_sentence(caught.value, *words)


# ---- data ------------------------------------------------------------------------------------------


def regression(count: int = 3, shots: int = 5, queries: int = 6, inputs: int = 3, outputs: int = 2) -> list[fa.Task]:
    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(n, inputs), torch.randn(n, outputs)

    return [fa.Task(batch(shots), batch(queries)) for _ in range(count)]


def classification(
    count: int = 2, shots: int = 6, queries: int = 6, shape: tuple[int, ...] = (3,), ways: int = 3
) -> list[fa.Task]:
    def batch(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(n, *shape), torch.arange(n) % ways

    return [fa.Task(batch(shots), batch(queries)) for _ in range(count)]


def spread(model: nn.Module, scale: float = 0.5) -> nn.Module:
    """Return the module with every parameter drawn anew: a library's zeros and ones would hide a wrong derivative."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            fan = max(p.shape[-1] if p.dim() > 1 else 1, 1)
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64) * scale / fan**0.5
            p.copy_(noise if p.dim() > 1 else p + 0.2 * noise)
    return model
