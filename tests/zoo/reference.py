"""The inner loop and its gradients, written out over plain functions of tensors: no module, no binding, no torch.func.

`objective(p, batch)` is a scalar computed from a dictionary of tensors. Nothing here, nor in the twins that it is
given, is shared with the library, so that a fault of the library can't stand on both sides of a comparison.
"""

import torch


def sgd(lr):
    return lambda p, g, memory: p - lr * g


def adam(lr, beta1, beta2, eps=1e-8):
    def step(p, g, memory):
        if p.is_complex():  # two real numbers each, as torch.optim.Adam has it
            moved = step(torch.view_as_real(p), torch.view_as_real(g.resolve_conj()), memory)
            return torch.view_as_complex(moved)
        memory["t"] = memory.get("t", 0) + 1
        memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
        memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g * g
        m, v = memory["m"] / (1 - beta1 ** memory["t"]), memory["v"] / (1 - beta2 ** memory["t"])
        # the root has an infinite slope at 0, where nothing moves
        root = torch.where(v > 0, torch.where(v > 0, v, 1.0).sqrt(), 0.0)
        return p - lr * m / (root + eps)

    return step


def gradients(value, leaves, create_graph):
    grads = torch.autograd.grad(value, list(leaves.values()), create_graph=create_graph, allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(leaves.items(), grads, strict=True)}


def descend(objective, theta, names, batch, step, steps, first_order=False):
    """Return `[theta^0, ..., theta^k]`; the parameters called `names` move."""
    path, memory = [dict(theta)], {name: {} for name in names}
    for _ in range(steps):
        at = path[-1]
        grads = gradients(objective(at, batch), {n: at[n] for n in names}, create_graph=not first_order)
        if first_order:
            grads = {n: g.detach() for n, g in grads.items()}
        path.append({**at, **{n: step(at[n], grads[n], memory[n]) for n in names}})
    return path


def maml(objective, theta, names, wrt, tasks, step, steps, *, first_order=False, inner=None):
    """Return `(losses [T], {name: meta-gradient})`, the gradient by each tensor of `wrt`."""
    losses = []
    for task in tasks:
        end = descend(inner or objective, theta, names, task.support, step, steps, first_order)[-1]
        losses.append(objective(end, task.query))
    losses = torch.stack(losses)
    return losses.detach(), gradients(losses.mean(), wrt, create_graph=False)


def reptile(objective, theta, names, tasks, step, steps):
    """Return theta less the mean of where the tasks lead."""
    ends = [descend(objective, theta, names, task.support, step, steps, first_order=True)[-1] for task in tasks]
    return {n: (theta[n] - sum(end[n] for end in ends) / len(ends)).detach() for n in names}


def traced(objective, theta, names, tasks, step, steps):
    """Return the query losses after 0..k inner steps, `[T, k+1]`."""
    rows = []
    for task in tasks:
        path = descend(objective, theta, names, task.support, step, steps, first_order=True)
        rows.append(torch.stack([objective(at, task.query).detach() for at in path]))
    return torch.stack(rows)


def norm(tensor):
    return tensor.detach().abs().square().sum().sqrt().item()


def error(got, want):
    """Return the largest relative error of a tensor; one that is tiny among the others is taken relative to them."""
    assert set(got) == set(want), set(got) ^ set(want)
    got = {n: value if value is None else value.detach().to_dense() for n, value in got.items()}
    lost = [name for name, value in got.items() if value is None or not value.isfinite().all()]
    assert not lost, f"no finite value for {lost}"
    whole = max(sum(norm(w) ** 2 for w in want.values()) ** 0.5, 1e-30)
    return max(norm(got[n] - want[n]) / max(norm(want[n]), 1e-3 * whole) for n in want)
