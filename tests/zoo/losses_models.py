"""Losses that use the model otherwise than by calling it, or hold something of their own."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from zoo.elementary import affine, length, log_softmax, softmax
from zoo.losses_outputs import answer, classes, cross_entropy, fit, mse, net, smoothed_cross_entropy
from zoo.specimen import Specimen


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 4), nn.Linear(2, 3)
        self.weight_of_kl = 0.5

    def encode(self, x):
        return self.encoder(x).chunk(2, -1)

    def decode(self, z):
        return torch.tanh(self.decoder(z))

    def forward(self, x):
        return self.decode(self.encode(x)[0])


def elbo_loss(model, batch):
    x, noise = batch
    mean, log_variance = model.encode(x)
    back = model.decode(mean + noise * (0.5 * log_variance).exp())
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1).mean()
    return F.mse_loss(back, x) + model.weight_of_kl * divergence


def elbo(p, batch):
    (x, noise), (w, b, v, c) = batch, p.values()
    code = affine(x, w, b)
    mean, spread = code[:, :2], torch.exp(code[:, 2:])
    back = torch.tanh(affine(mean + noise * spread.sqrt(), v, c))
    return ((back - x) ** 2).mean() + (mean**2 + spread - 1 - code[:, 2:]).sum(-1).mean() / 4


def decayed_loss(model, batch):
    return mse(model, batch) + 0.1 * sum(p.square().sum() for p in model.parameters())


def decayed(p, batch):
    return fit(p, batch) + sum((t * t).sum() for t in p.values()) / 10


def decayed_weights_loss(model, batch):
    return mse(model, batch) + 0.1 * sum(t.square().sum() for n, t in model.named_parameters() if "weight" in n)


def decayed_weights(p, batch):
    return fit(p, batch) + sum((t * t).sum() for n, t in p.items() if n.endswith("weight")) / 10


def orthogonal_loss(model, batch):
    w = model[0].weight
    return mse(model, batch) + 0.1 * (w @ w.T - torch.eye(4)).square().sum()


def orthogonal(p, batch):
    w = p["0.weight"]
    return fit(p, batch) + ((w @ w.T - torch.eye(4)) ** 2).sum() / 10


def item_loss(model, batch):
    h = model[1](model[0](batch[0]))
    return F.mse_loss(model[-1](h), batch[1]) + h.square().mean()


def item(p, batch):
    h = torch.tanh(affine(batch[0], p["0.weight"], p["0.bias"]))
    return fit(p, batch) + (h * h).mean()


def iterated_loss(model, batch):
    x, total = batch[0], 0.0
    for layer in model:
        x = layer(x)
        total = total + x.square().mean()
    return total + F.mse_loss(x, batch[1])


def iterated(p, batch):
    h = affine(batch[0], p["0.weight"], p["0.bias"])
    return fit(p, batch) + sum((t * t).mean() for t in (h, torch.tanh(h), answer(p, batch[0])))


def penalty_loss(model, batch):
    """Bound the slope by the inputs, as critics and sign-distance fields do."""
    x = batch[0].detach().requires_grad_()
    y = model(x)
    slope = torch.autograd.grad(y.sum(), x, create_graph=True)[0]
    return F.mse_loss(y, batch[1]) + 0.5 * (slope.norm(dim=-1) - 1).square().mean()


def slopes(p, x):
    """Return the Jacobian of each row, `[n, 2, 3]`."""
    w, b, v, _ = p.values()
    h = torch.tanh(affine(x, w, b))
    return torch.einsum("oh,nh,hi->noi", v, 1 - h * h, w)


def penalty(p, batch):
    return fit(p, batch) + ((length(slopes(p, batch[0]).sum(1)) - 1) ** 2).mean() / 2


def jacobian_loss(model, batch):
    jacobians = torch.func.vmap(torch.func.jacrev(model))(batch[0])
    return mse(model, batch) + jacobians.square().mean()


def jacobian(p, batch):
    return fit(p, batch) + (slopes(p, batch[0]) ** 2).mean()


def by_training_loss(model, batch):
    return mse(model, batch) * (3 if model.training else 1)


def as_dictionary(model, batch):
    output = model(batch[0])
    return {"loss": F.mse_loss(output, batch[1]), "output": output.detach(), "size": len(output)}


def as_pair(model, batch):
    output = model(batch[0])
    return F.mse_loss(output, batch[1]), {"output": output.detach()}


# ---- with something of their own -----------------------------------------------------------------


class Learned(nn.Module):
    """A loss whose weights are learned with the network: theirs is an exact meta-gradient, too."""

    def __init__(self):
        super().__init__()
        self.log_weights = nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, model, batch):
        return (self.log_weights.exp() * (model(batch[0]) - batch[1]).square()).mean()


def weighed(p, batch):
    return (torch.exp(p["log_weights"]) * (answer(p, batch[0]) - batch[1]) ** 2).mean()


class Critic(nn.Module):
    """A loss that is a network."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))

    def forward(self, model, batch):
        return self.layers(torch.cat([model(batch[0]), batch[1]], -1)).square().mean()


