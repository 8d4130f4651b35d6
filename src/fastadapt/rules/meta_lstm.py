r"""The meta-learner LSTM: an update rule that is itself learned (Ravi & Larochelle 2017).

The inner loop's update has the form of an LSTM's cell state. With theta in place of the cell and the gradient in place
of what is written to it,

    theta_t = sigma(f_t) * theta_{t-1} - sigma(i_t) * g_t        for each number of theta,

it is gradient descent whose rate `sigma(i)` and decay `sigma(f)` are computed anew at every step and for every number,
by one small network that all numbers share. So it fits any network.

References:
    Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR); Andrychowicz et al. 2016
    (arXiv:1606.04474) for the preprocessing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.rules.rules import Params, Rate, check_lr, rate_of

State = dict[str, Tensor]
Feedback = Literal["logits", "gates"]


def preprocessed(x: Tensor, p: float = 10.0) -> Tensor:
    r"""Return two numbers of a size that a network can take, `[2, ...]`, for each number of `x`.

    They are `(log|x| / p, sign x)` where `|x| >= e^-p`, and `(-1, e^p x)` below.

    Example:
        >>> preprocessed(torch.tensor([1.0, -1e-3, 0.0]))
        tensor([[ 0.0000, -0.6908, -1.0000],
                [ 1.0000, -1.0000,  0.0000]])
    """
    size = x.abs()
    seen = size >= math.exp(-p)
    # the logarithm has an infinite slope at 0: take it of 1 there
    height = torch.where(seen, torch.where(seen, size, 1.0).log() / p, -1.0)
    return torch.stack((height, torch.where(seen, x.sign(), math.exp(p) * x)))


class Gates(nn.Module):
    r"""Compute rate and decay of every number of theta, by two layers of which each number has a state of its own.

    The first is an LSTM on the preprocessed gradient and loss, four numbers; its output is h. The second is

        i_t = w_i . [h_t, theta_{t-1}, i_{t-1}] + b_i        f_t = w_f . [h_t, theta_{t-1}, f_{t-1}] + b_f

    with `i_0 = f_0 = 0`. At first all weights lie within 0.01 of 0, b_f in (4, 5) and b_i in (-5, -4), so that the rule
    begins as gradient descent at a rate near 0.01 with hardly any decay.

    Args:
        hidden: numbers in h.
        feedback: what the second layer is told of the step before: "logits", the numbers above as they are (the public
            code), or "gates", their sigmoids (the equations of the paper).

    Raises:
        ConfigError: for a setting outside its range.
    """

    def __init__(self, hidden: int = 20, feedback: Feedback = "logits") -> None:
        super().__init__()
        if hidden < 1 or feedback not in get_args(Feedback):
            raise ConfigError(
                f"the gates need hidden of at least 1 and feedback of 'logits' or 'gates', got {hidden}, {feedback!r}"
            )
        self.hidden = hidden
        self.feedback: Feedback = feedback

        def within(low: float, high: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape).uniform_(low, high))

        # the gates of the LSTM in torch's order: input, forget, cell, output
        self.seen_weight = within(-0.01, 0.01, 4 * hidden, 4)
        self.hidden_weight = within(-0.01, 0.01, 4 * hidden, hidden)
        self.bias = within(-0.01, 0.01, 4 * hidden)
        self.input_weight = within(-0.01, 0.01, hidden + 2)
        self.input_bias = within(-5.0, -4.0, 1)
        self.forget_weight = within(-0.01, 0.01, hidden + 2)
        self.forget_bias = within(4.0, 5.0, 1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"hidden={self.hidden}, feedback={self.feedback!r}"

    def start(self, like: Tensor, count: int) -> State:
        """Return the state of `count` numbers before the first step, on the device of `like`."""

        def zeros(*shape: int) -> Tensor:
            return like.new_zeros((*shape, count), dtype=self.bias.dtype)

        return {"h": zeros(self.hidden), "c": zeros(self.hidden), "input": zeros(), "forget": zeros()}

    def forward(self, seen: Tensor, theta: Tensor, state: State) -> tuple[Tensor, Tensor, State]:
        """Return rates `[n]`, decays `[n]` and the next state.

        Args:
            seen: `[4, n]`, the preprocessed gradient of each number, and the loss.
            theta: `[n]`.
            state: of these numbers after the step before.
        """
        # the numbers of theta lie along the last axis, where there are many
        inner = self.seen_weight @ seen + self.hidden_weight @ state["h"] + self.bias.unsqueeze(1)
        write, keep, value, show = inner.to(self.bias.dtype).chunk(4)
        c = keep.sigmoid() * state["c"] + write.sigmoid() * value.tanh()
        h = show.sigmoid() * c.tanh()

        def gate(weight: Tensor, bias: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
            logit = (weight[:-2] @ h).to(bias.dtype) + theta * weight[-2] + before * weight[-1] + bias
            return logit.sigmoid(), logit if self.feedback == "logits" else logit.sigmoid()

        rate, input_told = gate(self.input_weight, self.input_bias, state["input"])
        decay, forget_told = gate(self.forget_weight, self.forget_bias, state["forget"])
        return rate, decay, {"h": h, "c": c, "input": input_told, "forget": forget_told}


@dataclass(frozen=True)
class MetaLSTM:
    r"""Step as a learned LSTM says: `theta' = sigma(f) * theta - sigma(i) * alpha g`, with f and i from `Gates`.

    The gates see gradient, loss, theta and what they said before. They are meta-parameters of the learner that the rule
    is given to, as is its network's start. The published method takes gradients and losses as constants, which is
    `meta_gradient="first_order"`: the meta-gradient then is exact in theta, the gates and their states. With
    "exact" it also passes through the gradients, at the price of second derivatives.

    Args:
        lr: alpha, by which every gradient is multiplied before anything else; 1 leaves it as it is.
        gates: the network that computes rate and decay. A fresh one is random; seed torch before.
        p: above `e^-p` a gradient or loss is seen by its logarithm, below as it is; > 0.

    Raises:
        ConfigError: for a setting outside its range, or if the rule is asked for a step without the loss.

    Example:
        >>> from fastadapt import MAML, MLP, Task
        >>> learner = MAML(MLP(1, (4,), 1), rule=MetaLSTM(), steps=3, meta_gradient="first_order")
        >>> x = torch.ones(2, 1)
        >>> learner(Task((x, x), (x, x))).loss.backward()
        >>> bool(learner.rule.gates.input_bias.grad != 0)
        True

    References:
        Ravi, Larochelle 2017, Optimization as a Model for Few-Shot Learning (ICLR).
    """

    lr: Rate = 1.0
    gates: Gates = field(default_factory=Gates)
    p: float = 10.0
    sees_loss: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_lr(self.lr)
        if not 0 < self.p < math.inf:
            raise ConfigError(f"p of the preprocessing must be finite and > 0, got {self.p}")

    def init(self, params: Params) -> State:
        """Return the gates' states, all zero: one for each number in `params`, in their order."""
        count = sum(_numbers(p).numel() for p in params.values())
        return self.gates.start(next(iter(params.values()), torch.zeros(())), count)

    def update(self, params: Params, grads: Params, state: State, loss: Tensor | None = None) -> tuple[Params, State]:
        """Return the parameters and the gates' states after one step."""
        if loss is None:
            raise ConfigError("the rule MetaLSTM sees the loss of each step; call update(params, grads, state, loss)")
        scaled = {name: rate_of(self.lr, name) * grads[name] for name in params}
        theta, gradient = self._row(params), self._row(scaled)
        at_loss = preprocessed(loss.to(theta.dtype), self.p).unsqueeze(1).expand(2, len(theta))
        rate, decay, state = self.gates(torch.cat((preprocessed(gradient, self.p), at_loss)), theta, state)
        sizes = [_numbers(p).numel() for p in params.values()]
        gated = zip(params.items(), rate.split(sizes), decay.split(sizes), strict=True)
        return {name: _stepped(p, scaled[name], i, f) for (name, p), i, f in gated}, state

    def _row(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return all numbers of some tensors in a row, as the gates compute."""
        dtype = self.gates.bias.dtype
        return torch.cat([_numbers(t).reshape(-1).to(dtype) for t in tensors.values()])


def _stepped(p: Tensor, grad: Tensor, rate: Tensor, decay: Tensor) -> Tensor:
    numbers = _numbers(p)
    rate, decay = (gate.view(numbers.shape).to(numbers.dtype) for gate in (rate, decay))
    new = decay * numbers - rate * _numbers(grad)
    return torch.view_as_complex(new) if p.is_complex() else new


def _numbers(tensor: Tensor) -> Tensor:
    """Return a tensor of real numbers; a complex one is two."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
