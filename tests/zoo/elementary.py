"""Layers written out in elementary operations, for the twins."""

import itertools
import math

import torch
from torch.nn.functional import pad


def affine(x, w, b=None):
    y = x @ w.transpose(0, 1)
    return y if b is None else y + b


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def softplus(x):
    return torch.log(1 + torch.exp(x))


def relu(x):
    return x * (x > 0)


def gelu(x):
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def log_softmax(x):
    return x - torch.log(torch.exp(x).sum(-1, keepdim=True))


def softmax(x):
    e = torch.exp(x)
    return e / e.sum(-1, keepdim=True)


def length(x):
    return (x * x).sum(-1, keepdim=True).sqrt()


def standardised(x, axes, eps=1e-5):
    centred = x - x.mean(axes, keepdim=True)
    return centred / ((centred * centred).mean(axes, keepdim=True) + eps).sqrt()


def per_channel(v, x):
    return v.reshape(1, -1, *[1] * (x.dim() - 2))


def convolved(x, w, b=None, stride=1, padding=0, dilation=1, groups=1):
    """Return the convolution of `x: [n, C, ...]` of any dimension, a sum over the places of the kernel."""
    dims, kernel = x.dim() - 2, w.shape[2:]
    x = pad(x, (padding,) * (2 * dims))
    sizes = [(x.shape[2 + i] - dilation * (kernel[i] - 1) - 1) // stride + 1 for i in range(dims)]
    ins, outs, y = x.shape[1] // groups, w.shape[0] // groups, 0
    for place in itertools.product(*map(range, kernel)):
        cut = [
            slice(o * dilation, o * dilation + stride * (s - 1) + 1, stride) for o, s in zip(place, sizes, strict=True)
        ]
        part, at = x[(..., *cut)], w[(slice(None), slice(None), *place)]
        parts = [
            torch.einsum("nc...,oc->no...", part[:, g * ins : (g + 1) * ins], at[g * outs : (g + 1) * outs])
            for g in range(groups)
        ]
        y = y + torch.cat(parts, 1)
    return y if b is None else y + per_channel(b, y)


def transposed(x, w, b, stride):
    """Return the transposed convolution of `x: [n, C, t]` with `w: [C, O, k]`, one output place at a time."""
    steps, kernel = x.shape[-1], w.shape[-1]
    places = []
    for t in range((steps - 1) * stride + kernel):
        reach = [(i, t - i * stride) for i in range(steps) if 0 <= t - i * stride < kernel]
        # between the kernels of a long stride there is nothing
        parts = [x[:, :, i] @ w[:, :, k] for i, k in reach] or [0 * x[:, :, 0] @ w[:, :, 0]]
        places.append(sum(parts) + b)
    return torch.stack(places, -1)


def attended(q, k, v, heads, hidden=None):
    """Return attention of `[n, t, d]` in several heads, and the mean of the heads' weights; `hidden` is left out."""
    size = q.shape[-1] // heads
    outs, weights = [], []
    for h in range(heads):
        cut = slice(h * size, (h + 1) * size)
        scores = q[..., cut] @ k[..., cut].transpose(-1, -2) / math.sqrt(size)
        e = torch.exp(scores) if hidden is None else torch.exp(scores) * ~hidden
        a = e / e.sum(-1, keepdim=True)
        outs.append(a @ v[..., cut])
        weights.append(a)
    return torch.cat(outs, -1), sum(weights) / heads
