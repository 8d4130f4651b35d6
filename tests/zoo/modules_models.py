"""Architectures: what people build of layers and of parameters of their own."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from zoo.elementary import affine, length, relu, sigmoid, softmax
from zoo.specimen import Specimen, rows


class Listed(nn.Module):
    """Parameters in a list and in a dictionary."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(3, 3) / 2 for _ in range(2)])
        self.by_name = nn.ParameterDict({"out": torch.randn(3, 2), "shift": torch.randn(2)})

    def forward(self, x):
        for w in self.weights:
            x = torch.tanh(x @ w)
        return x @ self.by_name["out"] + self.by_name["shift"]


def listed(p, x):
    first, second, out, shift = p.values()
    return torch.tanh(torch.tanh(x @ first) @ second) @ out + shift


class Hypernetwork(nn.Module):
    """Its main layer's weights are the output of another network."""

    def __init__(self):
        super().__init__()
        self.code = nn.Parameter(torch.randn(2))
        self.generate, self.out = nn.Linear(2, 16), nn.Linear(4, 2)

    def forward(self, x):
        made = torch.tanh(self.generate(self.code))
        return self.out(torch.tanh(F.linear(x, made[:12].view(4, 3), made[12:])))


def hypernetwork(p, x):
    code, w, b, v, c = p.values()
    made = torch.tanh(w @ code + b)
    return affine(torch.tanh(x @ made[:12].reshape(4, 3).transpose(0, 1) + made[12:]), v, c)


class Modulated(nn.Module):
    """FiLM: one network scales and shifts the features of another."""

    def __init__(self):
        super().__init__()
        self.film, self.body, self.out = nn.Linear(1, 8), nn.Linear(2, 4), nn.Linear(4, 2)

    def forward(self, x):
        gamma, beta = self.film(x[:, :1]).chunk(2, -1)
        return self.out(torch.tanh((1 + gamma) * self.body(x[:, 1:]) + beta))


def modulated(p, x):
    a, d, w, b, v, c = p.values()
    film = affine(x[:, :1], a, d)
    return affine(torch.tanh((1 + film[:, :4]) * affine(x[:, 1:], w, b) + film[:, 4:]), v, c)


class Spectral(nn.Module):
    """A filter in frequency, as Fourier neural operators have it; its weights are pairs of reals."""

    def __init__(self):
        super().__init__()
        self.filter, self.out = nn.Parameter(torch.randn(2, 2)), nn.Linear(5, 2)

    def forward(self, x):
        spectrum = torch.fft.rfft(x)
        filtered = torch.cat([spectrum[:, :1], spectrum[:, 1:] * torch.view_as_complex(self.filter)], 1)
        return self.out(torch.tanh(torch.fft.irfft(filtered, n=5)))


def spectral(p, x):
    f, v, c = p.values()
    angle = 2 * math.pi * torch.arange(1.0, 3.0).unsqueeze(1) * torch.arange(5.0) / 5
    real, imaginary = x @ angle.cos().T, -x @ angle.sin().T
    real, imaginary = real * f[:, 0] - imaginary * f[:, 1], real * f[:, 1] + imaginary * f[:, 0]
    y = x.mean(1, keepdim=True) + 2 * (real @ angle.cos() - imaginary @ angle.sin()) / 5
    return affine(torch.tanh(y), v, c)


class Contracted(nn.Module):
    def __init__(self):
        super().__init__()
        self.core, self.rows = nn.Parameter(torch.randn(2, 3, 4) / 2), nn.Parameter(torch.randn(4, 3))

    def forward(self, x):
        return torch.einsum("ni,oij,nj->no", x, self.core, torch.tanh(torch.einsum("ni,ji->nj", x, self.rows)))


def contracted(p, x):
    core, around = p.values()
    h = torch.tanh(x @ around.T)
    return torch.stack([((x @ core[o]) * h).sum(-1) for o in range(2)], -1)


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(3, 3), nn.ModuleList(nn.Linear(3, 2) for _ in range(3))

    def forward(self, x):
        outputs = torch.stack([torch.tanh(expert(x)) for expert in self.experts], -1)
        return (outputs * self.gate(x).softmax(-1).unsqueeze(1)).sum(-1)


def experts(p, x):
    w, b, *each = p.values()
    share = softmax(affine(x, w, b))
    return sum(share[:, i : i + 1] * torch.tanh(affine(x, *each[2 * i : 2 * i + 2])) for i in range(3))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)) for _ in range(2))
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.out(x)


