"""The networks in JAX, with the weights of the PyTorch modules.

Images are `[n, height, width, channels]` here and kernels `[9 * channels, filters]` or `[3, 3, channels, filters]`:
the layouts that XLA's CPU code likes. The weights are converted once for each meta-step, outside the inner loop.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

Params = dict[str, Array]


def _patches(x: Array, kernel: Array) -> Array:
    """Convolve 3x3 with padding 1, as nine shifted copies times a matrix."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _conv(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _batch_norm(x: Array, scale: Array, shift: Array) -> Array:
    mean = x.mean((0, 1, 2))
    centred = x - mean
    var = (centred**2).mean((0, 1, 2))
    return centred * lax.rsqrt(var + 1e-3) * scale + shift


def _max_pool(x: Array) -> Array:
    n, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def conv4(settings: dict[str, Any], form: str) -> tuple[Callable[[Params], Params], Callable[[Params, Array], Array]]:
    """Return the conversion of the weights, and the network with `down="max"`, `pooled="flatten"`, `affine="both"`."""
    wanted = {"down": "max", "pooled": "flatten", "affine": "both"}
    if any(settings.get(name) != value for name, value in wanted.items()):
        raise NotImplementedError(f"the JAX worker has Conv4 with {wanted} only, got {settings}")
    convolve = _patches if form == "patches" else _conv
    side = settings.get("size", 28) // 16

    def convert(params: Params) -> Params:
        def one(name: str, p: Array) -> Array:
            if p.ndim == 4:
                return p.transpose(2, 3, 1, 0)
            if name == "head.weight":  # its columns count (channel, row, column); the maps are (row, column, channel)
                return p.reshape(len(p), -1, side, side).transpose(2, 3, 1, 0).reshape(-1, len(p))
            return p

        return {name: one(name, p) for name, p in params.items()}

    def apply(params: Params, x: Array) -> Array:
        for i in range(4):
            block = f"blocks.{i}"
            x = convolve(x, params[f"{block}.0.weight"]) + params[f"{block}.0.bias"]
            x = _batch_norm(x, params[f"{block}.1.weight"], params[f"{block}.1.bias"])
            x = _max_pool(jax.nn.relu(x))
        return x.reshape(len(x), -1) @ params["head.weight"] + params["head.bias"]

    return convert, apply


def mlp(settings: dict[str, Any]) -> tuple[Callable[[Params], Params], Callable[[Params, Array], Array]]:
    """Return the conversion of the weights (none), and the network with ReLU and no norm."""
    if settings.get("norm") or settings.get("activation", "relu") != "relu":
        raise NotImplementedError(f"the JAX worker has MLP with ReLU and without norm only, got {settings}")
    layers = [*(f"body.{2 * i}" for i in range(len(settings["hidden"]))), "head"]

    def apply(params: Params, x: Array) -> Array:
        for layer in layers:
            x = x @ params[f"{layer}.weight"].T + params[f"{layer}.bias"]
            x = x if layer == "head" else jax.nn.relu(x)
        return x

    return lambda params: params, apply
