"""Whether the labels of tasks fit what the network answers, looked at before anything is learned from them.

Inside a compiled program and under `torch.func.vmap` values can't be looked at, and a label that no class has gives a
number all the same, or stops a GPU for good. So the tasks are looked at outside: two numbers of each batch of labels.
"""

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from fastadapt.errors import TaskError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.judging.criteria import criterion_of
from fastadapt.judging.not_finite import not_finite
from fastadapt.layers.copied import copied
from fastadapt.layers.settled import inside_a_transform
from fastadapt.losses import MSE, CrossEntropy, OnOutput
from fastadapt.tasks import Tasks, as_support, first_tensor, map_tensors

_ANSWERS: "weakref.WeakKeyDictionary[nn.Module, tuple[int, ...]]" = weakref.WeakKeyDictionary()
"""Of each network, the shape of what it answered to the first batch."""
_FITTING: "WeakIdKeyDictionary" = WeakIdKeyDictionary()
"""Labels that were found to fit, with their version, the loss and the network: a look at labels waits for a GPU."""
OBJECTIVES = {"support": ("inner_objective", "inner_loss"), "query": ("meta_objective", "loss")}
"""What reads the labels of a set: a method's own objective may take them for something else, or not at all."""


def check_labels(learner: Any, groups: list[Tasks], judged: bool) -> None:
    """Refuse labels whose values are none that the loss knows, before any task runs.

    Args:
        learner: the learner, whose losses say what a label may be.
        groups: the tasks.
        judged: whether `loss` reads the labels of the query whatever the method minimises, as a trace does.

    Raises:
        TaskError: names the task, the set and the row.
    """
    if inside_a_transform() or torch.compiler.is_compiling():
        return
    for side, (objective, name) in OBJECTIVES.items():
        loss = getattr(learner, name)
        if callable(getattr(loss, "fault", None)) and (_is_ours(learner, objective) or (judged and side == "query")):
            for group in groups:
                if group.stacked:
                    _check_axes(group)
                    _check(learner.model, loss, getattr(group, side), group.positions, side)


def _check_axes(group: Tasks) -> None:
    """Refuse labels of a support set that have other axes than those of the query, as the chunks of a stream have.

    A loss would take the axis of samples for the classes wherever there are as many of both.
    """
    sides = (group.support, group.query)
    labels = [side[1] for side in sides if isinstance(side, (tuple, list)) and len(side) == 2]
    # of floating point they may be probabilities of classes, on one side alone
    if len(labels) == 2 and all(isinstance(y, Tensor) and not y.is_floating_point() for y in labels):
        ours, theirs = (y.dim() - 1 for y in labels)
        if ours != theirs:
            raise TaskError(
                f"task {group.positions[0]} of the meta-batch: its support has labels of {ours} axes and its query of "
                f"{theirs}; give both the same form, [n, ...]; streams of chunks are read by fastadapt.methods.TTT"
            )


def checked_support(learner: Any, support: Any) -> Any:
    """Return the support set that a learner is to adapt to, after a look at its labels, see `check_labels`.

    Raises:
        TaskError: if it is none, or has a label that the loss does not know.
    """
    support = as_support(support)
    if _is_ours(learner, "inner_objective") and not inside_a_transform():
        if "adapt" not in learner.unchecked and callable(getattr(learner.inner_loss, "fault", None)):
            _check(learner.model, learner.inner_loss, support, None, "support")
        _check_finite(learner, support)
    return support


def _check_finite(learner: Any, support: Any) -> None:
    """Refuse a support set that would make every adapted weight not a number.

    A network may take missing values, and a loss of one's own may leave them out: so only where neither does.
    """
    fault = not_finite(support, "support")
    if fault is None or not (isinstance(support, (tuple, list)) and len(support) == 2):
        return
    told = TaskError(
        f"{fault}: the network can't be adapted to data that are not finite; leave such samples out, or fill them in"
    )
    if isinstance(support[1], Tensor) and not_finite(support[1], "") and _reads_every_target(learner.inner_loss):
        raise told
    answer = _answer(learner.model, support[0])
    if answer is not None and not_finite(answer, ""):
        raise told


def _reads_every_target(loss: Any) -> bool:
    if isinstance(loss, OnOutput):
        return criterion_of(loss.criterion).targets != "any"
    return isinstance(loss, (MSE, CrossEntropy))


def _is_ours(learner: Any, objective: str) -> bool:
    return getattr(type(learner), objective).__module__.startswith("fastadapt.")


def _check(model: nn.Module, loss: Any, batch: Any, positions: tuple[int, ...] | None, side: str) -> None:
    """Raise for a batch `(x, y)`, whose tensors have a task axis where there are positions."""
    if not (isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[1], Tensor)):
        return
    of = _version(batch[1], loss, model)
    if of is not None and _FITTING.get(batch[1]) == of:
        return
    x, y = batch[0], batch[1].detach()
    tasks = y.shape[0] if positions is not None else 1
    if positions is not None:
        if y.dim() < 2 or not y.shape[1]:
            return
        x, y = map_tensors(lambda leaf: leaf[0], x), y.flatten(0, 1)
    if y.dim() == 0 or not y.numel() or y.shape[0] % tasks:
        return
    known = _ANSWERS.get(model)
    if known is not None and loss.fault((y.shape[0], *known[1:]), y) is None and _comparable(known, y):
        _FITTING[batch[1]] = of
        return
    answer = _answer(model, x)
    if answer is None or answer.dim() < 2:
        return
    known = _ANSWERS[model] = tuple(answer.shape)
    if not _comparable(known, y):
        return  # the loss says so itself
    fault = loss.fault((y.shape[0] // tasks, *known[1:]), y)
    if fault is not None:
        rows = y.shape[0] // tasks
        where = f"{side} row {fault.row % rows}"
        if positions is not None:
            where = f"task {positions[fault.row // rows]} of the meta-batch, {where}"
        raise TaskError(f"{where}: the label {fault.text}")


def _version(y: Tensor, loss: Any, model: nn.Module) -> Any:
    """Return what labels were looked at with, None where that can't be remembered."""
    try:
        return y._version, weakref.ref(loss), weakref.ref(model)
    except (TypeError, RuntimeError):  # a loss that nothing can refer to weakly, a tensor of inference mode
        return None


def _comparable(answer: tuple[int, ...], y: Tensor) -> bool:
    """Return whether labels have as many axes as class indices, or class probabilities, of such an answer."""
    return y.dim() == len(answer) - 1 or (y.dim() == len(answer) and y.shape[1] == answer[1])


def _answer(model: nn.Module, x: Any) -> Tensor | None:
    """Return what a copy of the network answers, None where it can't be asked like this."""
    first = first_tensor(x)
    devices = [first.device] if first is not None and first.device.type == "cuda" else []
    try:
        with torch_random_kept(devices), torch.no_grad():
            output = copied(model).eval()(x)
    except Exception:  # whatever it is, the run itself will meet it and say so
        return None
    return output if isinstance(output, Tensor) else None
