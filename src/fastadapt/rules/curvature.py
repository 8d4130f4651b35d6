r"""Meta-Curvature: inner gradients that learned matrices transform (Park & Oliva 2019).

    theta' = theta - alpha M(g)

For the kernel of a convolution the gradient is taken as a block with three modes, outputs, inputs and places in the
kernel, and each is multiplied by a square matrix: `M(g) = g x_1 M_o x_2 M_i x_3 M_f`. For a matrix it is
`M_o g M_i^T`, and the numbers of a vector, such as a bias, are each multiplied by one.

References:
    Park, Oliva 2019, Meta-Curvature (arXiv:1902.03356).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fastadapt.errors import ConfigError
from fastadapt.rules.rules import Params, Rate, moved
from fastadapt.selection import Selection, select

LARGEST = 4096
"""The longest mode that gets a matrix; one of this size takes 64 MiB in float32."""


def curvature(model: nn.Module, adapt: Selection = "all", leave_out: Selection = ()) -> dict[str, tuple[Tensor, ...]]:
    """Return the learned matrices of every parameter that adapts, all the identity: what `MetaCurvature` takes.

    A kernel `[out, in, *sizes]` of any dimension, grouped or transposed, gets three; a matrix two; a vector or a single
    number gets as many factors as it has numbers, all 1.

    Args:
        model: the network whose trainable parameters adapt.
        adapt: which of them do, as the learner is told.
        leave_out: parameters that get none, so that their gradients stay as they are: patterns over names, as in
            `fastadapt.select`.

    Raises:
        ConfigError: if a mode is too long for a matrix.
        SelectionError: if a pattern matches no parameter.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 5))
        >>> {name: [tuple(m.shape) for m in row] for name, row in curvature(net, leave_out="2.*").items()}
        {'0.weight': [(2, 2), (1, 1), (9, 9)], '0.bias': [(2,)], '2.weight': [], '2.bias': []}
    """
    left = set(select(model, leave_out)) if callable(leave_out) or leave_out else set()
    own = dict(model.named_parameters())
    return {name: () if name in left else _identities(name, own[name]) for name in select(model, adapt)}


def _identities(name: str, p: Tensor) -> tuple[Tensor, ...]:
    options: dict[str, Any] = {"dtype": p.dtype.to_real(), "device": p.device}
    if p.dim() < 2:
        return (nn.Parameter(torch.ones(p.shape, **options)),)
    modes = _modes(p).shape
    if max(modes) > LARGEST:
        raise ConfigError(
            f"the parameter {name!r} of shape {tuple(p.shape)} would need a matrix of {max(modes)} by {max(modes)}, "
            f"above {LARGEST}; leave it out, curvature(model, leave_out={name!r})"
        )
    return tuple(nn.Parameter(torch.eye(n, **options)) for n in modes)


@dataclass(frozen=True)
class MetaCurvature:
    r"""Transform every gradient by learned matrices before another rule takes it.

    The matrices are meta-parameters of the learner that the rule is given to. While they are the identity it is the
    other rule. `MetaCurvature(SGD(0.1), curvature(net))`, at a fixed rate, is MC1 of the paper; with a rate for each
    tensor that is learned too, `SGD(learned_rates(net, 0.1, per="tensor"))`, it is MC2 as far as that can be told: the
    public code has none of the matrices.

    Args:
        rule: the rule that takes the transformed gradient.
        matrices: by the parameter's name, as `curvature` gives them; `()` leaves a gradient as it is.

    Raises:
        ConfigError: at a step, if a parameter has no entry or matrices of other sizes.

    Example:
        >>> from fastadapt import SGD
        >>> rule = MetaCurvature(SGD(1.0), {"w": (2 * torch.eye(2), torch.eye(2))})
        >>> rule.update({"w": torch.zeros(2, 2)}, {"w": torch.ones(2, 2)}, rule.init({}))[0]["w"]
        tensor([[-2., -2.],
                [-2., -2.]])

    References:
        Park, Oliva 2019 (arXiv:1902.03356).
    """

    rule: Any
    matrices: Mapping[str, tuple[Tensor, ...]]
    sees_loss: ClassVar[bool] = True

    def __repr__(self) -> str:
        words = {_word(m) for row in self.matrices.values() for m in row}
        return f"MetaCurvature(rule={self.rule!r}, matrices={'|'.join(sorted(words)) or 'none'})"

    @property
    def lr(self) -> Rate:
        """The learning rate of the other rule."""
        return self.rule.lr

    def init(self, params: Params) -> Any:
        """Return the state of the other rule."""
        return self.rule.init(params)

    def update(self, params: Params, grads: Params, state: Any, loss: Tensor | None = None) -> tuple[Params, Any]:
        """Return the other rule's step on the transformed gradient."""
        return moved(self.rule, params, {name: self._curved(name, grads[name]) for name in params}, state, loss)

    def _curved(self, name: str, grad: Tensor) -> Tensor:
        if name not in self.matrices:
            raise ConfigError(
                f"the rule MetaCurvature has no matrices for {name!r}; make them of a model in which it is trainable, "
                "curvature(model), or give it () to leave its gradient as it is"
            )
        matrices = self.matrices[name]
        wanted = [tuple(grad.shape)] if grad.dim() < 2 else [(n, n) for n in _modes(grad).shape]
        given = [tuple(m.shape) for m in matrices]
        if given and given != wanted:
            raise ConfigError(
                f"the matrices of {name!r} have the shapes {given}, and a gradient of shape {tuple(grad.shape)} takes "
                f"{wanted}"
            )
        if grad.is_complex():  # the matrices are real
            return torch.complex(curved(grad.real, matrices), curved(grad.imag, matrices))
        return curved(grad, matrices)


def curved(grad: Tensor, matrices: tuple[Tensor, ...]) -> Tensor:
    """Return a gradient with each of its modes multiplied by a matrix, or with its numbers multiplied by factors.

    Args:
        grad: a kernel `[out, in, *sizes]`, a matrix, a vector or a number.
        matrices: square ones for outputs, inputs and, of a kernel, places; or factors of the gradient's shape; or none.
    """
    if not matrices:
        return grad
    if grad.dim() < 2:
        return matrices[0] * grad
    block = _modes(grad)
    for mode, matrix in enumerate(matrices):
        front = block.movedim(mode, 0)
        block = (matrix @ front.flatten(1)).view(front.shape).movedim(0, mode)
    return block.reshape(grad.shape)


def _modes(tensor: Tensor) -> Tensor:
    """Return a matrix as it is, and a kernel with its places in a row."""
    return tensor.flatten(2) if tensor.dim() > 2 else tensor


def _word(matrix: Any) -> str:
    return ("learned" if matrix.requires_grad else "constant") if isinstance(matrix, Tensor) else repr(matrix)
