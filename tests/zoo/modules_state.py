"""Modules that keep something on themselves, are hooked or parametrized, or are partly frozen."""

import warnings

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from zoo.elementary import affine, sigmoid, softplus
from zoo.modules_shared import Twice, twice
from zoo.specimen import Specimen


def plain():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def two_layers(p, x):
    w, b, v, c = p.values()
    return affine(torch.tanh(affine(x, w, b)), v, c)


class KeepsFeatures(Twice):
    def step(self, x):
        self.features = torch.tanh(self.body(x))
        return self.features


class AppendsFeatures(Twice):
    def __init__(self):
        super().__init__()
        self.seen, self.by_name = [], {}

    def step(self, x):
        self.seen.append(torch.tanh(self.body(x)))
        self.by_name["last"] = self.seen[-1]
        return self.by_name["last"]


class RemembersOutputs(Twice):
    """Keeps what the hook of a layer sees."""

    def __init__(self):
        super().__init__()
        self.caught = {}
        self.body.register_forward_hook(lambda layer, args, output: self.caught.update(body=output))

    def step(self, x):
        self.body(x)
        return torch.tanh(self.caught["body"])


class ExtraState(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.facts = {"scale": 0.5}

    def get_extra_state(self):
        return dict(self.facts)

    def set_extra_state(self, state):
        self.facts = dict(state)

    def forward(self, x):
        return self.facts["scale"] * torch.tanh(self.layer(x))


def extra_state(p, x):
    return torch.tanh(affine(x, *p.values())) / 2


class Counting(nn.Module):
    """Writes to its buffers, in place and by a new tensor; what a call writes ends with it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("seen", torch.full((3,), 0.5))
        self.register_buffer("calls", torch.ones(()))

    def forward(self, x):
        self.seen.lerp_(x.mean(0), 0.5)
        self.calls = self.calls + 1
        return torch.tanh(self.layer(x - self.seen)) / self.calls


def counting(p, x):
    w, b, seen, calls = p.values()
    return torch.tanh(affine(x - (seen + x.mean(0)) / 2, w, b)) / (calls + 1)


class Branching(nn.Module):
    """Looks at its data, and repeats itself until it is satisfied."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        y = torch.tanh(self.layer(x))
        y = y if y.sum().item() > 0 else 2 * y
        while y.abs().max().item() > 0.7:
            y = 0.8 * torch.tanh(self.layer(y))
        return self.out(y)


def branching(p, x):
    w, b, v, c = p.values()
    y = torch.tanh(affine(x, w, b))
    y = y if float(y.detach().sum()) > 0 else 2 * y
    while float(y.detach().abs().max()) > 0.7:
        y = 0.8 * torch.tanh(affine(y, w, b))
    return affine(y, v, c)


class Unused(nn.Module):
    """One parameter is never used, one is a scalar, one is None, one is frozen."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Parameter(torch.full((2,), 2.0), requires_grad=False)
        self.register_parameter("nothing", None)
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return torch.tanh(self.scale * self.layer(x)) * self.frozen


def unused(p, x):
    scale, _, frozen, w, b = p.values()
    return torch.tanh(scale * affine(x, w, b)) * frozen


def hooked():
    net = plain()
    net[0].register_forward_pre_hook(lambda layer, args: (2 * args[0],))
    net[0].register_forward_hook(lambda layer, args, output: output + args[0].mean(-1, keepdim=True))
    net.register_forward_hook(lambda layer, args, kwargs, output: 3 * output, with_kwargs=True)
    return net


def hooks(p, x):
    w, b, v, c = p.values()
    return 3 * affine(torch.tanh(affine(2 * x, w, b) + 2 * x.mean(-1, keepdim=True)), v, c)


def reparametrized(change, layer=0):
    def build():
        net = plain()
        with warnings.catch_warnings():  # torch advises against its old forms
            warnings.simplefilter("ignore", FutureWarning)
            change(net[layer])
        return net

    return build


def rescaled(g, v):
    return g * v / (v * v).sum(1, keepdim=True).sqrt()


def weight_norm(p, x):
    b, g, v, w, c = p.values()
    return affine(torch.tanh(affine(x, rescaled(g, v), b)), w, c)


def spectral_norm(p, x):
    b, w, v, c, left, right = p.values()
    return affine(torch.tanh(affine(x, w / (left @ w @ right), b)), v, c)


def orthogonal():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    parametrizations.orthogonal(net[0], orthogonal_map="cayley", use_trivialization=False)
    return net


def cayley(p, x):
    b, w, v, c = p.values()
    a, one = w.tril() - w.tril().transpose(0, 1), torch.eye(3)
    return affine(torch.tanh(affine(x, torch.linalg.inv(one - a / 2) @ (one + a / 2), b)), v, c)


class Positive(nn.Module):
    def forward(self, x):
        return torch.nn.functional.softplus(x)


def positive(p, x):
    b, w, v, c = p.values()
    return affine(torch.tanh(affine(x, softplus(w), b)), v, c)


def pruned(p, x):
    b, w, v, c, mask = p.values()
    return affine(torch.tanh(affine(x, w * mask, b)), v, c)


class Reverse(torch.autograd.Function):
    """Pass values on and turn gradients round, as adversarial domain adaptation does."""

    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -grad


class Reversed(Twice):
    def forward(self, x):
        return self.out(Reverse.apply(self.step(self.step(x))))


def reversed_(p, x):
    w, b, v, c = p.values()
    h = torch.tanh(affine(torch.tanh(affine(x, w, b)), w, b))
    return affine(2 * h.detach() - h, v, c)


class StraightThrough(Twice):
    def step(self, x):
        soft = torch.sigmoid(self.body(x))
        return soft + (soft.round() - soft).detach()


def straight_through(p, x):
    w, b, v, c = p.values()
    for _ in range(2):
        soft = sigmoid(affine(x, w, b))
        x = (soft > 0.5).to(soft.dtype).detach() + (soft - soft.detach())
    return affine(x, v, c)


class ByTraining(Twice):
    """Another function in evaluation."""

    def step(self, x):
        return super().step(x) * (2 if self.training else 1)


def in_training(p, x):
    w, b, v, c = p.values()
    for _ in range(2):
        x = 2 * torch.tanh(affine(x, w, b))
    return affine(x, v, c)


class Adapter(nn.Module):
    """A low-rank update of a frozen layer."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(3, 2).requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(2, 2))

    def forward(self, x):
        return torch.tanh(self.base(x) + x @ self.down.T @ self.up.T)


def adapter(p, x):
    down, up, w, b = p.values()
    return torch.tanh(affine(x, w, b) + affine(affine(x, down), up))


def fit(twin, batch, p):
    difference = twin(p, batch[0]) - batch[1]
    return (difference * difference).mean()


def frozen():
    net = plain()
    net[0].requires_grad_(False)
    return net


same = [KeepsFeatures, AppendsFeatures, RemembersOutputs]
ZOO = {
    **{kind.__name__: Specimen(kind, twice) for kind in same},
    "ExtraState": Specimen(ExtraState, extra_state),
    "Counting": Specimen(Counting, counting),
    "Branching": Specimen(Branching, branching),
    "Unused": Specimen(Unused, unused),
    "Hooks": Specimen(hooked, hooks),
    "WeightNorm": Specimen(reparametrized(parametrizations.weight_norm), weight_norm),
    "OldWeightNorm": Specimen(reparametrized(nn.utils.weight_norm), weight_norm),
    "SpectralNorm": Specimen(lambda: reparametrized(parametrizations.spectral_norm)().eval(), spectral_norm),
    "OldSpectralNorm": Specimen(lambda: reparametrized(nn.utils.spectral_norm)().eval(), spectral_norm),
    "Orthogonal": Specimen(orthogonal, cayley),
    "Positive": Specimen(
        reparametrized(lambda layer: parametrize.register_parametrization(layer, "weight", Positive())), positive
    ),
    "Pruned": Specimen(reparametrized(lambda layer: prune.l1_unstructured(layer, "weight", 5)), pruned),
    "Reversed": Specimen(Reversed, reversed_),
    "StraightThrough": Specimen(StraightThrough, straight_through),
    "ByTraining": Specimen(
        ByTraining,
        twice,
        objective=lambda p, batch: fit(in_training, batch, p),
        judged=lambda p, batch: fit(twice, batch, p),
    ),
    "Adapter": Specimen(Adapter, adapter),
    "FrozenBefore": Specimen(frozen, two_layers),
    "FrozenAfter": Specimen(plain, two_layers, after=lambda net: net[0].requires_grad_(False)),
    "ThawedAfter": Specimen(frozen, two_layers, after=lambda net: net[0].requires_grad_(True)),
    "HeadAlone": Specimen(plain, two_layers, settings={"adapt": "head"}, moves=lambda name: name.startswith("2.")),
}
