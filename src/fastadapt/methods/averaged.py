"""The mean of many regressors, each trained on one task: the multi-task baseline of the MAML paper's appendix."""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from fastadapt.errors import ConfigError, TaskError
from fastadapt.inner.generators import torch_random_kept
from fastadapt.rules.rules import Adam, Params
from fastadapt.tasks import SampleFunction, Tasks, TaskSource, draw_batch

Pull = Literal["none", "zero", "mean"]


@dataclass(frozen=True)
class AveragedRegressors:
    """Hold the mean of the regressors' parameters, and how their training went.

    Args:
        state: the mean of each parameter, for `load_state_dict`.
        errors: `[tasks]`, the last mean squared error of each regressor on its points.
        updates: `[tasks]`, how many updates each took.
        threshold: the error below which a regressor was finished.
    """

    state: dict[str, Tensor]
    errors: Tensor
    updates: Tensor
    threshold: float

    @property
    def reached(self) -> int:
        """How many regressors came below the threshold."""
        return int((self.errors < self.threshold).sum())

    def __str__(self) -> str:
        """Return one line a person can read."""
        return (
            f"{self.reached} of {len(self.errors)} regressors below {self.threshold:g} after "
            f"{float(self.updates.double().mean()):.0f} updates on average, {int(self.updates.max())} at most"
        )


def average_regressors(
    net: nn.Module | Callable[[], nn.Module],
    source: TaskSource | SampleFunction,
    tasks: int = 500,
    *,
    pull: Pull = "none",
    strength: float = 1e-3,
    threshold: float = 0.02,
    lr: float = 1e-3,
    most: int = 20_000,
    seed: int = 0,
) -> AveragedRegressors:
    r"""Train one regressor for each of many tasks, and return the mean of their parameters.

        theta_i minimises  MSE(D_i; theta_i) + (strength / 2) ||theta_i - c_i||^2,    theta = (1/M) sum_i theta_i

    by Adam, on the whole support set at each update, until its mean squared error (without the penalty) is below
    `threshold`. The penalty pulls towards `c_i = 0`, or towards the mean of the regressors that are trained already,
    `c_i = (1/(i-1)) sum_{j<i} theta_j`, or there is none. Towards that mean they are trained one after another, and
    the first goes free; otherwise none depends on another, and all are trained at once.

    The paper trains 500 regressors, each from random weights, below 0.02, and fine-tunes their mean on 5 points; the
    three pulls are its three variants, as strong as they can be without doing harm. It says no number for that, nor
    how many points a regressor sees but that they are many. Here they see a support set of dense points
    (`Sinusoid(shots=100)`), and Adam is that of the paper's other baselines.

    Args:
        net: the network that all start from, or a function that makes one with first weights of its own for each task.
        source: where the tasks come from, all of the same shapes; regressor `i` learns the support of task `i` of the
            stream `(seed, "train")`.
        tasks: how many regressors M.
        pull: "none", "zero" or "mean".
        strength: of the pull, >= 0.
        threshold: the error at which a regressor is finished.
        lr: Adam's step size.
        most: updates after which one that is not finished is left as it is.
        seed: of the tasks and of the first weights.

    Returns:
        The mean, to be fine-tuned as `Pretrain(net)` is, and how the training went.

    Raises:
        ConfigError: for a setting outside its range, or a network with buffers, which have no meaningful mean.
        TaskError: if the tasks differ in shape.

    Example:
        >>> from fastadapt import MLP, Pretrain, SGD, Sinusoid
        >>> net = MLP(1, (8,), 1)
        >>> averaged = average_regressors(net, Sinusoid(shots=20), tasks=3, most=5)
        >>> _ = net.load_state_dict(averaged.state)
        >>> Pretrain(net, rule=SGD(0.01), test_steps=10).test_steps, averaged.updates.tolist()
        (10, [5, 5, 5])

    References:
        Finn, Abbeel, Levine 2017 (arXiv:1703.03400), appendix.
    """
    _check(tasks, pull, strength, threshold, most)
    with torch_random_kept(range(torch.cuda.device_count()), seed=seed):
        nets = [copy.deepcopy(net) if isinstance(net, nn.Module) else net() for _ in range(tasks)]
    if any(True for _ in nets[0].buffers()):
        raise ConfigError(
            f"{type(nets[0]).__name__} has buffers (batch norm?), and those of trained networks have no meaningful "
            "mean; take a network without them"
        )
    stacked, _ = stack_module_state(nets)
    params = {name: p.detach() for name, p in stacked.items()}
    x, y = _points(source, tasks, seed, next(iter(params.values())))
    train = functools.partial(_train, nets[0], rule=Adam(lr, beta1=0.9), threshold=threshold, most=most)
    if pull == "mean":
        params, errors, updates = _in_turn(train, params, x, y, strength)
    else:
        centre = {name: torch.zeros_like(p) for name, p in params.items()}
        params, errors, updates = train(params, x, y, centre=centre, strength=strength if pull == "zero" else 0.0)
    return AveragedRegressors({name: p.mean(0) for name, p in params.items()}, errors, updates, threshold)


