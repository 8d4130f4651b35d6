"""Meta-gradients written out in plain autograd, with nothing of the library in them: what its numbers are held to."""

import contextlib
import warnings
from unittest.mock import patch

import torch
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel


def sgd(lr):
    return lambda p, g, memory: p - lr * g


def decayed(lr, decay):
    def step(p, g, memory):
        memory["t"] = memory.get("t", -1) + 1
        return p - lr / (1 + memory["t"] * decay) * g

    return step


def momentum(lr, mu, nesterov=False):
    def step(p, g, memory):
        memory["m"] = mu * memory.get("m", 0) + g
        return p - lr * (g + mu * memory["m"] if nesterov else memory["m"])

    return step


def adam(lr, beta1, beta2=0.999, eps=1e-8):
    def step(p, g, memory):
        memory["t"] = memory.get("t", 0) + 1
        memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
        memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g * g
        m, v = memory["m"] / (1 - beta1 ** memory["t"]), memory["v"] / (1 - beta2 ** memory["t"])
        return p - lr * m / (v.sqrt() + eps)

    return step


def clipped(grads, max_norm):
    norm = torch.cat([g.flatten() for g in grads]).norm()
    return [g * (max_norm / norm) for g in grads] if norm > max_norm else grads


def fresh_buffers(model):
    return {name: b.clone() for name, b in model.named_buffers()}


def adapted(
    model, loss, theta, support, step, steps, *, first_order=False, names=None, max_norm=None, buffers=fresh_buffers
):
    """Return theta after `steps` inner steps; `step(p, g, memory)` moves one parameter."""
    names = list(theta) if names is None else list(names)
    phi, memory = dict(theta), {name: {} for name in names}
    for _ in range(steps):
        value = loss(lambda *x, phi=phi: functional_call(model, {**phi, **buffers(model)}, x), support)
        grads = torch.autograd.grad(value, [phi[n] for n in names], create_graph=not first_order, allow_unused=True)
        grads = [torch.zeros_like(phi[n]) if g is None else g for n, g in zip(names, grads, strict=True)]
        grads = grads if max_norm is None else clipped(grads, max_norm)
        phi = {**phi, **{n: step(phi[n], g, memory[n]) for n, g in zip(names, grads, strict=True)}}
    return phi


def batch_norm(x, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """By the textbook; torch's own has no second derivative without a scale."""
    axes, shape = [d for d in range(x.dim()) if d != 1], [1, -1] + [1] * (x.dim() - 2)
    centred = x - x.mean(axes, keepdim=True)
    y = centred / (centred.square().mean(axes, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight.view(shape)
    return y if bias is None else y + bias.view(shape)


def weight_norm(v, g, dim=0):
    """By the textbook; the second derivative of torch's own is wrong."""
    axes = [d for d in range(v.dim()) if d != dim]
    return g * v / v.square().sum(axes, keepdim=True).sqrt()


@contextlib.contextmanager
def kernels_with_second_derivatives():
    with (
        sdpa_kernel(SDPBackend.MATH),
        patch("torch.nn.functional.batch_norm", batch_norm),
        patch("torch._weight_norm", weight_norm),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # torch warns of its own default for another device
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def maml(model, loss, tasks, step, steps, *, rates=None, inner_loss=None, **options):
    """Return `(losses [T], {name: meta-gradient})`; `rates` gives each task its own `step`."""
    start = {n: p.detach().clone().requires_grad_(p.requires_grad) for n, p in model.named_parameters()}
    leaves = {n: p for n, p in start.items() if p.requires_grad}
    options.setdefault("names", list(leaves))
    losses = []
    with kernels_with_second_derivatives():
        for i, task in enumerate(tasks):
            move = step if rates is None else step(rates[i])
            phi = adapted(model, inner_loss or loss, start, task.support, move, steps, **options)
            losses.append(
                loss(lambda *x, phi=phi: functional_call(model, {**phi, **fresh_buffers(model)}, x), task.query)
            )
        grads = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()), allow_unused=True)
    pairs = zip(leaves.items(), grads, strict=True)
    return torch.stack(losses).detach(), {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}


def grads_of(module):
    """Return the `.grad` of every trainable parameter by name."""
    return {n: p.grad for n, p in module.named_parameters() if p.requires_grad}


def difference(got, want):
    """Return the relative Euclidean distance between two dictionaries of tensors."""
    assert set(got) == set(want), set(got) ^ set(want)
    far = sum((got[n] - want[n]).square().sum().item() for n in want) ** 0.5
    return far / max(sum(w.square().sum().item() for w in want.values()) ** 0.5, 1e-30)
