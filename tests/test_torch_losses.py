"""Losses as torch has them, and what a loss may return."""

import functools
from collections import OrderedDict, namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MSE, CrossEntropy
from fastadapt.errors import ConfigError, TaskError
from fastadapt.judging.loss_values import called, value_of
from fastadapt.losses import OnOutput, ScaledMSE, as_loss

NET = nn.Linear(3, 2)
X, Y, LABELS = torch.randn(6, 3), torch.rand(6, 2), torch.arange(6) % 2
WEIGHT = torch.tensor([0.3, 0.7])
OF_TWO_TENSORS = {
    "mse": (nn.MSELoss(), Y),
    "mse function": (F.mse_loss, Y),
    "huber": (nn.HuberLoss(delta=0.3), Y),
    "l1": (F.l1_loss, Y),
    "cross-entropy": (nn.CrossEntropyLoss(label_smoothing=0.1), LABELS),
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHT), LABELS),
    "cross-entropy function": (F.cross_entropy, LABELS),
    "partial": (functools.partial(F.cross_entropy, label_smoothing=0.2), LABELS),
    "logits": (F.binary_cross_entropy_with_logits, Y),
    "divergence": (nn.KLDivLoss(reduction="batchmean"), Y),
    "made in C++": (torch.dist, Y),
}


@pytest.mark.parametrize("name", OF_TWO_TENSORS)
def test_a_loss_of_torch_is_applied_to_the_output_and_the_targets(name):
    criterion, y = OF_TWO_TENSORS[name]
    loss = as_loss(criterion)
    assert isinstance(loss, OnOutput)
    torch.testing.assert_close(loss(NET, (X, y)), criterion(NET(X), y))
    assert as_loss(loss) is loss


def test_they_report_what_ours_report():
    for criterion in (nn.CrossEntropyLoss(), F.cross_entropy, functools.partial(F.cross_entropy, label_smoothing=0.1)):
        loss = as_loss(criterion)
        assert loss.metrics(NET(X), (X, LABELS)) == CrossEntropy().metrics(NET(X), (X, LABELS))
        assert loss.higher_is_better
    for criterion in (nn.MSELoss(), F.mse_loss):
        loss = as_loss(criterion)
        assert loss.metrics(NET(X), (X, Y)) == MSE().metrics(NET(X), (X, Y))
        assert not loss.higher_is_better
    assert as_loss(nn.L1Loss()).metrics(NET(X), (X, Y)) == {}
    ignoring = as_loss(functools.partial(F.cross_entropy, ignore_index=1))
    output = torch.tensor([[2.0, 1.0], [2.0, 1.0]])
    assert ignoring.metrics(output, (None, torch.tensor([0, 1]))) == {"accuracy": 1.0}


def test_what_takes_a_model_and_a_batch_stays_as_it_is():
    class Learned(nn.Module):
        def forward(self, model, batch):
            return model(batch[0]).sum()

    class OwnCrossEntropy(nn.CrossEntropyLoss):
        def forward(self, model, batch):
            return super().forward(model(batch[0]), batch[1])

    class Plain:
        def __call__(self, model, batch):
            return model(batch[0]).sum()

    for loss in (
        MSE(), CrossEntropy(), ScaledMSE(2.0), Learned(), OwnCrossEntropy(), Plain(), lambda m, b: m(b[0]).sum(),
        lambda *given: given[0](X).sum(), functools.partial(lambda scale, m, b: scale, 2.0),
    ):  # fmt: skip
        assert as_loss(loss) is loss
    assert as_loss(None) == MSE()


def test_losses_of_others_in_the_manner_of_torch_are_known_by_their_arguments():
    class Dice(nn.Module):
        def __init__(self):
            super().__init__()
            self.smooth = nn.Parameter(torch.ones(()))

        def forward(self, pred, target):
            return (pred - target).square().sum() / (self.smooth + target.sum())

    def mean_absolute_error(y_pred, y_true, power=1):
        return (y_pred - y_true).abs().pow(power).mean()

    dice = Dice()
    for criterion in (dice, mean_absolute_error):
        torch.testing.assert_close(as_loss(criterion)(NET, (X, Y)), criterion(NET(X), Y))
    holder = nn.Module()
    holder.loss = as_loss(dice)
    assert [p is dice.smooth for p in holder.parameters()] == [True]  # it learns with its learner


