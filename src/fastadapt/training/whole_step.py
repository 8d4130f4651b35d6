"""An outer step from the tasks to the weights as one graph: adaptation, meta-gradient, and the optimizer's update.

A small network computes its step faster than Python runs through a learner. What Python would do is done once, while
the step is recorded: the learner's own checks, the engine's choice. What may differ between two steps is looked at
before each replay: the shapes of the tasks and their labels, the Python state that the learner reads (`Watch`), where
its tensors lie, what the optimizer is set to.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fastadapt.batches.leaves import label
from fastadapt.engine.check import python_states, undisturbed
from fastadapt.engine.graph import copy_all
from fastadapt.engine.recorder import Recorder, Uncapturable, recording
from fastadapt.engine.watch import Watch
from fastadapt.inner.generators import repeats
from fastadapt.learner import Learner, Outcome
from fastadapt.methods.gradient import GradientLearner
from fastadapt.tasks import Tasks
from fastadapt.training.ahead import labels_fit
from fastadapt.training.places import Places
from fastadapt.training.settings import Training
from fastadapt.training.update import fixed, updated


def detached(outcome: Outcome) -> Outcome:
    """Return an outcome without its graph."""
    return Outcome(outcome.loss.detach(), outcome.losses.detach(), outcome.metrics, outcome.outputs)


class WholeStep:
    """Record one outer step, and replay it for further tasks of the same shapes.

    Args:
        learner: the learner, whose engine has run these tasks before.
        tasks: the meta-batch, of the shapes that are recorded.
        optimizer: the outer optimizer, which has stepped before.
        training: the settings.
        params: the parameters that receive a gradient.
        recorder: what records.

    Raises:
        Uncapturable: if it can't be recorded, or would not be the same step when it is replayed.
    """

    def __init__(
        self,
        learner: Learner,
        tasks: list[Tasks],
        optimizer: torch.optim.Optimizer,
        training: Training,
        params: list[nn.Parameter],
        recorder: Recorder,
    ) -> None:
        if not isinstance(learner, GradientLearner):
            raise Uncapturable(f"{type(learner).__name__} is no learner whose state can be watched")
        self.learner, self.params, self.buffers = learner, params, list(learner.buffers())
        self.signature = _signature(tasks)
        if self.signature is None:
            raise Uncapturable("its tasks hold more than tensors, or tensors that require a gradient")
        self.every, self.places = list(learner.parameters()), Places(learner)
        if any(p._backward_hooks or p._post_accumulate_grad_hooks for p in self.every):  # type: ignore[attr-defined]
            raise Uncapturable("a parameter has a hook, which Python would have to call")
        if any(buffer.requires_grad for buffer in self.buffers):
            raise Uncapturable("a buffer requires a gradient, which reaches a tensor that is no parameter here")
        self.trainable = [p.requires_grad for p in self.every]
        self.tasks = [_static(group) for group in tasks]
        self.look = labels_fit(learner)
        self.look(self.tasks)  # what is known to fit is not looked at while it is recorded
        self._watch_state(tasks[0], recorder)
        self._record(optimizer, training, recorder)
        self.fixed = self._fixed(optimizer, training)

    def _watch_state(self, tasks: Tasks, recorder: Recorder) -> None:
        """Find out what Python state a step depends on, and that a step changes none and waits for nothing."""
        self.state = self.learner.state()
        self.watch = Watch(self.learner, self.learner.model, True, (self.learner.engine,))
        before = [torch.empty_like(buffer) for buffer in self.buffers]
        copy_all(before, self.buffers)

        def run() -> None:
            with recording(), torch.enable_grad():
                recorder.warm(lambda: self.learner(self.tasks), strict=True)

        try:
            with undisturbed(tasks):
                self.watch.look(self.state, tasks, run)
        finally:
            copy_all(self.buffers, before)
        self.number = self.watch.at(self.state)
        if self.number is None:
            raise Uncapturable(self.watch.refused or "its Python state does not last")

    def _record(self, optimizer: torch.optim.Optimizer, training: Training, recorder: Recorder) -> None:
        given = [p.grad for p in self.every]
        states = recorder.generator(), torch.get_rng_state(), python_states()

        def function() -> Any:
            before = [buffer.clone() for buffer in self.buffers]
            for p in self.every:
                p.grad = None
            with recording(), torch.enable_grad():
                outcome = self.learner(self.tasks)
                outcome.loss.backward()
            if [p for p in self.every if p.grad is not None] != self._in_order():
                raise Uncapturable("other parameters receive a gradient than the step before")
            told = detached(outcome)
            finite, gradient = updated(told.loss, self.params, self.buffers, before, optimizer, training)
            return told.loss, told.losses, told.metrics, finite, gradient

        try:
            with repeats() as repeated:
                results, self.replay = recorder.record(function)
            on_the_cpu = not torch.equal(states[0], states[1])  # else one generator is the other
            if (on_the_cpu and not torch.equal(torch.get_rng_state(), states[1])) or python_states() != states[2]:
                raise Uncapturable("it draws random numbers outside of the GPU")
            if repeated:
                raise Uncapturable("inner steps are computed a second time, perhaps with random numbers")
        finally:
            recorder.set_generator(states[0])
            torch.set_rng_state(states[1])
            for p, grad in zip(self.every, given, strict=True):
                p.grad = grad
        self.outputs, self.form = pytree.tree_flatten(results)

    def _in_order(self) -> list[nn.Parameter]:
        known = {id(p) for p in self.params}
        return [p for p in self.every if id(p) in known]

    def _fixed(self, optimizer: torch.optim.Optimizer, training: Training) -> Any:
        return fixed(optimizer, self.params, self.buffers, self.outputs[0], training)

    def fits(self, learner: Learner, tasks: list[Tasks], optimizer: torch.optim.Optimizer, training: Training) -> bool:
        """Return whether a replay is the step that would be taken.

        Raises:
            TaskError: for a label that the loss does not know.
        """
        same = learner is self.learner and _signature(tasks) == self.signature
        if not same or not self.places.stand() or [p.requires_grad for p in self.every] != self.trainable:
            return False
        if self.watch.at(self.state) != self.number or self._fixed(optimizer, training) != self.fixed:
            return False
        self.look(tasks)
        return True

    def __call__(self, tasks: list[Tasks]) -> tuple[Outcome, Tensor, Tensor]:
        """Take the step; return the outcome without outputs, whether all was finite, and the gradient's norm."""
        with torch.no_grad():
            copy_all(_leaves(self.tasks), _leaves(tasks))
            self.replay()
            own = [torch.empty_like(leaf) for leaf in self.outputs]
            copy_all(own, self.outputs)
        loss, losses, metrics, finite, gradient = pytree.tree_unflatten(own, self.form)
        return Outcome(loss, losses, metrics), finite, gradient


def _leaves(tasks: list[Tasks]) -> list[Any]:
    return pytree.tree_leaves([(group.support, group.query) for group in tasks])


def _static(group: Tasks) -> Tasks:
    support, query = pytree.tree_map(lambda leaf: leaf.detach().clone(), (group.support, group.query))
    return Tasks(support, query, group.positions)


def _signature(tasks: list[Tasks]) -> Any:
    """Return what two meta-batches have to agree in; None where one has more to it than the numbers in its tensors."""
    found = []
    for group in tasks:
        leaves, form = pytree.tree_flatten((group.support, group.query))
        if not group.stacked or not all(isinstance(leaf, Tensor) and not leaf.requires_grad for leaf in leaves):
            return None
        found.append((group.positions, form, [(*label(leaf), leaf.device) for leaf in leaves]))
    return found
