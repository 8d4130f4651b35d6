"""Outer steps on a CPU whose meta-gradient is one program: it is called, and the learner's Python code does not run.

A small network's program takes less time than what a learner does around it: names of parameters, checks, results in
the order of the tasks, the graph that hands out the gradient. Between two steps the answers to all of that are the
same, unless something has changed that is looked at before each call: the tasks' shapes and labels, the Python state
that the learner reads (`Watch`), the parameters and where they lie. Where anything has, the step is taken by
`outer_step`, with the same bits.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.engine.engine import Engine
from fastadapt.engine.programs import Made, Programs
from fastadapt.engine.watch import Watch
from fastadapt.learner import Learner, Outcome
from fastadapt.methods.gradient import GradientLearner
from fastadapt.methods.maml import MAML
from fastadapt.tasks import Tasks
from fastadapt.training.adam_at_once import move
from fastadapt.training.ahead import labels_fit
from fastadapt.training.blame import gradient_norm
from fastadapt.training.outer_step import Stepped, outer_step
from fastadapt.training.places import Places
from fastadapt.training.settings import Training


class ProgrammedStep:
    """Take outer steps as `outer_step` does, and call the program alone where it is known what it will be called with.

    Example:
        >>> from fastadapt import MLP, Sinusoid
        >>> from fastadapt.tasks import draw_batch
        >>> learner, take = MAML(MLP(1, (8,), 1)), ProgrammedStep()
        >>> tasks = draw_batch(Sinusoid(), seed=0, split="train", indices=range(2))
        >>> bool(take(learner, tasks, torch.optim.Adam(learner.parameters()), Training()).moved)
        True
    """

    def __init__(self) -> None:
        self._call: _Call | None = None

    def __call__(
        self, learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training
    ) -> Stepped:
        """Take one step."""
        if self._call is not None and self._call.fits(learner, tasks, optimizer):
            outcome = self._call(tasks, optimizer)
            params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            gradient = gradient_norm([p.grad for p in params if p.grad is not None])
            if not (math.isfinite(outcome.loss) and math.isfinite(gradient)):
                return Stepped(outcome, False, gradient)
            training.clip(params)
            move(optimizer)
            return Stepped(outcome, True, gradient)
        engine = getattr(learner, "engine", None)
        if not isinstance(engine, Engine) or len(tasks) != 1:
            return outer_step(learner, tasks, optimizer, training)
        engine.latest = None
        taken = outer_step(learner, tasks, optimizer, training)
        self._call = _Call.of(learner, engine, tasks)
        return taken


def _program(engine: Engine) -> tuple[Made, Watch] | None:
    """Return the program that has just run all tasks at once, if one did, and what watches its Python state."""
    strategy, watch = engine.latest if engine.latest is not None else (None, None)
    if not isinstance(strategy, Programs) or strategy.ran is None or watch is None:
        return None
    return strategy.ran, watch


class _Call:
    """Hold a program and all that it is called with beside the tasks.

    Args:
        learner: the learner.
        made: the program.
        watch: what follows the Python state that it was made for.
        tasks: tasks that it has run.
        state: the learner's state, whose tensors are its parameters and buffers.
    """

    def __init__(self, learner: GradientLearner, made: Made, watch: Watch, tasks: Tasks, state: list[Tensor]) -> None:
        self.learner, self.program, self.state = learner, made.program, state
        self.watch, self.number = watch, watch.number
        self.look = labels_fit(learner)
        self.signature = _signature(tasks)
        self.every = list(learner.parameters())
        self.trainable = [p.requires_grad for p in self.every]
        self.places = Places(learner)
        numbered = pytree.tree_unflatten(list(range(made.outputs.num_leaves)), made.outputs)
        self.gradients, self.each = numbered
        self.learned = learner.learned()
        self.receive = {id(self.learned[name]) for name in self.gradients}

    @classmethod
    def of(cls, learner: Learner, engine: Engine, tasks: list[Tasks]) -> "_Call | None":
        """Return the call that has just answered a meta-batch; None where it was no program, or more than that."""
        found = _program(engine)
        if found is None or not isinstance(learner, MAML) or _signature(tasks[0]) is None:
            return None
        kind = type(learner)
        if kind.forward is not MAML.forward or kind.state is not GradientLearner.state or learner.running is not None:
            return None  # what is done before and after the program is then another
        if engine.execution.precision != "float32" or tasks[0].positions != tuple(range(len(tasks[0]))):
            return None
        state = pytree.tree_leaves(learner.state())
        own = {tensor.data_ptr() for tensor in (*learner.parameters(), *learner.buffers())} - {0}
        made, watch = found
        if any(leaf.data_ptr() not in own or leaf.dim() == 4 for leaf in state):
            return None  # a tensor that is made anew for each call, or laid out otherwise for it
        if made.takes != len(state) + len(tasks[0].support) + len(tasks[0].query):
            return None
        call = cls(learner, made, watch, tasks[0], state)
        rest = call.each.get("fed"), call.each.get("data")
        return None if pytree.tree_leaves(rest) or call.gradients.keys() - call.learned.keys() else call

    def fits(self, learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer) -> bool:
        """Return whether the program gives what the learner would.

        Raises:
            TaskError: for a label that the loss does not know.
        """
        if learner is not self.learner or len(tasks) != 1 or _signature(tasks[0]) != self.signature:
            return False
        if not self.places.stand():
            return False
        if [p.requires_grad for p in self.every] != self.trainable or any(map(_hooked, self.every)):
            return False
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            return False
        if not self.receive <= {id(p) for group in optimizer.param_groups for p in group["params"]}:
            return False  # the gradient of others adds up from step to step
        if self.watch.at(self.state) != self.number:
            return False
        self.look(tasks)
        return True

    def __call__(self, tasks: list[Tasks], optimizer: torch.optim.Optimizer) -> Outcome:
        """Give the parameters their meta-gradient; return the outcome without outputs."""
        [group] = tasks
        with torch.no_grad():
            found = self.program(*self.state, *group.support, *group.query)
            for p in [p for params in optimizer.param_groups for p in params["params"]]:
                p.grad = None
            for name, i in self.gradients.items():
                p = self.learned[name]
                p.grad = found[i] if found[i].stride() == p.stride() else torch.empty_like(p).copy_(found[i])
            losses = found[self.each["loss"]]
            metrics = {name: found[i] for name, i in self.each.get("metrics", {}).items()}
            return Outcome(losses.mean(), losses, metrics)


def _hooked(p: nn.Parameter) -> bool:
    return bool(p._backward_hooks or p._post_accumulate_grad_hooks)  # type: ignore[attr-defined]


def _signature(tasks: Tasks) -> Any:
    """Return what two meta-batches have to agree in; None for others than contiguous tensors in tuples."""
    found: list[Any] = [tasks.positions]
    for part in (tasks.support, tasks.query):
        if type(part) is not tuple:
            return None
        for leaf in part:
            if type(leaf) is not Tensor or leaf.requires_grad or not leaf.is_contiguous() or leaf.dim() == 5:
                return None
            found.append((leaf.shape, leaf.dtype))
        found.append(None)
    return found
