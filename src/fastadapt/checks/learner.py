"""A look at a learner, for whether it keeps what every learner promises."""

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.checks.tasks import undisturbed
from fastadapt.engine.engine import Engine
from fastadapt.errors import FastadaptError, LearnerError
from fastadapt.learner import Learner, Outcome, Trace
from fastadapt.tasks import SampleFunction, Task, Tasks, TaskSource, as_groups, draw, first_tensor

_TASKS = 4
"""Tasks that are drawn of a source."""
_SEED = 7


@dataclass(frozen=True)
class Looked:
    """Hold a learner that may be used up, and the tasks that it is tried on.

    Args:
        learner: the learner; every look takes a copy of it.
        tasks: some tasks with queries.
    """

    learner: Learner
    tasks: list[Task]

    def copy(self) -> Learner:
        """Return a copy in training mode, which runs its tasks one after another: to choose a route takes longer."""
        twin: Any = copy.deepcopy(self.learner).train()
        if isinstance(getattr(twin, "engine", None), Engine):
            twin.engine = Engine("loop")
        return twin

    @property
    def support(self) -> Any:
        """The support set of the first task."""
        return self.tasks[0].support

    @property
    def x(self) -> Tensor | None:
        """The first tensor of its query: what a predictor is asked."""
        return first_tensor(self.tasks[0].query)


def check_learner(learner: Learner, tasks: TaskSource | SampleFunction | Sequence[Task] | Tasks) -> None:
    """Try a learner on some tasks and compare what it does with the contract, see `Learner`.

    That is: `forward` returns an `Outcome` with a finite loss, the mean of one loss for each task in the given
    order; its `backward()` gives every trainable parameter a gradient, and not zeros to all; the same seed gives the
    same numbers; `adapt` returns a module of its own, leaves the learner and the support set bit for bit as they
    were, and answers like the last column of `trace`; `adapting` ends there too; `state_dict` carries all that
    `adapt` needs; `signature` is JSON.

    Args:
        learner: the learner, which is left as it was.
        tasks: a source of tasks, of which four are drawn, or at least two tasks with queries.

    Raises:
        LearnerError: with every promise that is broken, one a line.

    Example:
        >>> from fastadapt import MAML, MLP
        >>> from fastadapt.data.sinusoid import Sinusoid
        >>> check_learner(MAML(MLP(1, (8,), 1)), Sinusoid())
    """
    if not isinstance(learner, Learner):
        raise LearnerError(
            f"a {type(learner).__name__} is no learner: derive it from fastadapt.Learner, and give it forward, "
            "adapt and trace"
        )
    looked = Looked(learner, _listed(tasks))
    broken: list[str] = []
    with undisturbed():
        for promise, look in PROMISES.items():
            torch.manual_seed(_SEED)
            try:
                broken += [f"{promise}: {text}" for text in look(looked)]
            except FastadaptError as error:
                broken.append(f"{promise}: {error}")
            except Exception as error:
                first = (str(error).splitlines() or [""])[0]
                broken.append(f"{promise}: raises {type(error).__name__}: {first}")
    if broken:
        raise LearnerError("\n".join(f"{type(learner).__name__}.{text}" for text in broken))


def _listed(tasks: Any) -> list[Task]:
    if isinstance(tasks, TaskSource) or (callable(tasks) and not isinstance(tasks, (Task, Tasks))):
        source: Any = tasks
        tasks = draw(source, seed=0, split="train", indices=range(_TASKS))
    listed = [task for group in as_groups(tasks) for _, task in zip(group.positions, group, strict=True)]
    if len(listed) < 2:
        raise LearnerError(
            f"a learner is tried on at least 2 tasks, got {len(listed)}; give a source, or a list of tasks"
        )
    return listed


def _forward(looked: Looked) -> Iterator[str]:
    count, outcome = len(looked.tasks), looked.copy()(looked.tasks)
    if not isinstance(outcome, Outcome):
        yield f"returns a {type(outcome).__name__}; return fastadapt.Outcome(loss, losses)"
        return
    if not isinstance(outcome.loss, Tensor) or outcome.loss.shape != ():
        yield f"its loss is {_shape(outcome.loss)}; return a scalar, the mean over tasks"
        return
    if not isinstance(outcome.losses, Tensor) or outcome.losses.shape != (count,):
        yield f"its losses are {_shape(outcome.losses)} for {count} tasks; return one for each, ({count},)"
        return
    if not bool(torch.isfinite(outcome.losses).all()):
        yield f"a loss is not finite: {[round(v, 4) for v in outcome.losses.tolist()]}"
    elif not torch.allclose(outcome.loss.detach(), outcome.losses.detach().mean(), rtol=1e-3, atol=1e-6):
        yield (
            f"its loss {float(outcome.loss.detach()):.6g} is not the mean of its losses "
            f"{float(outcome.losses.detach().mean()):.6g}"
        )
    for name, value in outcome.metrics.items():
        if not isinstance(value, Tensor) or value.shape != (count,):
            yield f"its metric {name!r} is {_shape(value)} for {count} tasks; return one for each, ({count},)"
    if len(outcome.outputs) not in (0, count):
        yield f"it has {len(outcome.outputs)} outputs for {count} tasks; return one for each, or none"