def residual(p, x):
    *w, v, c = p.values()
    for i in (0, 4):
        x = x + affine(relu(affine(x, w[i], w[i + 1])), w[i + 2], w[i + 3])
    return affine(x, v, c)


class FixedPoint(nn.Module):
    """Iterates one layer with a learned damping."""

    def __init__(self):
        super().__init__()
        self.damping = nn.Parameter(torch.tensor(0.2))
        self.body, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        z = torch.zeros_like(x)
        for _ in range(5):
            z = self.damping * z + (1 - self.damping) * torch.tanh(self.body(z) + x)
        return self.out(z)


def fixed_point(p, x):
    d, w, b, v, c = p.values()
    z = 0 * x
    for _ in range(5):
        z = d * z + (1 - d) * torch.tanh(affine(z, w, b) + x)
    return affine(z, v, c)


class Sine(nn.Module):
    """SIREN."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.sin(3 * self.second(torch.sin(3 * self.first(x)))))


def sine(p, x):
    w, b, u, a, v, c = p.values()
    return affine(torch.sin(3 * affine(torch.sin(3 * affine(x, w, b)), u, a)), v, c)


class Graph(nn.Module):
    """Two graph convolutions over a given dense adjacency."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2)
        edges = torch.tensor([[0.0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]) + torch.eye(4)
        self.register_buffer("links", edges / edges.sum(1, keepdim=True))

    def forward(self, x):  # [n, nodes, 2]
        return (self.links @ self.second(torch.tanh(self.links @ self.first(x)))).mean(1)


def graph(p, x):
    w, b, v, c, links = p.values()
    return (links @ affine(torch.tanh(links @ affine(x, w, b)), v, c)).mean(1)


class Coupling(nn.Module):
    """An affine coupling flow that gives the log-likelihood of its inputs."""

    def __init__(self):
        super().__init__()
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 2)) for _ in range(2))

    def forward(self, x):
        a, b, log_det = x[:, :1], x[:, 1:], 0
        for net in self.nets:
            scale, shift = net(a).chunk(2, -1)
            a, b, log_det = b * scale.exp() + shift, a, log_det + scale
        return -0.5 * (a.square() + b.square()) + log_det - math.log(2 * math.pi)


def coupling(p, x):
    w = list(p.values())
    a, b, total = x[:, :1], x[:, 1:], 0
    for i in (0, 4):
        made = affine(torch.tanh(affine(a, w[i], w[i + 1])), w[i + 2], w[i + 3])
        a, b, total = b * torch.exp(made[:, :1]) + made[:, 1:], a, total + made[:, :1]
    return -(a * a + b * b) / 2 + total - math.log(2 * math.pi)


class Spline(nn.Module):
    """Piecewise linear functions between learned heights, found by a search among the knots."""

    def __init__(self):
        super().__init__()
        self.heights, self.out = nn.Parameter(torch.randn(3, 9)), nn.Linear(3, 2)
        self.register_buffer("knots", torch.linspace(-4, 4, 9))

    def forward(self, x):
        at = torch.searchsorted(self.knots, x.clamp(-3.99, 3.99).contiguous()) - 1
        share = x.clamp(-3.99, 3.99) - self.knots[at]
        column = torch.arange(3).expand_as(at)
        return self.out((1 - share) * self.heights[column, at] + share * self.heights[column, at + 1])


def spline(p, x):
    heights, v, c, knots = p.values()
    hats = relu(1 - (x.clamp(-3.99, 3.99).unsqueeze(-1) - knots).abs())
    return affine((hats * heights).sum(-1), v, c)


class Flow(nn.Module):
    """A neural differential equation in four Runge-Kutta steps."""

    def __init__(self):
        super().__init__()
        self.field, self.out = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), nn.Linear(3, 2)

    def forward(self, x):
        def f(t, y):
            return self.field(torch.cat([y, torch.full_like(y[:, :1], t)], 1))

        for i in range(2):
            t, h = i / 2, 0.5
            a = f(t, x)
            b = f(t + h / 2, x + h / 2 * a)
            c = f(t + h / 2, x + h / 2 * b)
            x = x + h / 6 * (a + 2 * b + 2 * c + f(t + h, x + h * c))
        return self.out(x)


