"""Modules that people really have: each must meta-train exactly, or say why it takes another route."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, MLP, SGD, Conv4, CrossEntropy, ResNet12, Task
from fastadapt.losses import MSE
from fastadapt.nets import WithContext
from reference import difference, grads_of, maml, sgd

pytestmark = pytest.mark.long


class Recurrent(nn.Module):
    def __init__(self, cell, **settings):
        super().__init__()
        self.cell = cell(3, 5, batch_first=True, **settings)
        self.head = nn.Linear(5, 2)

    def forward(self, x):  # [n, time, 3]
        return self.head(self.cell(x)[0][:, -1])


class Attention(nn.Module):
    attend = staticmethod(F.scaled_dot_product_attention)

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(3, 12)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        q, k, v = self.qkv(x).unsqueeze(1).chunk(3, -1)
        return self.head(self.attend(q, k, v).squeeze(1).mean(1))


class RawAttention(Attention):
    """Reaches the fused kernel by a way on which nothing can turn it off beforehand."""

    attend = staticmethod(torch.ops.aten.scaled_dot_product_attention)


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.layer(self.embed(x)).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder, self.head = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.decoder.weight = self.encoder.weight

    def forward(self, x):
        return self.head(torch.tanh(self.decoder(torch.tanh(self.encoder(x)))))


class Partial(nn.Module):
    """One parameter is frozen, one is never used, one is None."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.full((4,), 2.0), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))
        self.register_parameter("nothing", None)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)) * self.scale)


class Counting(nn.Module):
    """Writes what it sees to a buffer, which also enters its output."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        self.calls += 1
        self.seen.lerp_(x.mean(0), 0.5)
        return torch.tanh(self.layer(x - self.seen))


class Branching(nn.Module):
    """Looks at its data, which vmap can't."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        y = torch.tanh(self.layer(x))
        return y if y.sum().item() > 0 else 2 * y


class _OldSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class OldFunction(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return _OldSquare.apply(self.layer(x))


def flat(*layers):
    return nn.Sequential(nn.Linear(3, 4), *layers, nn.Linear(4, 2))


def maps(*layers):
    return nn.Sequential(nn.Conv2d(1, 4, 3), *layers, nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 2))


def parametrized():
    net = flat(nn.Tanh())
    nn.utils.parametrizations.weight_norm(net[0])
    return net


# name: (module, shape of one input, does it fall back to the loop)
ZOO = {
    "mlp": (lambda: MLP(3, (5,), 2, activation="tanh", init_std=None), (3,), False),
    "relu_mlp_with_norm": (lambda: MLP(3, (5,), 2, norm=True, init_std=None), (3,), False),
    "conv4_stride": (lambda: Conv4(1, 3, 2, size=16), (1, 16, 16), False),
    "conv4_max": (lambda: Conv4(1, 3, 2, size=16, down="max", affine="both", pooled="flatten"), (1, 16, 16), False),
    "conv4_max_same": (
        lambda: Conv4(1, 3, 2, size=18, down="max_same", affine="both", pooled="flatten"),
        (1, 18, 18),
        False,
    ),
    "resnet12": (lambda: ResNet12(1, 2, widths=(2, 2, 3, 3)), (1, 16, 16), False),
    "context": (lambda: WithContext(Conv4(3, 3, 2, size=16), 2), (1, 16, 16), False),
    "gru": (lambda: Recurrent(nn.GRU), (4, 3), True),
    "lstm": (lambda: Recurrent(nn.LSTM), (4, 3), True),
    "attention": (Attention, (4, 3), False),
    "raw_attention": (RawAttention, (4, 3), True),
    "transformer": (Transformer, (4, 3), False),
    "tied": (Tied, (3,), False),
    "no_dropout": (lambda: flat(nn.Dropout(0.0), nn.Tanh()), (3,), False),
    "partial": (Partial, (3,), False),
    "layer_norm": (lambda: flat(nn.LayerNorm(4), nn.Tanh()), (3,), False),
    "instance_norm": (lambda: maps(nn.InstanceNorm2d(4, affine=True)), (1, 8, 8), False),
    "group_norm": (lambda: maps(nn.GroupNorm(2, 4)), (1, 8, 8), False),
    "weight_norm": (parametrized, (3,), False),
    "counting": (Counting, (3,), True),
    "branching": (Branching, (3,), True),
    "old_function": (OldFunction, (3,), True),
}


def tasks(shape, count=3, dtype=torch.float64):
    def batch(n):
        return torch.randn(n, *shape, dtype=dtype), torch.arange(n) % 2

    return [Task(batch(4), batch(6)) for _ in range(count)]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("route", ["vmap", "loop"])
@pytest.mark.parametrize("name", ZOO)
def test_meta_gradient_equals_plain_autograd(name, route):
    build, shape, _ = ZOO[name]
    model, batch = build(), tasks(shape)
    losses, want = maml(model, CrossEntropy(), batch, sgd(0.2), 2)
    before = copy.deepcopy(model.state_dict())
    learner = MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route=route)
    outcome = learner(batch)
    outcome.loss.backward()
    torch.testing.assert_close(outcome.losses, losses)
    assert difference(grads_of(model), want) < 1e-8
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def assert_it_learns(learner, batch, steps):
    optimizer, losses = torch.optim.Adam(learner.parameters(), 0.02), []
    for _ in range(steps):
        optimizer.zero_grad()
        outcome = learner(batch)
        outcome.loss.backward()
        optimizer.step()
        losses.append(float(outcome.losses.detach().mean()))
    assert losses[-1] < losses[0]


LONG = ("resnet12", "conv4_max_same", "conv4_stride")