def _order(looked: Looked) -> Iterator[str]:
    """Yield that losses don't follow their tasks; methods that draw minibatches draw them in the order of the tasks."""
    first, again = (_losses(looked.copy(), looked.tasks, seed) for seed in (_SEED, _SEED + 1))
    if not torch.equal(first, again):
        return
    turned = _losses(looked.copy(), looked.tasks[::-1], _SEED)
    if not torch.allclose(turned.flip(0), first, rtol=1e-3, atol=1e-5):
        yield (
            f"the losses of the tasks in reverse are {_rounded(turned)} and not {_rounded(first.flip(0))}; give "
            "each task the "
            "same loss wherever it stands, in the order of the tasks"
        )


def _gradient(looked: Looked) -> Iterator[str]:
    learner = looked.copy()
    loss = learner(looked.tasks).loss
    if not any(p.requires_grad for p in learner.parameters()):
        return  # it has nothing to train
    if not loss.requires_grad:
        yield "loss has no gradient; compute it under grad, without .detach() or .item()"
        return
    loss.backward()
    trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
    without = [name for name, p in trained.items() if p.grad is None]
    if without:
        yield (
            f"{len(without)} of {len(trained)} trainable parameters get no gradient, the first is {without[0]!r}; "
            "let it reach "
            "the loss, or freeze it with requires_grad_(False)"
        )
    grads = {name: p.grad for name, p in trained.items() if p.grad is not None}
    wrong = [name for name, grad in grads.items() if not bool(torch.isfinite(grad).all())]
    if wrong:
        yield f"the gradient of {wrong[0]!r} is not finite"
    elif grads and not any(bool(grad.any()) for grad in grads.values()):
        yield "every gradient is zero, so that nothing would be learned"
    frozen = [name for name, p in learner.named_parameters() if not p.requires_grad and p.grad is not None]
    if frozen:
        yield f"{frozen[0]!r} is frozen and gets a gradient"


def _seeded(looked: Looked) -> Iterator[str]:
    first, second = (_losses(looked.copy(), looked.tasks, _SEED) for _ in range(2))
    if not torch.equal(first, second):
        yield (
            f"the same seed gives {_rounded(first)} and then {_rounded(second)}; draw what is random from torch's "
            "generator"
        )
    one, other = (_answer(looked, looked.copy()) for _ in range(2))
    if one is not None and other is not None and not torch.equal(one, other):
        yield "the same support set and seed give two predictors that answer differently"


def _adapt(looked: Looked) -> Iterator[str]:
    learner = looked.copy()
    before, given = _everything(learner), [leaf.clone() for leaf in _tensors(looked.support)]
    predictor = learner.adapt(looked.support)
    if not isinstance(predictor, nn.Module):
        yield f"returns a {type(predictor).__name__}; return a module, such as fastadapt.Predictor(network)"
        return
    if changed := _changed(before, learner):
        yield f"changes the learner itself ({changed}); adapt a copy, or pure functions of its parameters"
    if any(not torch.equal(a, b) for a, b in zip(given, _tensors(looked.support), strict=True)):
        yield "changes its support set; compute with a copy"
    own = {p.data_ptr() for p in learner.parameters() if p.numel()}
    shared = [name for name, p in predictor.named_parameters() if p.numel() and p.data_ptr() in own]
    if shared:
        yield f"the predictor shares {shared[0]!r} with the learner, so that training one changes the other; copy it"
    if looked.x is not None:
        answer = predictor(looked.x)
        if isinstance(answer, Tensor) and not bool(torch.isfinite(answer).all()):
            yield "the predictor's answers are not finite"


