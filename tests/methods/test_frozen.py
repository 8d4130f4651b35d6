"""What all heads on frozen features share: a backbone that stays as it is, labels, ways, and what is refused."""

import logging

import pytest
import torch
from torch import nn

from fastadapt import MLP, Protocol, Task, Training, cross_entropy, evaluate, load_predictor, meta_train, save_predictor
from fastadapt.errors import ConfigError, FastadaptError, TaskError
from fastadapt.methods import CosineHead, LinearProbe, NearestCentroid, NearestSample, RidgeHead, mean_feature
from fastadapt.methods.features import ROWS
from fastadapt.nets.headed import Headed

pytestmark = pytest.mark.usefixtures("double")
HEADS = {
    "centroid": NearestCentroid,
    "simple_shot": lambda net, **more: NearestCentroid(net, unit=True, centre=torch.full((8,), 0.1), **more),
    "sample": NearestSample,
    "ridge": RidgeHead,
    "probe": LinearProbe,
    "cosine": CosineHead,
}
EVERY = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)


class Backbone(nn.Module):
    """Its features are maps; it counts the samples that it sees."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)
        self.norm.running_mean += 0.3
        self.norm.running_var *= 2
        self.rows = []

    def forward(self, x):
        self.rows.append(len(x))
        return self.drop(torch.tanh(self.norm(self.conv(x))))


def batch(n, ways=3):
    y = torch.arange(n) % ways
    return torch.rand(n, 1, 4, 4) + y.view(-1, 1, 1, 1) / ways, y


def task(ways=3):
    return Task(batch(3 * ways, ways), batch(2 * ways, ways))


def by_hand(net, x):
    """Return features by the averages of the batch norm, written out."""
    z = nn.functional.conv2d(x, net.conv.weight, net.conv.bias)
    z = (z - 0.3) / (2 + net.norm.eps) ** 0.5
    return torch.tanh(z).flatten(1).detach()


@EVERY
def test_a_backbone_is_bit_for_bit_the_same_and_gets_no_gradient(head):
    net = Backbone().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    learner = head(net).train()
    outcome = learner([task(), task()])
    if outcome.loss.requires_grad:
        outcome.loss.backward()
    learner.adapt(task().support)
    learner.trace([task()])
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(not p.requires_grad and p.grad is None for p in net.parameters())
    assert net.training and net.norm.training  # as the user had it
    x = batch(5)[0]
    torch.testing.assert_close(NearestCentroid(net).features(x), by_hand(net, x))


@EVERY
def test_a_sample_goes_through_the_backbone_once(head):
    net = Backbone()
    head(net)([task(), task()])
    assert sum(net.rows) == 2 * (9 + 6)
    net.rows.clear()
    head(net).adapt(task().support)
    assert sum(net.rows) == 9


def test_many_samples_go_through_it_some_hundreds_at_a_time():
    net, x = Backbone(), torch.rand(2 * ROWS + 5, 1, 4, 4)
    torch.testing.assert_close(NearestCentroid(net).features(x), by_hand(net, x))
    assert net.rows == [ROWS, ROWS, 5]


@EVERY
def test_an_answer_does_not_depend_on_the_other_queries(head):
    predict, x = head(Backbone()).adapt(task().support), batch(6)[0]
    with torch.no_grad():
        torch.testing.assert_close(predict(x), torch.cat([predict(row) for row in x.split(1)]))


@EVERY
def test_tasks_may_have_other_ways_and_labels_with_gaps(head):
    learner, few, many = head(Backbone()), task(2), task(9)
    shifted = Task((many.support[0], 2 * many.support[1] + 1), (many.query[0], 2 * many.query[1] + 1))
    trace = learner.trace([few, shifted, many])
    assert [output.shape[2] for output in trace.outputs] == [2, 18, 9]
    torch.testing.assert_close(trace.outputs[1][0][:, 1::2], trace.outputs[2][0])
    assert (trace.outputs[1][0].softmax(1)[:, ::2] == 0).all()
    torch.testing.assert_close(trace.losses[1], trace.losses[2])
    predict = learner.adapt(shifted.support)
    torch.testing.assert_close(predict(shifted.query[0]), trace.outputs[1][0])
    far = learner.adapt((shifted.support[0], shifted.support[1] + 60_000))(shifted.query[0])  # and no more memory
    torch.testing.assert_close(far[:, -18:], trace.outputs[1][0])


@EVERY
def test_a_support_set_of_one_class_is_answered_with_it(head):
    x = batch(4)[0]
    answers = head(Backbone()).adapt((x, torch.ones(4, dtype=torch.long)))(batch(3)[0])
    assert answers.shape == (3, 2) and (answers.argmax(1) == 1).all()


@EVERY
def test_on_noise_it_is_right_by_chance(head):
    learner = head(Backbone())
    y, yq = torch.arange(10) % 5, torch.arange(20) % 5
    tasks = [Task((torch.rand(10, 1, 4, 4), y), (torch.rand(20, 1, 4, 4), yq)) for _ in range(60)]
    right = learner.trace(tasks).metrics["accuracy"][:, 0]
    assert abs(float(right.mean()) - 0.2) < 4 * (0.2 * 0.8 / (60 * 20)) ** 0.5


@EVERY
def test_a_predictor_is_read_from_its_folder(head, tmp_path):
    torch.set_default_dtype(torch.float32)
    described = {"name": "MLP", "arguments": {"inputs": 5, "hidden": [6], "outputs": 8}}
    net = MLP(5, (6,), 8)
    x, y = torch.rand(7, 5), torch.arange(7) % 3
    predictor = head(net).adapt((x, y))
    predictor.details["net"] = predictor.model.described(described)
    again = load_predictor(save_predictor(predictor, tmp_path / "named"))
    with torch.no_grad():
        torch.testing.assert_close(again(2 * x), predictor(2 * x), rtol=0, atol=0)
    support = batch(6)
    predictor = head(Backbone()).adapt(support)  # a module of the user
    save_predictor(predictor, tmp_path / "own")
    again = load_predictor(tmp_path / "own", model=Headed(Backbone(), **predictor.model.arguments))
    with torch.no_grad():
        torch.testing.assert_close(again(support[0]), predictor(support[0]), rtol=0, atol=0)


def source(rng):
    y = torch.arange(6) % 2
    x = torch.as_tensor(rng.normal(size=(6, 5))) + 4 * y.unsqueeze(1) - 2
    return Task((x[:4], y[:4]), (x[4:], y[4:]))


@pytest.mark.parametrize("head", [NearestCentroid, NearestSample, LinearProbe, CosineHead])
def test_what_has_nothing_to_train_is_evaluated_as_it_is_and_not_trained(head):
    learner = head(nn.Identity())  # the samples themselves, no parameter anywhere
    result = evaluate(learner, source, Protocol(tasks=20))
    assert result.result > 0.9 and result.norm == "none" and not result.transductive
    with pytest.raises(ConfigError, match=f"{head.__name__} has no trainable parameter.*evaluate it or adapt it"):
        meta_train(learner, source, Training(steps=1), quiet=True)


def test_evaluation_names_the_norm_of_a_backbone_that_has_one():
    result = evaluate(NearestCentroid(Backbone()), lambda rng: task(), Protocol(tasks=3, steps=4))
    assert result.norm == "running" and len(result.mean) == 1


def test_a_loss_of_ones_own_sees_the_outputs():
    def loss(model, batch):
        x, _ = batch
        return {"loss": cross_entropy(model, batch) * 2, "largest": model(x).max()}

    one = task()
    doubled, plain = NearestCentroid(Backbone(), loss), NearestCentroid(Backbone())
    doubled.load_state_dict(plain.state_dict())
    torch.testing.assert_close(doubled(one).losses, 2 * plain(one).losses)
    assert doubled.trace(one).metrics["largest"].shape == (1, 1)


def test_the_mean_feature_is_that_of_all_samples_in_batches_or_at_once():
    net, x = Backbone().train(), batch(30)[0]
    want = by_hand(net, x).mean(0)
    torch.testing.assert_close(mean_feature(net, x), want)
    torch.testing.assert_close(mean_feature(net, list(x.split(7))), want)
    assert net.training


def test_averages_that_were_never_fed_are_told(caplog):
    with caplog.at_level(logging.WARNING, logger="fastadapt"):
        NearestCentroid(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    assert "averages it was built with" in caplog.text and "update_bn" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="fastadapt"):
        NearestCentroid(Backbone())
    assert not caplog.text


class Pair(nn.Module):
    def forward(self, x):
        return x, x


class Sum(nn.Module):
    def forward(self, x):
        return x.flatten(1).sum(1)


class Whole(nn.Module):
    def forward(self, x):
        return x.long()


def bad_support():
    x, y = batch(6)
    x[2, 0, 1, 1] = float("nan")
    return x, y


REFUSED = {
    "no averages": (
        lambda: NearestCentroid(nn.BatchNorm2d(1, track_running_stats=False)),
        ConfigError,
        "track_running",
    ),
    "no module": (lambda: NearestCentroid("net"), ConfigError, "str"),
    "centre": (lambda: NearestCentroid(Backbone(), centre=torch.zeros(2, 2)), ConfigError, "centre must be one tensor"),
    "norm": (lambda: NearestCentroid(Backbone()).adapt(batch(6), norm="support"), ConfigError, "norm='support'"),
    "trace norm": (lambda: NearestCentroid(Backbone()).trace(task(), norm="transductive"), ConfigError, "transductive"),
    "size": (lambda: NearestCentroid(Backbone(), centre=torch.zeros(3)).adapt(batch(6)), TaskError, "has 3 numbers.*8"),
    "tuple": (lambda: NearestCentroid(Pair()).adapt(batch(6)), TaskError, "Pair returned a tuple"),
    "no row": (lambda: NearestCentroid(Sum()).adapt(batch(6)), TaskError, r"Sum returned shape \(6,\)"),
    "whole": (lambda: NearestCentroid(Whole()).adapt(batch(6)), TaskError, "floating point"),
    "nan": (lambda: RidgeHead(Backbone()).adapt(bad_support()), TaskError, "support x, row 2: nan"),
    "numbers": (lambda: LinearProbe(Backbone()).adapt((batch(6)[0], torch.rand(6))), TaskError, "tells classes apart"),
    "strength": (lambda: RidgeHead(Backbone(), strength=0.0), ConfigError, "strength must be a number > 0, got 0.0"),
    "scale": (lambda: CosineHead(Backbone(), scale=-1.0), ConfigError, "scale must be a number > 0"),
    "updates": (lambda: CosineHead(Backbone(), updates=-1), ConfigError, "updates must be a whole number"),
    "inverse": (lambda: LinearProbe(Backbone(), inverse_strength=float("nan")), ConfigError, "inverse_strength"),
    "no sample": (lambda: mean_feature(Backbone(), []), TaskError, "no samples"),
}


@pytest.mark.parametrize("build, error, said", REFUSED.values(), ids=REFUSED)
def test_what_can_not_be_done_is_refused_in_one_sentence(build, error, said):
    with pytest.raises(error, match=said) as caught:
        build()
    assert isinstance(caught.value, FastadaptError)


@EVERY
def test_a_query_of_an_unknown_class_is_refused_and_a_marked_one_does_not_count(head):
    learner, support, (x, y) = head(Backbone()), batch(9), batch(6)
    with pytest.raises(TaskError, match=r"query row 1.*support set has samples"):
        learner(Task(support, (x, torch.where(torch.arange(6) == 1, 7, y))))
    kept = torch.arange(6) != 1
    marked = learner(Task(support, (x, torch.where(kept, y, -100))))
    torch.testing.assert_close(marked.losses, learner(Task(support, (x[kept], y[kept]))).losses)


@EVERY
def test_an_adapted_module_is_exported_for_any_number_of_samples(head):
    predict, x = head(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh())).adapt(task().support), batch(6)[0]
    program = torch.export.export(predict.model, (x,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(x[:4]), predict(x[:4]))
