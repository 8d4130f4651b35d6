"""A controller with a memory of slots that it writes to where it was used least (MANN), or without one (an LSTM)."""

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError

State = dict[str, Tensor]
EMPTY = 1e-6
"""What stands in every slot before anything was written."""
_SMALLEST = 1e-24  # of a squared length, so that a slot of zeros has a direction


class Controller(nn.Module):
    r"""Step through a sequence with an LSTM that reads and writes slots, least recently used access (LRUA).

        h_t = LSTM(x_t; h_{t-1}, r_{t-1}),      k^i = tanh(W_k h_t),   a^i = tanh(W_a h_t),   s^i = sigmoid(w h_t)

    and then `lrua`, whose reading `r_t` stands beside `h_t` in the output.

    Args:
        inputs: numbers of an element.
        hidden: of the LSTM.
        slots: of the memory; None leaves it out, which is a plain LSTM.
        width: numbers of a slot.
        heads: that read and write, R; at most as many as slots.
        decay: of the usage of a slot.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> controller = Controller(3, hidden=5, slots=4, width=2, heads=2)
        >>> outputs, state = controller(torch.zeros(6, 3), controller.start(torch.zeros(())))
        >>> outputs.shape, state["slots"].shape
        (torch.Size([6, 9]), torch.Size([4, 2]))

    References:
        Santoro, Bartunov, Botvinick, Wierstra, Lillicrap 2016, Meta-Learning with Memory-Augmented Neural Networks
        (ICML).
    """

    def __init__(
        self,
        inputs: int,
        *,
        hidden: int = 200,
        slots: int | None = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
    ) -> None:
        super().__init__()
        if min(inputs, hidden, width, heads) < 1 or not 0 <= decay < 1 or (slots is not None and slots < heads):
            raise ConfigError(
                f"a controller needs inputs, hidden, width and heads >= 1, slots >= heads or None and decay in [0, 1), "
                f"got {inputs}, {hidden}, {width}, {heads}, {slots} and {decay}"
            )
        self.hidden, self.slots, self.width, self.heads, self.decay = hidden, slots, width, heads, decay
        self.recalled = 0 if slots is None else heads * width
        self.now = nn.Linear(inputs, 4 * hidden)
        self.again = nn.Linear(hidden + self.recalled, 4 * hidden, bias=False)
        self.access = None if slots is None else nn.Linear(hidden, heads * (2 * width + 1))
        for layer in (self.now, self.again, *([] if self.access is None else [self.access])):
            nn.init.xavier_uniform_(layer.weight)
        for layer in (self.now, *([] if self.access is None else [self.access])):
            nn.init.zeros_(layer.bias)

    @property
    def outputs(self) -> int:
        """Numbers of an output: those of the LSTM, and what is read of the memory."""
        return self.hidden + self.recalled

    def start(self, like: Tensor) -> State:
        """Return the state before a sequence, for each of a batch of the shape of `like`, on its device."""
        shape = like.shape
        state = {"hidden": like.new_zeros(*shape, self.hidden), "cell": like.new_zeros(*shape, self.hidden)}
        if self.slots is None:
            return state
        first = (torch.arange(self.slots, device=like.device) == 0).to(like.dtype)
        return {
            **state,
            "slots": like.new_full((*shape, self.slots, self.width), EMPTY),
            "reading": first.expand(*shape, self.heads, self.slots),
            "usage": first.expand(*shape, self.slots),
            "unused": least_used(first, self.heads).expand(*shape, self.heads, self.slots),
            "recalled": like.new_zeros(*shape, self.recalled),
        }

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Return the outputs for a sequence `[..., L, inputs]`, `[..., L, outputs]`, and the state after it."""
        outputs = []
        for element in self.now(x).unbind(-2):
            output, state = self._stepped(element, state)
            if self.slots is not None:
                state["unused"] = least_used(state["usage"], self.heads)
            outputs.append(output)
        return torch.stack(outputs, -2), state

    def step(self, x: Tensor, state: State) -> Tensor:
        """Return the output for one element `[..., inputs]` that comes next, `[..., outputs]`."""
        return self._stepped(self.now(x), state)[0]

    def _stepped(self, given: Tensor, state: State) -> tuple[Tensor, State]:
        """Return output and state for what the LSTM is given of an element."""
        known = [state["hidden"], *([] if self.slots is None else [state["recalled"]])]
        gates = given + self.again(torch.cat(known, -1))
        take, keep, show = gates[..., : 3 * self.hidden].sigmoid().chunk(3, -1)
        cell = keep * state["cell"] + take * gates[..., 3 * self.hidden :].tanh()
        hidden = show * cell.tanh()
        if self.access is None:
            return hidden, {"hidden": hidden, "cell": cell}
        wanted = self.access(hidden).unflatten(-1, (self.heads, -1))
        keys, adds = wanted[..., :-1].tanh().chunk(2, -1)
        access = {name: state[name] for name in ("slots", "reading", "usage", "unused")}
        access, recalled = lrua(access, keys, adds, wanted[..., -1:].sigmoid(), self.decay)
        recalled = recalled.flatten(-2)
        return torch.cat((hidden, recalled), -1), {**access, "hidden": hidden, "cell": cell, "recalled": recalled}


def lrua(access: State, keys: Tensor, adds: Tensor, gates: Tensor, decay: float) -> tuple[State, Tensor]:
    r"""Write to the slots that were read last or used least, and read those that are alike the keys.

        w_w^i = s^i w_r^i + (1 - s^i) w_lu^i,      M_lu = 0,      M <- M + sum_i w_w^i (a^i)^T
        w_r^i = softmax_j cos(k^i, M_j),      u <- gamma u + sum_i (w_r^i + w_w^i),      r^i = M^T w_r^i

    `w_lu^i` points to the i-th least used slot (the first of equal ones); the least used one is emptied.

    Args:
        access: "slots" M, `[..., S, W]`; "reading" `w_r`, `[..., R, S]`; "usage" u, `[..., S]`; "unused" `w_lu`, which
            is `least_used` of it, `[..., R, S]`.
        keys: k, `[..., R, W]`.
        adds: a, `[..., R, W]`.
        gates: s in (0, 1), `[..., R, 1]`.
        decay: gamma.

    Returns:
        `access` after it, without what was least used, and what was read, `[..., R, W]`.
    """
    unused = access["unused"]
    writing = gates * access["reading"] + (1 - gates) * unused
    slots = access["slots"] * (1 - unused[..., 0, :, None]) + writing.transpose(-1, -2) @ adds
    lengths = [(each.square().sum(-1) + _SMALLEST).sqrt() for each in (keys, slots)]
    alike = keys @ slots.transpose(-1, -2) / (lengths[0].unsqueeze(-1) * lengths[1].unsqueeze(-2))
    reading = alike.softmax(-1)
    usage = decay * access["usage"] + (reading + writing).detach().sum(-2)  # it only points: no gradient passes
    return {"slots": slots, "reading": reading, "usage": usage}, reading @ slots


def least_used(usage: Tensor, heads: int) -> Tensor:
    """Return a one-hot row for each of the `heads` slots with the least usage `[..., S]`, `[..., heads, S]`.

    Example:
        >>> least_used(torch.tensor([0.2, 0.9, 0.5]), 2)
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """
    order = usage.argsort(stable=True, dim=-1)[..., :heads, None]
    return (order == torch.arange(usage.shape[-1], device=usage.device)).to(usage.dtype)
