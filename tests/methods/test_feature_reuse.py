"""NIL, layers that stay at test, features before and after, ensembles; BOIL and Meta-SGD as selections."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, MLP, SGD, CrossEntropy, Protocol, Reptile, Sinusoid, Task, evaluate
from fastadapt.errors import ConfigError, SelectionError, TaskError
from fastadapt.methods import Ensemble, MAMLPlusPlus, ProtoMAML, ProtoNet, nil
from fastadapt.methods.feature_reuse import cka, keeping, similarity
from fastadapt.rules.rates import learned_rates
from reference import difference, grads_of

pytestmark = pytest.mark.usefixtures("double")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 5)
        self.norm = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.norm(self.first(x))))


def classes(n, ways=3):
    return torch.randn(n, 3), torch.arange(n) % ways


def tasks(count=2):
    return [Task(classes(6), classes(9)) for _ in range(count)]


@pytest.mark.parametrize("build", [lambda net: MAML(net, CrossEntropy(), rule=SGD(0.1)),
                                   lambda net: MAML(net, CrossEntropy(), rule=SGD(0.1), adapt="head")])  # fmt: skip
def test_nil_is_the_vote_of_the_support_samples_by_cosine(build):
    net, [task] = Net(), tasks(1)
    test = nil(build(net))
    (x, y), (xq, yq) = task.support, task.query

    def features(x):
        h = F.linear(x, net.first.weight, net.first.bias)
        z = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        return F.normalize(torch.tanh(z), dim=1)

    want = features(xq) @ features(x).T @ F.one_hot(y, 3).double()
    trace = test.trace(task)
    torch.testing.assert_close(trace.outputs[0][-1], want.detach())
    assert float(trace.metrics["accuracy"]) == float((want.argmax(1) == yq).double().mean())


def test_nil_takes_over_the_running_averages_before_any_step():
    learner, batch = MAML(Net(), CrossEntropy(), rule=SGD(0.1), norm="per_step", steps=2, route="loop"), tasks()
    learner(batch)
    test = nil(learner)
    assert test.norm == "running"
    for name, value in test.running.tensors().items():
        assert torch.equal(value[0], learner.running.tensors()[name.removeprefix("embedding.")][0])
    x = torch.randn(4, 3)
    predict = test.adapt(classes(6))
    torch.testing.assert_close(predict(x)[:1], predict(x[:1]))


def test_nil_of_a_network_without_a_head_and_of_no_inner_loop():
    assert nil(ProtoMAML(MLP(3, (4,), None))).adapt(classes(4, 2))(torch.randn(2, 3)).shape == (2, 2)
    with pytest.raises(ConfigError, match="and ProtoNet takes none; choose MAML"):
        nil(ProtoNet(nn.Identity()))


def test_layers_that_stay_are_not_adapted_at_test():
    learner, [task] = MAML(Net(), CrossEntropy(), rule=SGD(0.5), steps=2), tasks(1)
    still = keeping(learner, ("first.*", "norm.*"))
    assert still.adapted == ("head.weight", "head.bias") and learner.adapted[0] == "first.weight"
    predict = still.adapt(task.support)
    assert torch.equal(predict.model.first.weight, learner.model.first.weight)
    assert not torch.equal(predict.model.head.weight, learner.model.head.weight)
    with pytest.raises(SelectionError):
        keeping(learner, "all")


def test_alike_features_have_a_similarity_of_one():
    x = torch.randn(30, 4)
    turn, _ = torch.linalg.qr(torch.randn(4, 4))
    assert cka(x, 3 * x @ turn + 7) == pytest.approx(1)
    y = torch.randn(30, 6)
    a, b = x - x.mean(0), y - y.mean(0)
    want = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert cka(x, y) == pytest.approx(float(want)) and cka(x, y) < 0.6


def test_what_does_not_adapt_gives_the_same_features():
    learner = MAML(Net(), CrossEntropy(), rule=SGD(0.8), steps=3, adapt="head")
    found = similarity(learner, tasks(), ("first", "head"))
    assert found["first"] == pytest.approx(1) and found["head"] < 0.9999
    boil = similarity(MAML(Net(), CrossEntropy(), rule=SGD(0.8), steps=3, adapt="body"), tasks(), ["first"])
    assert boil["first"] < 0.9999
    with pytest.raises(ConfigError, match="no part 'last'"):
        similarity(learner, tasks(), ["last"])


def test_boil_leaves_the_head_bit_for_bit_and_learns_it_outside():
    learner, [task] = MAML(Net(), CrossEntropy(), rule=SGD(0.5), adapt="body", steps=3), tasks(1)
    for predict in learner.adapting(task.support):
        assert torch.equal(predict.model.head.weight, learner.model.head.weight)
        assert torch.equal(predict.model.head.bias, learner.model.head.bias)
    assert not torch.equal(predict.model.first.weight, learner.model.first.weight)
    learner(task).loss.backward()
    assert learner.model.head.weight.grad.abs().max() > 0


def test_meta_sgd_with_equal_rates_is_maml_with_one_step():
    net, batch, found = Net(), tasks(), []
    for rule in (SGD(0.1), SGD(learned_rates(net, 0.1))):
        net.zero_grad()
        MAML(net, CrossEntropy(), rule=rule, route="loop")(batch).loss.backward()
        found.append(grads_of(net))
    assert difference(*found) < 1e-12


def test_rates_are_drawn_between_two():
    rates = torch.cat([rate.flatten() for rate in learned_rates(MLP(4, (50,), 5), (0.005, 0.1)).values()])
    assert 0.005 <= rates.min() < 0.01 and 0.095 < rates.max() <= 0.1
    for wrong in (0, 1.5):
        with pytest.raises(ConfigError, match="steps must be a whole number"):
            learned_rates(Net(), 0.1, steps=wrong)


def test_an_ensemble_answers_with_the_mean_of_its_members():
    members, batch = [MAML(Net(), CrossEntropy(), rule=SGD(0.3), steps=2, route="loop") for _ in range(3)], tasks()
    several = Ensemble(members)
    trace, each = several.trace(batch), [member.trace(batch) for member in members]
    for i, task in enumerate(batch):
        mean = sum(one.outputs[i] for one in each) / 3
        torch.testing.assert_close(trace.outputs[i], mean)
        losses = [float(F.cross_entropy(output, task.query[1])) for output in mean]
        torch.testing.assert_close(trace.losses[i].tolist(), losses)
        torch.testing.assert_close(several.adapt(task.support)(task.query[0]).detach(), mean[-1])
    assert trace.metrics["accuracy"].shape == (2, 3)
    waves = Ensemble([MAML(MLP(1, (4,), 1).float(), route="loop") for _ in range(2)])
    result = evaluate(waves, Sinusoid(), Protocol(tasks=3, steps=1))
    assert result.metric == "mse" and len(result.mean) == 2


def test_an_ensemble_is_of_one_kind_and_not_trained():
    with pytest.raises(ConfigError, match="at least 2 members"):
        Ensemble([MAML(Net())])
    with pytest.raises(ConfigError, match="these differ: MAML, norm 'transductive', 1 test steps; Reptile"):
        Ensemble([MAML(Net()), Reptile(Net(), steps=1)])
    pair = Ensemble([MAMLPlusPlus(Net(), steps=1), MAMLPlusPlus(Net(), steps=1)])
    with pytest.raises(ConfigError, match="an ensemble is not trained"):
        pair(tasks())
    with pytest.raises(TaskError, match="two tensors"):
        Ensemble([MAML(Net(), lambda model, batch: model(batch["x"]).square().mean()) for _ in range(2)]).trace(
            Task({"x": torch.randn(4, 3)}, {"x": torch.randn(4, 3)})
        )