def flow(p, x):
    w, b, u, a, v, c = p.values()
    h = 0.5

    def slope(t, y):
        return affine(torch.tanh(y @ w[:, :3].T + t * w[:, 3] + b), u, a)

    for t in (0.0, 0.5):
        k = [slope(t, x)]
        for share in (0.5, 0.5, 1.0):
            k.append(slope(t + share * h, x + share * h * k[-1]))
        x = x + h * (k[0] / 6 + k[1] / 3 + k[2] / 3 + k[3] / 6)
    return affine(x, v, c)


class Kernel(nn.Module):
    """Kernel regression on learned points, by a linear solve."""

    def __init__(self):
        super().__init__()
        self.points, self.values = nn.Parameter(torch.randn(3, 3)), nn.Parameter(torch.randn(3, 2))
        self.log_width = nn.Parameter(torch.tensor(0.2))

    def near(self, a, b):
        return torch.exp(-(a.unsqueeze(1) - b).square().sum(-1) / self.log_width.exp())

    def forward(self, x):
        factor = torch.linalg.cholesky(self.near(self.points, self.points) + 0.5 * torch.eye(3, dtype=x.dtype))
        return self.near(x, self.points) @ torch.cholesky_solve(self.values, factor)


def kernel(p, x):
    points, values, width = p.values()

    def near(a, b):
        squares = (a * a).sum(-1, keepdim=True) + (b * b).sum(-1) - 2 * a @ b.T
        return torch.exp(-squares / torch.exp(width))

    return near(x, points) @ torch.linalg.inv(near(points, points) + torch.eye(3) / 2) @ values


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(4, 3, dtype=torch.complex128))
        self.shift = nn.Parameter(0.3 * torch.randn(4, dtype=torch.complex128))
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out((x.to(self.weight.dtype) @ self.weight.T + self.shift).abs())


def complex_(p, x):
    w, b, v, c = p.values()
    real, imaginary = affine(x, w.real, b.real), affine(x, w.imag, b.imag)
    return affine((real * real + imaginary * imaginary).sqrt(), v, c)


class Cosine(nn.Module):
    """A head of scaled cosines between features and class vectors."""

    def __init__(self):
        super().__init__()
        self.body, self.classes = nn.Linear(3, 4), nn.Parameter(torch.randn(2, 4))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        return self.scale * F.linear(F.normalize(self.body(x), dim=-1), F.normalize(self.classes, dim=-1))


def cosine(p, x):
    classes, scale, w, b = p.values()
    h = affine(x, w, b)
    return scale * (h / length(h)) @ (classes / length(classes)).T


class Highway(nn.Module):
    def __init__(self):
        super().__init__()
        self.way, self.gate, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, *, features):
        t = torch.sigmoid(self.gate(features))
        return {"prediction": self.out(t * torch.tanh(self.way(features)) + (1 - t) * features), "gate": t}


def highway(p, x):
    w, b, u, a, v, c = p.values()
    t = sigmoid(affine(x, u, a))
    return affine(t * torch.tanh(affine(x, w, b)) + (1 - t) * x, v, c)


ZOO = {
    "Listed": Specimen(Listed, listed),
    "Hypernetwork": Specimen(Hypernetwork, hypernetwork),
    "Modulated": Specimen(Modulated, modulated),
    "Spectral": Specimen(Spectral, spectral, rows(5)),
    "Contracted": Specimen(Contracted, contracted),
    "Experts": Specimen(Experts, experts),
    "Residual": Specimen(Residual, residual),
    "FixedPoint": Specimen(FixedPoint, fixed_point),
    "Sine": Specimen(Sine, sine),
    "Graph": Specimen(Graph, graph, rows(4, 2)),
    "Coupling": Specimen(
        Coupling, coupling, rows(2), loss=lambda model, batch: -model(batch[0]).mean(), error=lambda y, _: -y.mean()
    ),
    "Spline": Specimen(Spline, spline),
    "Flow": Specimen(Flow, flow),
    "Kernel": Specimen(Kernel, kernel),
    "Complex": Specimen(
        Complex,
        complex_,
        also=((7, "sgd", "exact", "loop"), (7, "adam", "exact", "loop"), (3, "adam", "exact", "vmap")),
    ),
    "Cosine": Specimen(Cosine, cosine),
    "Highway": Specimen(
        Highway,
        highway,
        loss=lambda model, batch: F.mse_loss(model(features=batch[0])["prediction"], batch[1]),
        answers=False,
    ),
}