def test_the_weights_of_a_loss_move_with_its_holder():
    holder = nn.Module()
    holder.loss = as_loss(nn.CrossEntropyLoss(weight=WEIGHT))
    assert holder.double().loss.criterion.weight.dtype == torch.float64
    assert list(holder.state_dict()) == ["loss.criterion.weight"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (nn.MSELoss, r"loss=MSELoss is a class, .* write MSELoss\(\)"),
        ("mse", r"loss='mse' is a str .* write a function loss\(model, batch\)"),
        (3, "loss=3 is a int"),
        (nn.CTCLoss(), r"takes 4 arguments \(log_probs, targets, input_lengths, target_lengths\)"),
        (nn.TripletMarginLoss(), r"3 arguments \(anchor, positive, negative\)"),
        (F.gaussian_nll_loss, r"3 arguments \(input, target, var\)"),
    ],
)
def test_what_is_no_loss_is_refused_with_what_to_write(given, words):
    with pytest.raises(ConfigError, match=words) as caught:
        as_loss(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("criterion", [nn.MSELoss(), F.mse_loss, F.l1_loss, nn.SmoothL1Loss(), nn.HuberLoss()])
def test_targets_of_another_shape_are_not_broadcast(criterion):
    with pytest.raises(TaskError, match=r"output has shape \(6, 2\) and the targets have \(6,\)"):
        as_loss(criterion)(NET, (X, Y[:, 0]))


def test_a_batch_or_an_output_that_does_not_fit_is_told():
    with pytest.raises(TaskError, match=r"MSELoss\(reduction='mean'\) takes a batch \(x, y\), got dict; write"):
        as_loss(nn.MSELoss())(NET, {"x": X, "y": Y})
    with pytest.raises(TaskError, match=r"applied to \(model\(x\), y\), and the model returned a dict instead"):
        as_loss(nn.MSELoss())(lambda x: {"logits": x}, (X, Y))


def test_a_loss_is_called_by_its_name_and_settings():
    names = [called(as_loss(c)) for c in (nn.MSELoss(), F.cross_entropy, functools.partial(F.huber_loss, delta=2.0))]
    assert names == ["MSELoss(reduction='mean')", "cross_entropy", "huber_loss(delta=2.0)"]
    assert called(CrossEntropy()) == "CrossEntropy(reduction='mean')" and called(torch.dist) == "dist"


ONE = torch.tensor(2.0, requires_grad=True)
Named = namedtuple("Named", "output loss")


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [
        (ONE, {}),
        (ONE.reshape(1, 1), {}),
        (
            {"loss": ONE, "a": torch.tensor(3), "b": 0.5, "c": True, "logits": X, "note": "x"},
            {"a": 3, "b": 0.5, "c": 1},
        ),
        (OrderedDict(loss=ONE, logits=X, hidden=(X, X)), {}),
        ((ONE, {"a": 1.5}, X, {"b": ONE * 2}), {"a": 1.5, "b": 4}),
        ([ONE, X], {}),
        (Named(X, ONE), {}),
        (SimpleNamespace(loss=ONE, accuracy=0.25, logits=X), {"accuracy": 0.25}),
    ],
)
def test_what_a_loss_may_return(returned, metrics):
    value, beside = value_of(returned, F.mse_loss)
    assert value.shape == () and value == 2 and value.requires_grad
    assert beside == metrics
    assert all(m.shape == () and m.is_floating_point() and not m.requires_grad for m in beside.values())


def test_it_is_taken_apart_under_vmap_as_well():
    def one(x):
        return value_of({"loss": x.square().sum(), "size": x.abs().max(), "two": 2}, F.mse_loss)

    values, beside = torch.func.vmap(one, out_dims=(0, {"size": 0, "two": None}))(X)
    torch.testing.assert_close(values, X.square().sum(1))
    torch.testing.assert_close(beside["size"], X.abs().amax(1))


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, 'returned None; return a scalar tensor, {"loss": scalar, ...}, or a tuple'),
        (0.5, r"returned the float 0.5, which has no gradient; .* without .item\(\)"),
        (X, r"a tensor of shape \(6, 3\), not a scalar; take its .mean\(\) or .sum\(\)"),
        ({"loss": X}, r"returned a dict whose loss is a tensor of shape \(6, 3\)"),
        ({"mse": ONE}, r"""a dict in which "loss" is missing beside \['mse'\]"""),
        ({"loss": None}, """a dict in which "loss" is NoneType"""),
        ((None, ONE), "a tuple that begins with NoneType"),
        ((0.5, ONE), "a tuple that begins with float"),
        ((), "returned a tuple; return"),
        ("0.5", "returned a str; return"),
        (torch.tensor(3), "a tensor of torch.int64; only floating-point numbers have a gradient"),
        (torch.tensor(1j), "a tensor of torch.complex64; take .real or .abs"),
        (NET, "returned a Linear; return"),
    ],
)
def test_anything_else_is_one_sentence(returned, words):
    with pytest.raises(TaskError, match=words) as caught:
        value_of(returned, MSE())
    assert str(caught.value).startswith("the loss MSE() returned") and "\n" not in str(caught.value)
