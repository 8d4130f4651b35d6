"""Losses that differentiate the network itself, whose exact meta-gradient is a third derivative through its norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastadapt import MAML, SGD, Execution, FirstOrder, Task, adapt
from fastadapt.layers import slopes

pytestmark = pytest.mark.usefixtures("double")


def normed(x, over, eps=1e-5):
    mean = x.mean(over, keepdim=True)
    return (x - mean) / ((x - mean).square().mean(over, keepdim=True) + eps).sqrt()


class Between(nn.Module):
    """A norm between two layers, by a kernel or written out by hand."""

    def __init__(self, norm, over=None, view=lambda h: h, run=lambda norm, h: norm(h)):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.norm, self.b = nn.Linear(4, 8), norm, nn.Linear(8, 2)
        self.over, self.view, self.run = over, view, run
        for p in norm.parameters():
            nn.init.uniform_(p, 0.5, 1.5)

    def forward(self, x):
        h = self.view(self.a(x))
        return self.b(self.run(self.norm, h).flatten(1).tanh())

    def by_hand(self, p, x):
        h = normed(self.view(x @ p["a.weight"].T + p["a.bias"]), self.over)
        if "norm.weight" in p:
            column = [*self.norm.weight.shape] if self.norm.weight.shape == h.shape[1:] else [-1] + [1] * (h.dim() - 2)
            h = h * p["norm.weight"].view(column) + p["norm.bias"].view(column)
        return h.flatten(1).tanh() @ p["b.weight"].T + p["b.bias"]


def maps(h):
    return h.unflatten(1, (2, 2, 2))


def rows(h):
    return h.unflatten(1, (2, 4))


class Called(nn.Module):
    """A norm by a function of torch that no layer calls."""

    def __init__(self, channels, call):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.call = call

    def forward(self, h):
        return self.call(h, self.weight, self.bias)


CALLED = {
    "torch.layer_norm": (8, (1,), lambda h, w, b: torch.layer_norm(input=h, normalized_shape=(8,), weight=w, bias=b)),
    "torch.native_layer_norm": (8, (1,), lambda h, w, b: torch.native_layer_norm(h, (8,), w, b, 1e-5)[0]),
    "torch.instance_norm": (2, (2,), lambda h, w, b: torch.instance_norm(h, w, b, None, None, True, 0.1, 1e-5, False)),
    "torch.batch_norm": (2, (0, 2), lambda h, w, b: torch.batch_norm(h, w, b, None, None, True, 0.1, 1e-5, False)),
    "torch.native_batch_norm": (
        2, (0, 2), lambda h, w, b: torch.native_batch_norm(h, w, b, None, None, True, 0.1, 1e-5)[0]
    ),
}  # fmt: skip


def checkpointed(norm, h):
    return checkpoint(norm, h, use_reentrant=False)


NORMS = {
    "layer": lambda: Between(nn.LayerNorm(8), (1,)),
    "layer of two axes": lambda: Between(nn.LayerNorm((2, 4)), (1, 2), rows),
    "layer without scale": lambda: Between(nn.LayerNorm(8, elementwise_affine=False), (1,)),
    "layer in a checkpoint": lambda: Between(nn.LayerNorm(8), (1,), run=checkpointed),
    "batch": lambda: Between(nn.BatchNorm1d(8), (0,)),
    "batch of maps": lambda: Between(nn.BatchNorm2d(2, affine=False), (0, 2, 3), maps),
    "instance": lambda: Between(nn.InstanceNorm1d(2, affine=True), (2,), rows),
    "instance that keeps moments": lambda: Between(nn.InstanceNorm2d(2, track_running_stats=True), (2, 3), maps),
}  # fmt: skip


def penalised(of):
    """Return the error of an output, and a penalty on its slope by the input, taken in one of several ways."""

    def by_autograd(f, x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(f(x).square().sum(), x, create_graph=True)[0].square().mean()

    def by_backward(f, x):
        x = x.detach().requires_grad_()
        torch.autograd.backward(f(x).square().sum(), inputs=[x], create_graph=True)
        return x.grad.square().mean()

    def by_func(f, x):
        return torch.func.grad(lambda x: f(x).square().sum())(x).square().mean()

    def by_jvp(f, x):
        return torch.func.jvp(f, (x,), (torch.ones_like(x),))[1].square().mean()

    return {"autograd": by_autograd, "backward": by_backward, "func": by_func, "jvp": by_jvp}[of]


def tasks(count=2):
    torch.manual_seed(1)
    return [Task((torch.randn(5, 4), torch.randn(5, 2)), (torch.randn(6, 4), torch.randn(6, 2))) for _ in range(count)]


def twin(net, batch, slope, first_order=False, rate=0.2):
    """Return the losses and the meta-gradient of one step, of the network written out."""
    theta = dict(net.named_parameters())

    def loss(p, batch):
        output = net.by_hand(p, batch[0])
        return F.mse_loss(output, batch[1]) + 0.3 * slope(lambda x: net.by_hand(p, x), batch[0])

    losses = []
    for task in batch:
        at = loss(theta, task.support)
        slopes = torch.autograd.grad(at, list(theta.values()), create_graph=True)
        slopes = [g.detach() for g in slopes] if first_order else slopes
        losses.append(loss({n: p - rate * g for (n, p), g in zip(theta.items(), slopes, strict=True)}, task.query))
    return torch.stack(losses), torch.autograd.grad(torch.stack(losses).mean(), list(theta.values()))


def held_to_its_twin(net, slope, **options):
    def loss(model, batch):
        return F.mse_loss(model(batch[0]), batch[1]) + 0.3 * slope(model, batch[0])

    batch = tasks()
    losses, want = twin(net, batch, slope, isinstance(options.get("meta_gradient"), FirstOrder))
    outcome = MAML(net, loss, rule=SGD(0.2), **options)(batch)
    outcome.loss.backward()
    torch.testing.assert_close(outcome.losses.detach(), losses.detach())
    for p, right in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, right)


@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_penalty_on_the_slope_is_differentiated_through_every_norm(norm, route):
    held_to_its_twin(NORMS[norm](), penalised("autograd"), route=route)


@pytest.mark.parametrize("route", ["loop", "vmap"])
@pytest.mark.parametrize("called", CALLED)
def test_functions_of_torch_that_no_layer_calls_are_too(called, route):
    channels, over, call = CALLED[called]
    view = (lambda h: h) if channels == 8 else rows
    held_to_its_twin(Between(Called(channels, call), over, view), penalised("autograd"), route=route)


def test_the_moments_that_a_norm_keeps_move_as_its_kernel_moves_them():
    x = torch.randn(5, 2, 3)
    for func, order in ((torch.batch_norm, "wbmv"), (torch.instance_norm, "wbmv"), (F.instance_norm, "mvwb")):
        kept = []
        for run in (func, lambda *given, func=func: slopes.replaced(func, given, {})):
            parts = {"w": torch.ones(2), "b": torch.zeros(2), "m": torch.zeros(2), "v": torch.ones(2)}
            y = run(x, *(parts[name] for name in order), True, 0.3, 1e-5, *([False] * (func is not F.instance_norm)))
            kept.append((y, parts["m"], parts["v"]))
        torch.testing.assert_close(kept[1], kept[0])


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
@pytest.mark.parametrize("norm", ["layer", "batch", "instance"])
@pytest.mark.parametrize("of", ["backward", "func", "jvp"])
def test_however_the_loss_takes_the_slope(of, norm):
    held_to_its_twin(NORMS[norm](), penalised(of), route="loop")


@pytest.mark.parametrize("norm", ["layer", "batch", "instance"])
@pytest.mark.parametrize("options", [
    {"route": Execution(route="loop", compile="trace")}, {"meta_gradient": FirstOrder(), "route": "vmap"},
    {"meta_gradient": FirstOrder(), "route": "loop"}, {"route": "auto"},
], ids=["trace", "first order of vmap", "first order", "auto"])  # fmt: skip
def test_on_every_further_route(options, norm):
    held_to_its_twin(NORMS[norm](), penalised("autograd"), **options)


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_inner_loop_in_the_users_hands(norm):
    net, batch, slope = NORMS[norm](), tasks(1), penalised("autograd")

    def loss(model, batch):
        return F.mse_loss(model(batch[0]), batch[1]) + 0.3 * slope(model, batch[0])

    _, want = twin(net, batch, slope)
    adapt(loss, net, batch[0].support, SGD(0.2), steps=1).loss(loss, batch[0].query).backward()
    for p, right in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, right)


def test_a_penalty_that_comes_later_is_met_under_vmap_too():
    net, batch, slope, weight = NORMS["layer"](), tasks(), penalised("func"), [0.0]

    def loss(model, batch):
        fit = F.mse_loss(model(batch[0]), batch[1])
        return fit + weight[0] * slope(model, batch[0]) if weight[0] else fit

    learner = MAML(net, loss, rule=SGD(0.2), route="vmap")
    learner(batch)
    weight[0] = 0.3
    learner(batch).loss.backward()
    for p, right in zip(net.parameters(), twin(net, batch, slope)[1], strict=True):
        torch.testing.assert_close(p.grad, right)


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.n, self.o = nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.Linear(8, 2)

    def forward(self, x):
        return self.o(self.n(self.c(x.view(-1, 1, 3, 3))).tanh().flatten(1))


def test_forward_mode_goes_through_convolutions_and_batch_norm_wherever_a_task_is_adapted():
    net = Maps()

    def loss(model, batch):
        return F.mse_loss(model(batch[0]), batch[1]) + penalised("jvp")(model, batch[0])

    torch.manual_seed(1)
    task = Task((torch.randn(4, 9), torch.randn(4, 2)), (torch.randn(5, 9), torch.randn(5, 2)))
    theta = dict(net.named_parameters())

    def written_out(p, x):
        patches = x.view(-1, 3, 3).unfold(1, 2, 1).unfold(2, 2, 1)
        h = torch.einsum("nijkl,fkl->nfij", patches, p["c.weight"][:, 0]) + p["c.bias"].view(-1, 1, 1)
        h = normed(h, (0, 2, 3)) * p["n.weight"].view(-1, 1, 1) + p["n.bias"].view(-1, 1, 1)
        return h.tanh().flatten(1) @ p["o.weight"].T + p["o.bias"]

    def twin_loss(p, batch):
        slope = penalised("jvp")(lambda x: written_out(p, x), batch[0])
        return F.mse_loss(written_out(p, batch[0]), batch[1]) + slope

    slopes = torch.autograd.grad(twin_loss(theta, task.support), list(theta.values()), create_graph=True)
    phi = {n: p - 0.2 * g for (n, p), g in zip(theta.items(), slopes, strict=True)}
    want = torch.autograd.grad(twin_loss(phi, task.query), list(theta.values()))
    learner = MAML(net, loss, rule=SGD(0.2))
    adapted = dict(learner.adapt(task.support).model.named_parameters())
    for name, p in phi.items():
        torch.testing.assert_close(adapted[name].detach(), p.detach())
    adapt(loss, net, task.support, SGD(0.2), steps=1).loss(loss, task.query).backward()
    for p, right in zip(net.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, right)


def test_an_ordinary_loss_stays_on_the_kernels(monkeypatch):
    from fastadapt.layers import slopes

    monkeypatch.setattr(slopes, "_standardised", lambda *_: pytest.fail("written out"))
    for norm in NORMS:
        if not norm.startswith("batch"):
            MAML(NORMS[norm](), nn.MSELoss(), rule=SGD(0.2), route="loop")(tasks())