def judged(p, batch):
    w, b, v, c = list(p.values())[4:]
    y = affine(torch.tanh(affine(torch.cat([answer(p, batch[0]), batch[1]], -1), w, b)), v, c)
    return (y * y).mean()


def closing_over_a_parameter(_):
    temperature = nn.Parameter(torch.tensor(0.7))

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]) / temperature, batch[1])

    loss.temperature = temperature
    return loss


def tempered(p, batch):
    return cross_entropy(answer(p, batch[0]) / p["temperature"], batch[1])


def closing_over_the_net(model):
    return lambda _, batch: mse(model, batch)


def closing_over_a_layer(model):
    first = model[0]
    return lambda model, batch: mse(model, batch) + 0.1 * first.weight.square().sum()


def decayed_layer(p, batch):
    return fit(p, batch) + (p["0.weight"] ** 2).sum() / 10


def distilling(_):
    teacher = nn.Linear(3, 2)

    def loss(model, batch):
        with torch.no_grad():
            taught = teacher(batch[0]).softmax(-1)
        return F.kl_div(model(batch[0]).log_softmax(-1), taught, reduction="batchmean")

    loss.teacher = teacher
    return loss


def distilled(p, batch):
    taught = softmax(affine(batch[0], p["w"], p["b"])).detach()
    return (taught * (torch.log(taught) - log_softmax(answer(p, batch[0])))).sum(-1).mean()


def teacher_of(loss):
    # constants here: the loss takes them without a gradient
    return {"w": loss.teacher.weight.detach(), "b": loss.teacher.bias.detach()}


ZOO = {
    "elbo": Specimen(Autoencoder, loss=elbo_loss, objective=elbo, answers=False),
    "weight_decay": Specimen(net, answer, loss=decayed_loss, objective=decayed),
    "named_weight_decay": Specimen(net, answer, loss=decayed_weights_loss, objective=decayed_weights),
    "weight_of_an_item": Specimen(net, answer, loss=orthogonal_loss, objective=orthogonal),
    "items": Specimen(net, answer, loss=item_loss, objective=item),
    "iterated": Specimen(net, answer, loss=iterated_loss, objective=iterated),
    "gradient_penalty": Specimen(net, answer, loss=penalty_loss, objective=penalty),
    "jacobian": Specimen(net, answer, loss=jacobian_loss, objective=jacobian),
    "by_training": Specimen(
        net, answer, loss=by_training_loss, objective=lambda p, batch: 3 * fit(p, batch), judged=fit
    ),
    "dictionary": Specimen(net, answer, loss=as_dictionary),
    "pair": Specimen(net, answer, loss=as_pair),
    "nn.MSELoss": Specimen(net, answer, loss_of=lambda _: nn.MSELoss()),
    "nn.CrossEntropyLoss": Specimen(
        net,
        answer,
        targets=classes(),
        loss_of=lambda _: nn.CrossEntropyLoss(label_smoothing=0.1),
        error=smoothed_cross_entropy,
    ),
    "F.cross_entropy": Specimen(net, answer, targets=classes(), loss=F.cross_entropy, error=cross_entropy),
    "F.mse_loss": Specimen(net, answer, loss=F.mse_loss),
    "partial": Specimen(
        net,
        answer,
        targets=classes(),
        loss=functools.partial(F.cross_entropy, label_smoothing=0.1),
        error=smoothed_cross_entropy,
    ),
    "learned": Specimen(
        net,
        answer,
        loss_of=lambda _: Learned(),
        objective=weighed,
        extras=lambda loss: dict(loss.named_parameters()),
        displaced=False,
    ),
    "critic": Specimen(
        net,
        answer,
        loss_of=lambda _: Critic(),
        objective=judged,
        extras=lambda loss: dict(loss.named_parameters()),
        displaced=False,
    ),
    "parameter_in_closure": Specimen(
        net,
        answer,
        targets=classes(),
        loss_of=closing_over_a_parameter,
        objective=tempered,
        extras=lambda loss: {"temperature": loss.temperature},
        displaced=False,
    ),
    "net_in_closure": Specimen(net, answer, loss_of=closing_over_the_net),
    "layer_in_closure": Specimen(net, answer, loss_of=closing_over_a_layer, objective=decayed_layer),
    "distilled": Specimen(net, answer, loss_of=distilling, objective=distilled, extras=teacher_of),
}
