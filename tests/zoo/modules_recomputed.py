"""Parts of a computation that run later than `forward`: in backward, in the loss, or when somebody asks for them."""

import math
import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Independent, Normal
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from zoo.elementary import affine
from zoo.modules_shared import Twice, twice
from zoo.specimen import Specimen, rows


class CheckpointedModule(Twice):
    def step(self, x):
        return torch.tanh(checkpoint(self.body, x, use_reentrant=False))


class CheckpointedMethod(Twice):
    def step(self, x):
        return checkpoint(self.block, x, use_reentrant=False)

    def block(self, x):
        return torch.tanh(self.body(x))


class CheckpointedLambda(Twice):
    def step(self, x):
        return checkpoint(lambda h: torch.tanh(self.body(h)), x, use_reentrant=False)


class CheckpointedTwice(Twice):
    """One checkpoint inside of another."""

    def forward(self, x):
        def both(x):
            return self.inner(self.inner(x))

        return self.out(checkpoint(both, x, use_reentrant=False))

    def inner(self, x):
        return checkpoint(self.step, x, use_reentrant=False)


class CheckpointedWhole(Twice):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


class CheckpointedSequence(Twice):
    def __init__(self):
        super().__init__()
        self.steps = [self.body, nn.Tanh(), self.body, nn.Tanh()]

    def forward(self, x):
        return self.out(checkpoint_sequential(self.steps, 2, x, use_reentrant=False))


class Reentrant(Twice):
    """torch refuses `autograd.grad` for this form."""

    def forward(self, x):
        with warnings.catch_warnings():  # torch tells when there is nothing to differentiate
            warnings.simplefilter("ignore")
            return self.out(checkpoint(self.step, self.step(x), use_reentrant=True))


class SavedOnHooks(Twice):
    """Keeps what it needs for backward elsewhere, as offloading to the CPU does."""

    def step(self, x):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (t,), lambda packed: packed[0]):
            return super().step(x)


class Later:
    """A density whose head runs when it is asked."""

    def __init__(self, net, x):
        self.net, self.x = net, x

    @property
    def mean(self):
        return self.net.out(self.net.step(self.net.step(self.x)))

    def log_prob(self, y):
        scale = self.net.log_scale.exp()
        return (-0.5 * ((y - self.mean) / scale).square() - scale.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def rsample(self, noise):
        return self.mean + self.net.log_scale.exp() * noise


class Scaled(Twice):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.3))


class LateDensity(Scaled):
    def forward(self, x):
        return Later(self, x)


class TorchDensity(Scaled):
    def forward(self, x):
        mean = super().forward(x)
        return Independent(Normal(mean, self.log_scale.exp().expand_as(mean)), 1)


def mean_and_scale(p, x):
    scale, w, b, v, c = p.values()
    return twice(dict(enumerate((w, b, v, c))), x), torch.exp(scale)


def gaussian(output, y):
    mean, scale = output
    return (((y - mean) / scale) ** 2 / 2 + torch.log(scale) + math.log(2 * math.pi) / 2).sum(-1).mean()


def sampled(output, noise):
    mean, scale = output
    return ((mean + scale * noise) ** 2).mean()


class LateFunction(Twice):
    """Returns a function of the targets."""

    def forward(self, x):
        return lambda y: (self.out(self.step(self.step(x))) - y).square().mean()


class Stages(Twice):
    """Yields what it has after each stage."""

    def forward(self, x):
        for _ in range(2):
            x = self.step(x)
            yield x
        yield self.out(x)


def last_stage(model, batch):
    *_, last = model(batch[0])
    return F.mse_loss(last, batch[1])


class Recomputing(torch.autograd.Function):
    """Run a layer without a graph, and once more in backward, by the values of its parameters then."""

    @staticmethod
    def forward(ctx, layer, x, *params):
        ctx.layer = layer
        ctx.save_for_backward(x, *params)
        with torch.no_grad():
            return torch.tanh(layer(x))

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = torch.tanh(ctx.layer(x))
            return None, *torch.autograd.grad(y, [x, *ctx.layer.parameters()], grad)


