"""One module or parameter that can be reached in several ways; every one of these computes the same function."""

import functools
import weakref

import torch
import torch.nn.functional as F
from torch import nn

from zoo.elementary import affine, log_softmax, softmax
from zoo.specimen import Specimen, rows


def twice(p, x):
    w, b, v, c = p.values()
    return affine(torch.tanh(affine(torch.tanh(affine(x, w, b)), w, b)), v, c)


class Twice(nn.Module):
    """A body that is applied twice, and a head."""

    def __init__(self):
        super().__init__()
        self.body, self.out = nn.Linear(3, 3), nn.Linear(3, 2)

    def step(self, x):
        return torch.tanh(self.body(x))

    def forward(self, x):
        return self.out(self.step(self.step(x)))


class Head(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body, self.out = body, nn.Linear(3, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.body(x)))


class TwoNames(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.head = Head(self.body)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)))


class ThreeNames(TwoNames):
    def __init__(self):
        super().__init__()
        self.again = self.body

    def forward(self, x):
        return self.head.out(torch.tanh(self.again(torch.tanh((self.body(x) + self.head.body(x)) / 2))))


class NestedAliases(nn.Module):
    """Modules whose parts are also registered elsewhere, each at another depth."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
        self.rest = nn.ModuleDict({"stem": self.stem, "first": self.stem[0]})
        self.tail = nn.Sequential(nn.Sequential(self.rest["first"], nn.Tanh()), nn.Linear(3, 2))

    def forward(self, x):
        return self.tail(self.rest["stem"](x))


class InList(Twice):
    def __init__(self):
        super().__init__()
        self.layers = [self.body, torch.tanh, self.body, torch.tanh, self.out]

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class InDict(Twice):
    def __init__(self):
        super().__init__()
        self.table = {"steps": (self.body,), "out": {"last": self.out}}

    def forward(self, x):
        for _ in range(2):
            x = torch.tanh(self.table["steps"][0](x))
        return self.table["out"]["last"](x)


class InClosure(Twice):
    def __init__(self):
        super().__init__()
        body = self.body
        self.step = lambda x: torch.tanh(body(x))


class BoundMethod(Twice):
    def __init__(self):
        super().__init__()
        self.apply_body = self.body.forward

    def step(self, x):
        return torch.tanh(self.apply_body(x))


class Partial(Twice):
    def __init__(self):
        super().__init__()
        self.step = functools.partial(self.scaled, 1.0)

    def scaled(self, scale, x):
        return torch.tanh(scale * self.body(x))


class PartialOfModule(Twice):
    def __init__(self):
        super().__init__()
        self.call = functools.partial(nn.Module.__call__, self.body)

    def step(self, x):
        return torch.tanh(self.call(x))


class Helper:
    """No module, but it holds one."""

    def __init__(self, body):
        self.body = body

    def __call__(self, x):
        return torch.tanh(self.body(x))


class InHelper(Twice):
    def __init__(self):
        super().__init__()
        self.step = Helper(self.body)


class Child(nn.Module):
    def __init__(self, parent):
        super().__init__()
        self.parent = [parent]

    def forward(self, x):
        return torch.tanh(self.parent[0].body(x))


class BackReference(Twice):
    """A child that asks its parent for its layers."""

    def __init__(self):
        super().__init__()
        self.child = Child(self)

    def step(self, x):
        return self.child(x)


class WeakReference(Twice):
    def __init__(self):
        super().__init__()
        self.held = [weakref.ref(self.body)]

    def step(self, x):
        return torch.tanh(self.held[0]()(x))


class ListedParameters(Twice):
    """As torch's RNN keeps `_flat_weights`."""

    def __init__(self):
        super().__init__()
        self.flat = [self.body.weight, self.body.bias]

    def step(self, x):
        return torch.tanh(F.linear(x, *self.flat))


class CachedParameter(Twice):
    def __init__(self):
        super().__init__()
        object.__setattr__(self, "cached", self.body.weight)

    def step(self, x):
        return torch.tanh(F.linear(x, self.cached, self.body.bias))


class ClosedOverParameters(Twice):
    def __init__(self):
        super().__init__()
        w, b = self.body.weight, self.body.bias
        self.step = lambda x: torch.tanh(x @ w.T + b)


class SecondName(Twice):
    """A parameter registered under two names, of which the second is used once."""

    def __init__(self):
        super().__init__()
        self.weight = self.body.weight

    def forward(self, x):
        return self.out(torch.tanh(F.linear(self.step(x), self.weight, self.body.bias)))


class RepeatedLayer(nn.Sequential):
    def __init__(self):
        body = nn.Linear(3, 3)
        super().__init__(body, nn.Tanh(), body, nn.Tanh(), nn.Linear(3, 2))


class TiedWeights(nn.Module):
    """Two layers with one weight, and biases of their own."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.head(torch.tanh(self.decoder(torch.tanh(self.encoder(x)))))


def tied_weights(p, x):
    w, b, c, v, d = p.values()
    return affine(torch.tanh(affine(torch.tanh(affine(x, w, b)), w, c)), v, d)


class TiedAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(3))
        self.encoder = nn.Linear(3, 4)

    def forward(self, x):
        return torch.tanh(self.encoder(x)) @ self.encoder.weight + self.shift


def tied_autoencoder(p, x):
    shift, w, b = p.values()
    return torch.tanh(affine(x, w, b)) @ w + shift


class TiedLanguageModel(nn.Module):
    """Its last layer is its embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.mix = nn.Embedding(5, 3), nn.Linear(3, 3)
        self.out = nn.Linear(3, 5)
        self.out.weight = self.embed.weight

    def forward(self, words):
        return self.out(torch.tanh(self.mix(self.embed(words).mean(1))))


def tied_language_model(p, words):
    e, w, b, c = p.values()
    return affine(torch.tanh(affine(e[words].mean(1), w, b)), e, c)


def words(n):
    return torch.randint(5, (n, 4))


def cross_entropy(output, y):
    return -(log_softmax(output) * y).sum(-1).mean()


def word_shares(n):
    return softmax(torch.randn(n, 5))


same = [
    TwoNames, ThreeNames, NestedAliases, RepeatedLayer, SecondName, InList, InDict, InHelper, BackReference,
    BoundMethod, Partial, PartialOfModule, ListedParameters, CachedParameter,
]  # fmt: skip
cannot_be_copied = [InClosure, WeakReference, ClosedOverParameters]
"""What `copy.deepcopy` of these refers to is the original; the answer of a predictor has to be right all the same."""

ZOO = {
    **{kind.__name__: Specimen(kind, twice) for kind in [*same, *cannot_be_copied]},
    "TiedWeights": Specimen(TiedWeights, tied_weights),
    "TiedAutoencoder": Specimen(TiedAutoencoder, tied_autoencoder, targets=rows(3)),
    "TiedLanguageModel": Specimen(
        TiedLanguageModel,
        tied_language_model,
        inputs=words,
        targets=word_shares,
        loss=lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]),
        error=cross_entropy,
    ),
}