def _trace(looked: Looked) -> Iterator[str]:
    learner, count = looked.copy().eval(), len(looked.tasks)
    before = _everything(learner)
    trace = learner.trace(looked.tasks)
    if not isinstance(trace, Trace):
        yield f"returns a {type(trace).__name__}; return fastadapt.Trace(losses, metrics, outputs)"
        return
    if changed := _changed(before, learner):
        yield f"changes the learner itself ({changed})"
    if trace.losses.dim() != 2 or len(trace.losses) != count:
        yield f"its losses are {_shape(trace.losses)} for {count} tasks; return [tasks, judgings]"
        return
    columns = trace.losses.shape[1]
    for name, value in trace.metrics.items():
        if value.shape != trace.losses.shape:
            yield f"its metric {name!r} is {_shape(value)}, and its losses are {_shape(trace.losses)}"
    if columns not in (1, learner.test_steps + 1):
        yield f"it has {columns} columns; there is one for each of 0..{learner.test_steps} inner steps, or one"
    if columns > 1:
        some = learner.trace(looked.tasks, after=[0, columns - 1]).losses
        if some.shape != (count, 2) or not torch.allclose(some, trace.losses[:, [0, -1]], rtol=1e-3, atol=1e-5):
            yield f"after=[0, {columns - 1}] does not give its first and last columns"
    answer = _answer(looked, learner)
    if trace.outputs and answer is not None and not _close(answer, trace.outputs[0][-1]):
        yield "its last outputs are not what the predictor of adapt answers to the same query"


def _adapting(looked: Looked) -> Iterator[str]:
    learner = looked.copy().eval()
    torch.manual_seed(_SEED)
    *_, last = learner.adapting(looked.support)
    answer = _answer(looked, learner)
    if answer is not None and looked.x is not None and not _close(last(looked.x), answer):
        yield "its last predictor answers otherwise than that of adapt"


def _state(looked: Looked) -> Iterator[str]:
    learner, other = looked.copy().eval(), looked.copy().eval()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.ones_like(p) * 0.1)
    other.load_state_dict(learner.state_dict())
    one, two = _answer(looked, learner), _answer(looked, other)
    if one is not None and two is not None and not _close(one, two):
        yield "a learner that has loaded it answers otherwise; register as a parameter or a buffer what adapt needs"


def _signature(looked: Looked) -> Iterator[str]:
    signature = looked.copy().signature()
    try:
        json.dumps(signature)
    except (TypeError, ValueError) as error:
        yield f"{error}; return JSON values, as a resume compares them"


PROMISES: dict[str, Callable[[Looked], Iterator[str]]] = {
    "forward": _forward,
    "forward, order of the tasks": _order,
    "forward, backward()": _gradient,
    "forward and adapt, the same seed": _seeded,
    "adapt": _adapt,
    "trace": _trace,
    "adapting": _adapting,
    "state_dict": _state,
    "signature": _signature,
}
"""What a learner promises, and the look that finds where it does not keep it."""


def _losses(learner: Learner, tasks: list[Task], seed: int) -> Tensor:
    torch.manual_seed(seed)
    return learner(tasks).losses.detach()


def _answer(looked: Looked, learner: Learner) -> Tensor | None:
    """Return what the adapted module answers to the query of the first task, None where it can't be asked."""
    torch.manual_seed(_SEED)
    predictor = learner.adapt(looked.support)
    if looked.x is None or not callable(predictor):
        return None
    with torch.no_grad():
        answer = predictor(looked.x)
    return answer if isinstance(answer, Tensor) else None


def _close(one: Any, other: Any) -> bool:
    if not (isinstance(one, Tensor) and isinstance(other, Tensor) and one.shape == other.shape):
        return False
    return torch.allclose(one.detach(), other.detach(), rtol=1e-3, atol=1e-4)


def _everything(learner: Learner) -> dict[str, Any]:
    values: dict[str, Any] = {name: value.clone() for name, value in learner.state_dict().items()}
    values |= {f"training of {name or 'itself'}": part.training for name, part in learner.named_modules()}
    return values | {f"requires_grad of {name}": p.requires_grad for name, p in learner.named_parameters()}


def _changed(before: dict[str, Any], learner: Learner) -> str | None:
    """Return the name of what is no more as it was."""
    after = _everything(learner)
    for name, value in before.items():
        now = after.get(name)
        same = torch.equal(value, now) if isinstance(value, Tensor) and isinstance(now, Tensor) else value == now
        if not same:
            return name
    return next((f"grad of {name}" for name, p in learner.named_parameters() if p.grad is not None), None)


def _tensors(batch: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def _shape(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _rounded(values: Tensor) -> list[float]:
    return [round(v, 4) for v in values.tolist()]
