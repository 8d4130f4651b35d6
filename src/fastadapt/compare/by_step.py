"""Starts compared by what they reach after each number of gradient steps, every one with the rule that serves it best.

A learned start is for few steps, and a rival with an untuned rate is none: the rule, and the network where there are
several, are chosen on validation tasks for each number of steps by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.learner import Trace
from fastadapt.losses import Loss
from fastadapt.methods.reptile import Reptile
from fastadapt.rules.rules import Rule
from fastadapt.tasks import Tasks


@dataclass(frozen=True)
class Start:
    """Hold the networks from which a method may begin on a new task.

    Args:
        name: of the method.
        nets: by what tells them apart; one of them is chosen for each number of steps.
        rules: further rules that belong to it, such as the one that it was trained with, by name.
    """

    name: str
    nets: Mapping[str, nn.Module]
    rules: Mapping[str, Rule] = field(default_factory=dict)


@dataclass(frozen=True)
class Choice:
    """Hold what was chosen for one number of steps.

    Args:
        net: the name of the network.
        rule: the name of the rule.
        score: the mean of the metric on the validation tasks.
    """

    net: str
    rule: str
    score: float


def reached(
    net: nn.Module, rule: Rule, tasks: Iterable[Tasks], at: Sequence[int], loss: Loss, batch: int | None = None
) -> Tensor:
    """Return the loss's first metric on each task's query after the given numbers of steps, `[tasks, len(at)]`.

    Args:
        net: the start; it stays as it is.
        rule: what steps.
        tasks: in portions that are run at once.
        at: numbers of steps, rising.
        loss: that is descended, and whose metric is measured.
        batch: points of a minibatch, drawn anew for each step from a seed; None takes all.
    """
    traces = [traced(net, rule, portion, at, loss, batch) for portion in tasks]
    return torch.cat([next(iter(trace.metrics.values())).cpu() for trace in traces])


def traced(net: nn.Module, rule: Rule, tasks: Tasks, at: Sequence[int], loss: Loss, batch: int | None = None) -> Trace:
    """Return losses, metrics and outputs on the queries of tasks after the given numbers of steps, see `reached`."""
    learner = Reptile(net, loss, rule=rule, steps=max(at), test_batch=batch, route="loop")
    return learner.trace(tasks, max(at), after=tuple(at))


def tune_steps(
    start: Start,
    rules: Mapping[str, Rule],
    tasks: Sequence[Tasks],
    at: Sequence[int],
    loss: Any,
    batch: int | None = None,
) -> dict[int, Choice]:
    """Return, for each number of steps, the network and the rule that reach most on validation tasks.

    Args:
        start: whose networks and own rules are tried.
        rules: that are tried with every start.
        tasks: validation tasks; never those of the test.
        at: numbers of steps, rising.
        loss: with a metric and `higher_is_better`.
        batch: see `reached`.

    Raises:
        ConfigError: where no network and rule reach a finite number.

    Example:
        >>> from fastadapt import MSE, SGD
        >>> x = torch.ones(1, 4, 1)
        >>> start = Start("zero", {"zero": nn.Linear(1, 1, bias=False)})
        >>> _ = nn.init.zeros_(start.nets["zero"].weight)
        >>> rules = {"slow": SGD(0.1), "in one step": SGD(0.5), "slower": SGD(0.01)}
        >>> {k: choice.rule for k, choice in tune_steps(start, rules, [Tasks((x, x), (x, x))], (1, 2), MSE()).items()}
        {1: 'in one step', 2: 'in one step'}
    """
    sign = 1 if loss.higher_is_better else -1
    best: dict[int, Choice] = {}
    for net_name, net in start.nets.items():
        for rule_name, rule in {**rules, **start.rules}.items():
            means = reached(net, rule, tasks, at, loss, batch).mean(0)
            for k, mean in zip(at, means.tolist(), strict=True):
                if mean == mean and (k not in best or sign * mean > sign * best[k].score):
                    best[k] = Choice(net_name, rule_name, mean)
    if missing := [k for k in at if k not in best]:
        raise ConfigError(
            f"{start.name} reaches no finite number after {missing[0]} steps with any of "
            f"{', '.join({**rules, **start.rules})}; try smaller rates"
        )
    return best


def measured(
    start: Start,
    rules: Mapping[str, Rule],
    choices: Mapping[int, Choice],
    tasks: Sequence[Tasks],
    loss: Any,
    batch: int | None = None,
) -> Tensor:
    """Return `[tasks, steps]`, each column after its number of steps with what was chosen for it."""
    at = sorted(choices)
    columns: dict[int, Tensor] = {}
    for pair in dict.fromkeys((choices[k].net, choices[k].rule) for k in at):
        own = [k for k in at if (choices[k].net, choices[k].rule) == pair]
        found = reached(start.nets[pair[0]], {**rules, **start.rules}[pair[1]], tasks, own, loss, batch)
        columns |= dict(zip(own, found.unbind(1), strict=True))
    return torch.stack([columns[k] for k in at], 1)