class SmoothlyRecomputing(Recomputing):
    """The same with a backward that can be differentiated."""

    @staticmethod
    def backward(ctx, grad):
        x = ctx.saved_tensors[0]
        with torch.enable_grad():
            y = torch.tanh(ctx.layer(x))
            g = grad * (1 - y * y)
            return None, g @ ctx.layer.weight, g.T @ x, g.sum(0)


class Adjoint(Twice):
    """Recomputes in backward as adjoint solvers do, by which it has no second derivative."""

    def step(self, x):
        return Recomputing.apply(self.body, x, *self.body.parameters())


class SmoothAdjoint(Twice):
    def step(self, x):
        return SmoothlyRecomputing.apply(self.body, x, *self.body.parameters())


class Equilibrium(nn.Module):
    """A fixed point whose gradient is solved for in a hook, as deep equilibrium models do."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def step(self, z, x):
        return 0.3 * torch.tanh(self.body(z) + x)

    def forward(self, x):
        with torch.no_grad():
            z = torch.zeros_like(x)
            for _ in range(60):
                z = self.step(z, x)
        z = self.step(z, x)
        if z.requires_grad:
            at = z.detach().requires_grad_()
            again = self.step(at, x)

            def solve(grad):
                g = grad
                for _ in range(60):
                    g = torch.autograd.grad(again, at, g, retain_graph=True)[0] + grad
                return g

            z.register_hook(solve)
        return self.out(z)


def equilibrium(p, x):
    w, b, v, c = p.values()
    z = torch.zeros_like(x)
    for _ in range(60):
        z = 0.3 * torch.tanh(affine(z, w, b) + x)
    return affine(z, v, c)


class Force(nn.Module):
    """The gradient of an energy by the inputs, as force fields and Hamiltonian networks have it."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 1, bias=False)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_() if not x.requires_grad else x
            energy = self.second(torch.tanh(self.first(x))).sum()
            return -torch.autograd.grad(energy, x, create_graph=True)[0]


def force(p, x):
    w, b, v = p.values()
    h = torch.tanh(affine(x, w, b))
    return -((1 - h * h) * v) @ w


same = [
    CheckpointedModule, CheckpointedMethod, CheckpointedLambda, CheckpointedTwice, CheckpointedWhole,
    CheckpointedSequence, SavedOnHooks, SmoothAdjoint,
]  # fmt: skip

ZOO = {
    **{kind.__name__: Specimen(kind, twice) for kind in same},
    "Reentrant": Specimen(Reentrant, twice, exact="either", first_order="either", says="use_reentrant"),
    "Adjoint": Specimen(
        Adjoint, twice, exact="refused", also=((3, "sgd", "first_order", "loop"), (7, "sgd", "exact", "loop"))
    ),
    "LateDensity": Specimen(
        LateDensity,
        mean_and_scale,
        loss=lambda model, batch: -model(batch[0]).log_prob(batch[1]).mean(),
        error=gaussian,
        answers=False,
    ),
    "LateSample": Specimen(
        LateDensity,
        mean_and_scale,
        loss=lambda model, batch: model(batch[0]).rsample(batch[1]).square().mean(),
        error=sampled,
        answers=False,
    ),
    "TorchDensity": Specimen(
        TorchDensity,
        mean_and_scale,
        loss=lambda model, batch: -model(batch[0]).log_prob(batch[1]).mean(),
        error=gaussian,
        answers=False,
    ),
    "LateFunction": Specimen(LateFunction, twice, loss=lambda model, batch: model(batch[0])(batch[1]), answers=False),
    "Stages": Specimen(Stages, twice, loss=last_stage, answers=False),
    "Equilibrium": Specimen(
        Equilibrium,
        equilibrium,
        exact="refused",
        also=((3, "sgd", "first_order", "loop"), (3, "adam", "first_order", "vmap"), (3, "sgd", "exact", "vmap")),
    ),
    "Force": Specimen(Force, force, targets=rows(3)),
}
