"""Losses of a model's outputs, each beside its formula written out."""

import functools
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MSE, CrossEntropy
from zoo.elementary import affine, length, log_softmax, sigmoid, softmax, softplus
from zoo.specimen import Specimen, rows


def net(outputs=2, bias=True):
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs, bias))


def differing():
    """Return the network for losses of differences alone, which have no gradient by a last bias."""
    return net(bias=False)


def answer(p, x):
    w, b, v, *c = list(p.values())[:4]
    return affine(torch.tanh(affine(x, w, b)), v, *c)


def fit(p, batch):
    d = answer(p, batch[0]) - batch[1]
    return (d * d).mean()


def mse(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def of_outputs(loss, error, targets=None, outputs=2, **more):
    """Return the specimen of `loss(output, y)`."""
    return Specimen(
        lambda: net(outputs),
        answer,
        targets=targets or rows(outputs),
        loss=lambda model, batch: loss(model(batch[0]), batch[1]),
        error=error,
        **more,
    )


def classes(count=2):
    return lambda n: torch.arange(n) % count


def shares(n):
    return softmax(torch.randn(n, 2))


def picked(z, y):
    return z.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def cross_entropy(z, y):
    return -picked(log_softmax(z), y).mean()


def smoothed_cross_entropy(z, y, share=0.1):
    return (1 - share) * cross_entropy(z, y) - share * log_softmax(z).mean(-1).mean()


def weighted_cross_entropy(z, y):
    weight = torch.tensor([1.0, 3.0])[y]
    return -(weight * picked(log_softmax(z), y)).sum() / weight.sum()


def shared_cross_entropy(z, y):
    return -(y * log_softmax(z)).sum(-1).mean()


def binary(z, y):
    return -(3 * y * torch.log(sigmoid(z)) + (1 - y) * torch.log(1 - sigmoid(z))).mean()


def focal(z, y):
    own = torch.exp(picked(log_softmax(z), y))
    return -((1 - own) ** 2 * torch.log(own)).mean()


def focal_loss(z, y):
    ce = F.cross_entropy(z, y, reduction="none")
    return ((1 - (-ce).exp()).square() * ce).mean()


def huber(z, y, delta):
    d = (z - y).abs()
    return torch.where(d < delta, d * d / 2, delta * (d - delta / 2)).mean()


def gaussian(z, y):
    variance = softplus(z[:, 1:])
    return (torch.log(variance) + (z[:, :1] - y) ** 2 / variance).mean() / 2


def cosine_distance(z, y):
    # torch adds 1e-12 to the squares
    lengths = ((z * z).sum(-1) + 1e-12).sqrt() * ((y * y).sum(-1) + 1e-12).sqrt()
    return (1 - (z * y).sum(-1) / lengths).mean()


def margin(z, y):
    """Torch's hinge between classes: over the wrong ones, divided by their number."""
    behind = 1 - picked(z, y).unsqueeze(-1) + z
    wrong = torch.arange(z.shape[-1]) != y.unsqueeze(-1)
    return (behind * (behind > 0) * wrong).sum(-1).mean() / z.shape[-1]


def soft_margin(z, y):
    return torch.log(1 + torch.exp(-z * y)).mean()


def signs(n):
    return 2.0 * (torch.arange(2 * n).view(n, 2) % 2) - 1


# ---- of several inputs ---------------------------------------------------------------------------


def triple(n):
    return torch.randn(n, 3), torch.randn(n, 3), torch.randn(n, 3)


def triplet_loss(model, batch):
    anchor, near, far = (model(x) for x in batch[0])
    return F.triplet_margin_loss(anchor, near, far, margin=5.0)


def triplet(p, batch):
    anchor, near, far = (answer(p, x) for x in batch[0])
    # torch adds 1e-6 to every difference
    behind = 5 + length(anchor - near + 1e-6) - length(anchor - far + 1e-6)
    return (behind * (behind > 0)).mean()


def ranking_loss(model, batch):
    first, second, _ = (model(x)[:, 0] for x in batch[0])
    return F.margin_ranking_loss(first, second, torch.ones_like(first), margin=4.0)


def ranking(p, batch):
    first, second, _ = (answer(p, x)[:, 0] for x in batch[0])
    behind = 4 - first + second
    return (behind * (behind > 0)).mean()


def contrastive_loss(model, batch):
    a, b, _ = (F.normalize(model(x), dim=-1) for x in batch[0])
    return F.cross_entropy(a @ b.T / 0.5, torch.arange(len(a)))


def contrastive(p, batch):
    a, b, _ = (answer(p, x) for x in batch[0])
    return -log_softmax((a / length(a)) @ (b / length(b)).T * 2).diagonal().mean()


def consistency_loss(model, batch):
    """Calls the model twice, the second time on what it said."""
    x, y = batch
    first = model(x)
    return F.mse_loss(first, y) + F.mse_loss(model(x + F.pad(first, (0, 1))), first)


def consistency(p, batch):
    x, y = batch
    first = answer(p, x)
    second = answer(p, x + torch.cat([first, torch.zeros(len(x), 1)], -1))
    return ((first - y) ** 2).mean() + ((second - first) ** 2).mean()


WORDS = torch.tensor([[1, 2], [1, 1], [2, 1], [2, 0]])
LENGTHS = torch.tensor([2, 1, 2, 1])


def connectionist_loss(model, batch):
    x, _ = batch
    n = len(x)
    spoken = torch.full((n,), 4)
    return F.ctc_loss(model(x).log_softmax(-1).transpose(0, 1), WORDS[:n], spoken, LENGTHS[:n])


def connectionist(p, batch):
    """Sum over every path of 4 symbols that collapses to the word."""
    spoken = log_softmax(answer(p, batch[0]))
    total = 0
    for heard, word, size in zip(spoken, WORDS.tolist(), LENGTHS.tolist(), strict=False):
        paths = []
        for path in itertools.product(range(3), repeat=4):
            if [symbol for symbol, _ in itertools.groupby(path) if symbol] == word[:size]:
                paths.append(torch.exp(sum(heard[t, symbol] for t, symbol in enumerate(path))))
        total = total - torch.log(sum(paths)) / size
    return total / len(spoken)


ZOO = {
    "MSE": Specimen(net, answer, loss=MSE()),
    "CrossEntropy": Specimen(net, answer, targets=classes(), loss=CrossEntropy(), error=cross_entropy),
    "mse": of_outputs(F.mse_loss, lambda z, y: ((z - y) ** 2).mean()),
    "l1": of_outputs(F.l1_loss, lambda z, y: (z - y).abs().mean()),
    "smooth_l1": of_outputs(functools.partial(F.smooth_l1_loss, beta=0.5), lambda z, y: huber(z, y, 0.5) / 0.5),
    "huber": of_outputs(functools.partial(F.huber_loss, delta=0.7), lambda z, y: huber(z, y, 0.7)),
    "log_cosh": of_outputs(lambda z, y: (z - y).cosh().log().mean(), lambda z, y: torch.log(torch.cosh(z - y)).mean()),
    "cross_entropy": of_outputs(F.cross_entropy, cross_entropy, classes()),
    "label_smoothing": of_outputs(
        functools.partial(F.cross_entropy, label_smoothing=0.1), smoothed_cross_entropy, classes()
    ),
    "class_weights": of_outputs(
        lambda z, y: F.cross_entropy(z, y, weight=torch.tensor([1.0, 3.0], dtype=z.dtype)),
        weighted_cross_entropy,
        classes(),
    ),
    "class_shares": of_outputs(F.cross_entropy, shared_cross_entropy, shares),
    "focal": of_outputs(focal_loss, focal, classes()),
    "binary": of_outputs(
        lambda z, y: F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(3.0)), binary, shares
    ),
    "nll": of_outputs(lambda z, y: F.nll_loss(F.log_softmax(z, -1), y), cross_entropy, classes()),
    "gaussian_nll": of_outputs(lambda z, y: F.gaussian_nll_loss(z[:, :1], y, F.softplus(z[:, 1:])), gaussian, rows(1)),
    "poisson_nll": of_outputs(F.poisson_nll_loss, lambda z, y: (torch.exp(z) - y * z).mean(), shares),
    "kl": of_outputs(
        lambda z, y: F.kl_div(F.log_softmax(z, -1), y, reduction="batchmean"),
        lambda z, y: (y * (torch.log(y) - log_softmax(z))).sum(-1).mean(),
        shares,
    ),
    "cosine": of_outputs(lambda z, y: F.cosine_embedding_loss(z, y, torch.ones(len(z))), cosine_distance),
    "margin": of_outputs(F.multi_margin_loss, margin, classes(), outputs=3, exact="either"),
    "soft_margin": of_outputs(F.soft_margin_loss, soft_margin, signs),
    "triplet": Specimen(differing, inputs=triple, loss=triplet_loss, objective=triplet, answers=False),
    "ranking": Specimen(differing, inputs=triple, loss=ranking_loss, objective=ranking, answers=False),
    "contrastive": Specimen(net, inputs=triple, loss=contrastive_loss, objective=contrastive, answers=False),
    "consistency": Specimen(net, answer, loss=consistency_loss, objective=consistency),
    "ctc": Specimen(
        lambda: net(3),
        answer,
        inputs=rows(4, 3),
        loss=connectionist_loss,
        objective=connectionist,
        exact="refused",
        also=((3, "sgd", "first_order", "loop"), (3, "adam", "first_order", "vmap")),
    ),
}