@pytest.mark.long
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in LONG else []) for n in ZOO])
def test_it_meta_trains_in_float32_and_says_once_why_it_takes_the_loop(name, told):
    build, shape, falls_back = ZOO[name]
    learner = MAML(build(), CrossEntropy(), rule=SGD(0.2), steps=2)
    batch = tasks(shape, dtype=torch.float32)
    assert_it_learns(learner, batch, 4)
    predict = learner.adapt(batch[0].support)
    torch.testing.assert_close(predict(batch[0].query[0]), learner.trace(batch).outputs[0][-1], rtol=1e-3, atol=1e-4)
    said = [line for line in told() if "in a loop" in line]
    assert len(said) == (1 if falls_back else 0), told()
    assert all(type(learner.model).__name__ in line for line in said)


@pytest.mark.parametrize("name", ["gru", "lstm", "attention", "raw_attention", "transformer"])
@pytest.mark.parametrize("route", ["auto", "vmap", "loop"])
def test_kernels_without_a_second_derivative_are_avoided_in_float32(name, route):
    build, shape, _ = ZOO[name]
    model, batch = build(), tasks(shape, dtype=torch.float32)
    _, want = maml(model, CrossEntropy(), batch, sgd(0.2), 2)
    MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route=route)(batch).loss.backward()
    assert difference(grads_of(model), want) < 1e-4


def test_fused_kernels_are_turned_off_only_where_they_fail_and_that_is_said_once(told):
    for model in (Attention(), RawAttention()):
        learner = MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route="loop")
        for _ in range(2):
            learner(tasks((4, 3), dtype=torch.float32))
        assert len([line for line in told() if "fused kernels are off" in line]) == isinstance(model, RawAttention)
    assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.mkldnn.enabled


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_an_unused_parameter_has_a_zero_gradient_and_a_frozen_one_none(route):
    model = Partial()
    MAML(model, CrossEntropy(), route=route)(tasks((3,), dtype=torch.float32)).loss.backward()
    assert torch.equal(model.unused.grad, torch.zeros(3))
    assert model.scale.grad is None


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_dropout_differs_between_tasks_in_training_and_is_off_in_evaluation(route, told):
    model = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5), nn.Linear(50, 2))
    learner = MAML(model, CrossEntropy(), rule=SGD(0.1), steps=1, route=route)
    [task] = tasks((3,), 1, dtype=torch.float32)
    losses = learner([task] * 4).losses
    assert len(set(losses.tolist())) == 4
    learner.eval()
    losses = learner([task] * 4).losses
    torch.testing.assert_close(losses, losses[:1].expand(4))
    learner.train()
    predict, x = learner.adapt(task.support), task.query[0]
    assert torch.equal(predict(x), predict(x))
    assert learner.training and model[1].training
    assert told() == []


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_dropout_uses_one_mask_for_a_value_and_its_gradient(route):
    """With zero inner steps the meta-gradient is that of the very loss that is reported."""
    model = nn.Sequential(nn.Linear(3, 6, bias=False), nn.Dropout(0.5), nn.Flatten(0))
    [task] = tasks((3,), 1, dtype=torch.float32)

    def total(model, batch):
        return model(batch[0]).sum()  # linear in the weights, so loss = <weights, gradient>

    outcome = MAML(model, total, steps=0, route=route)(task)
    outcome.loss.backward()
    torch.testing.assert_close((model[0].weight * model[0].weight.grad).sum(), outcome.loss)


def test_tied_weights_stay_tied_in_the_predictor():
    learner = MAML(Tied(), CrossEntropy(), rule=SGD(0.5), steps=3)
    [task] = tasks((3,), 1, dtype=torch.float32)
    adapted = learner.adapt(task.support).model
    assert adapted.encoder.weight is adapted.decoder.weight
    assert not torch.equal(adapted.encoder.weight, learner.model.encoder.weight)


def test_a_recurrent_learner_can_be_used_copied_and_called_after_training():
    learner = MAML(Recurrent(nn.LSTM), CrossEntropy(), rule=SGD(0.2), steps=2)
    batch = tasks((4, 3), dtype=torch.float32)
    learner(batch).loss.backward()
    x = batch[0].query[0]
    expected = copy.deepcopy(learner).model(x)
    torch.testing.assert_close(learner.model(x), expected)
    with torch.no_grad():
        learner.model.cell.weight_ih_l0.mul_(2)
    assert not torch.allclose(learner.model(x), expected)


def test_an_error_of_the_users_own_code_comes_through_unchanged():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            raise KeyError("a mistake of mine")

    for route in ("auto", "loop"):
        with pytest.raises(KeyError, match="a mistake of mine"):
            MAML(Broken(), CrossEntropy(), route=route)(tasks((3,), dtype=torch.float32))


@pytest.mark.long
@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("norm", ["support", "support+query", "running", "per_step"])
@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_conv4_meta_trains_with_each_batch_norm_mode(norm, route):
    batch = tasks((1, 16, 16), 2)
    learner = MAML(Conv4(1, 3, 2, size=16), CrossEntropy(), rule=SGD(0.2), steps=1, norm=norm, route=route)
    assert_it_learns(learner, batch, 3)


def test_a_model_without_parameters_to_adapt_in_its_inputs_still_regresses():
    learner = MAML(nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), MSE(), rule=SGD(0.1), steps=2)
    x = torch.randn(5, 2, 2)
    task = Task((x, x.sum((1, 2)).unsqueeze(1)), (x, x.sum((1, 2)).unsqueeze(1)))
    trace = learner.trace(task, steps=50)
    assert trace.losses[0, -1] < 0.2 * trace.losses[0, 0]
