"""A predictor as a plain network: no modes, no bound parameters, nothing but layers that any exporter knows."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastadapt.errors import CheckpointError
from fastadapt.layers.norm import batch_norm_layers
from fastadapt.predictor import Predictor


class _ByBatch(nn.Module):
    """Normalise by the batch's own moments, written out."""

    def __init__(self, layer: _BatchNorm) -> None:
        super().__init__()
        self.eps = layer.eps
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        dims = [0, *range(2, x.dim())]
        shape = [1, -1] + [1] * (x.dim() - 2)
        mean = x.mean(dims, keepdim=True)
        y = (x - mean) * torch.rsqrt((x - mean).square().mean(dims, keepdim=True) + self.eps)
        y = y if self.weight is None else y * self.weight.view(shape)
        return y if self.bias is None else y + self.bias.view(shape)


class Plain(nn.Module):
    """Answer like a predictor: probabilities `[n, ways]` for a classification, values otherwise.

    Args:
        model: the network, its batch norm settled.
        beside: the support samples that go along with the one query; None where queries go alone.
        classify: whether the network's outputs are logits.
    """

    def __init__(self, model: nn.Module, beside: Tensor | None, classify: bool) -> None:
        super().__init__()
        self.model = model
        self.beside: Tensor | None
        self.register_buffer("beside", beside)
        self.classify = classify

    def forward(self, x: Tensor) -> Tensor:
        """Return the answers for `x: [n, ...]`; beside the support `n` is 1."""
        output = self.model(x) if self.beside is None else self.model(torch.cat([self.beside, x]))[-1:]
        return output.softmax(-1) if self.classify else output


def as_plain(predictor: Predictor, example: Tensor) -> Plain:
    """Return a predictor as a plain network.

    The moments of the support set become the running moments of the layers, in evaluation mode.

    Args:
        predictor: in any mode but "transductive".
        example: `[1, ...]`, an input.

    Raises:
        CheckpointError: if its answers depend on one another, or a layer is called more than once.
    """
    model = copy.deepcopy(predictor.model).eval()
    layers = batch_norm_layers(model)
    classify = predictor.labels is not None
    if not layers or predictor.norm in ("running", "per_step"):
        return Plain(model, None, classify)
    if predictor.norm == "support+query":
        for name, layer in layers.items():
            model.set_submodule(name, _ByBatch(layer))
        return Plain(model, predictor.beside, classify)
    if predictor.norm != "support":
        raise CheckpointError(f"a predictor with norm={predictor.norm!r} can't be exported; adapt with norm='support'")
    called: list[nn.Module] = []
    hooks = [layer.register_forward_pre_hook(lambda module, _: called.append(module)) for layer in layers.values()]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    if len(called) != predictor.calls or len(set(map(id, called))) != len(called):
        raise CheckpointError("a network that calls a batch-norm layer more than once can't be exported")
    for i, layer in enumerate(called):
        layer.running_mean = getattr(predictor, f"support_mean_{i}").clone()
        layer.running_var = getattr(predictor, f"support_var_{i}").clone()
        setattr(layer, "track_running_stats", True)  # noqa: B010  (typed as a tensor by torch)
    return Plain(model, None, classify)