def _in_turn(train: Any, params: Params, x: Tensor, y: Tensor, strength: float) -> tuple[Params, Tensor, Tensor]:
    """Train one regressor after another, each pulled towards the mean of those before it."""
    done, mean = [], {name: torch.zeros_like(p[:1]) for name, p in params.items()}
    finite = 0
    for i in range(len(x)):
        start = {name: p[i : i + 1] for name, p in params.items()}
        theta, error, updates = train(start, x[i : i + 1], y[i : i + 1], centre=mean, strength=strength * (finite > 0))
        done.append((theta, error, updates))
        if error.isfinite():  # one that is not would take the rest with it
            finite += 1
            mean = {name: m + (theta[name] - m) / finite for name, m in mean.items()}
    thetas, errors, updates = zip(*done, strict=True)
    return (
        {name: torch.cat([theta[name] for theta in thetas]) for name in params},
        torch.cat(errors),
        torch.cat(updates),
    )


def _points(source: TaskSource | SampleFunction, tasks: int, seed: int, of: Tensor) -> tuple[Tensor, Tensor]:
    """Return the supports of all tasks, `[M, K, ...]`, with the type and device of the parameters."""
    groups = draw_batch(source, seed=seed, split="train", indices=range(tasks))
    if len(groups) != 1:
        raise TaskError(f"regressors are trained on tasks of one shape, got {len(groups)} shapes")
    group: Tasks = groups[0]
    x, y = (leaf.to(of.device, of.dtype) for leaf in group.support)
    return x, y


def _train(
    net: nn.Module,
    params: Params,
    x: Tensor,
    y: Tensor,
    *,
    rule: Adam,
    centre: Params,
    strength: float,
    threshold: float,
    most: int,
) -> tuple[Params, Tensor, Tensor]:
    """Return parameters `[M, ...]`, last errors `[M]` and numbers of updates `[M]`, pulled towards `centre: [M, ...]`.

    Finished regressors leave the stack, so the last ones cost what they weigh. Those in the stack have all taken the
    same number of updates, which is the one step count that the rule keeps.
    """

    def error(theta: Params, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(functional_call(net, theta, (x,)), y)

    slopes = vmap(grad_and_value(error))
    done = {name: p.clone() for name, p in params.items()}
    errors = x.new_zeros(len(x))
    updates = torch.zeros(len(x), dtype=torch.long, device=x.device)
    going = torch.arange(len(x), device=x.device)
    state = rule.init(params)
    for update in range(most + 1):
        grads, values = slopes(params, x, y)
        errors[going] = values
        updates[going] = update
        staying = values >= threshold if update < most else torch.zeros_like(values, dtype=torch.bool)
        # a loss that is not a number never gets better
        staying &= values.isfinite()
        if not staying.all():
            for name, p in params.items():
                done[name][going[~staying]] = p[~staying]
            going, x, y = going[staying], x[staying], y[staying]
            params, grads, centre = _kept(params, staying), _kept(grads, staying), _kept(centre, staying)
            state = {"step": state["step"], "m": _kept(state["m"], staying), "v": _kept(state["v"], staying)}
        if not len(going):
            break
        if strength:
            grads = {n: g + strength * (params[n] - centre[n]) for n, g in grads.items()}
        params, state = rule.update(params, grads, state)
    return done, errors, updates


def _kept(tensors: Mapping[str, Tensor], staying: Tensor) -> Params:
    return {name: value[staying] for name, value in tensors.items()}


def _check(tasks: int, pull: str, strength: float, threshold: float, most: int) -> None:
    if pull not in get_args(Pull):
        raise ConfigError(f"pull must be one of {', '.join(map(repr, get_args(Pull)))}, got {pull!r}")
    for name, value, least in (("tasks", tasks, 1), ("most", most, 0)):
        if value < least:
            raise ConfigError(f"{name} must be at least {least}, got {value}")
    for name, value in (("strength", strength), ("threshold", threshold)):
        if not 0 <= value < float("inf"):
            raise ConfigError(f"{name} must be finite and >= 0, got {value}")
