"""What all metric methods share: batch norm, labels, ways, and what can't be compared."""

import pytest
import torch
from torch import nn

from fastadapt import CrossEntropy, Task, cross_entropy, load_predictor, save_predictor
from fastadapt.errors import ConfigError, TaskError
from fastadapt.methods import (
    MANN,
    SNAIL,
    AdaptiveSubspaces,
    MatchingNet,
    MemoryModule,
    NeuralStatistician,
    ProtoNet,
    RelationNet,
    SiameseNet,
    one_pass,
)
from fastadapt.nets import Generator
from fastadapt.nets.settings import build_net

pytestmark = pytest.mark.usefixtures("double")
DESCRIBED = {"name": "Conv4", "arguments": {"channels": 1, "width": 6, "ways": None, "size": 16, "affine": "both"}}
METHODS = {
    "protonet": ProtoNet,
    "matching": MatchingNet,
    "full context": lambda net, **more: MatchingNet(net, context=6, **more),
    "sum": lambda net, **more: MatchingNet(net, votes="sum", **more),
    "siamese": lambda net, **more: SiameseNet(net, features=6, **more),
    "siamese mean": lambda net, **more: SiameseNet(net, features=6, over="mean", **more),
    "relation": lambda net, **more: RelationNet(net, features=(6,), **more),
    "subspaces": AdaptiveSubspaces,
    "statistician": lambda net, **more: NeuralStatistician(
        net,
        generator=Generator((6,), (1, 16, 16), width=2, hidden=8, context=5, latent=2),
        features=(6,),
        hidden=8,
        context=5,
        **more,
    ),
    "memory": lambda net, **more: MemoryModule(net, features=6, keys=4, **more),
    "svd": lambda net, **more: AdaptiveSubspaces(net, basis="svd", **more),
    "snail": lambda net, **more: SNAIL(net, ways=9, features=6, length=10, filters=4, **more),
    "mann": lambda net, **more: MANN(net, ways=9, features=6, hidden=8, slots=6, width=3, heads=2, **more),
}
EVERY = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
TOGETHER = ("statistician", "memory")
"""They learn from support and query in one pass, which other modes of batch norm keep apart."""
MODES = [
    pytest.param(method, norm, id=f"{name}-{norm}")
    for name, method in METHODS.items()
    for norm in ("running", "support", "support+query")
    if norm == "running" or name not in TOGETHER
]


def embedding():
    return build_net(DESCRIBED)


def batch(n, ways=3):
    return torch.rand(n, 1, 16, 16), torch.arange(n) % ways


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x))))


def points(n, ways=2):
    return torch.randn(n, 3), torch.arange(n) % ways


def test_in_training_an_episode_is_one_batch_as_torch_normalises_it():
    net, (x, y), (xq, yq) = Net(), points(6), points(4)
    learner = ProtoNet(net)
    outcome = learner(Task((x, y), (xq, yq)))
    features = net.train()(torch.cat((x, xq)))  # torch's own batch norm, which moves its own averages
    means = torch.stack([features[:6][y == c].mean(0) for c in range(2)])
    logits = -(features[6:].unsqueeze(1) - means).square().sum(2)
    torch.testing.assert_close(outcome.loss, nn.functional.cross_entropy(logits, yq))
    kept = learner.running.tensors()
    torch.testing.assert_close(kept["embedding.norm.running_mean"][0], net.norm.running_mean)
    torch.testing.assert_close(kept["embedding.norm.running_var"][0], net.norm.running_var)
    features = net.eval()
    means = torch.stack([features(x)[y == c].mean(0) for c in range(2)])
    wanted = -(features(xq).unsqueeze(1) - means).square().sum(2)
    torch.testing.assert_close(learner.adapt((x, y))(xq), wanted)  # and answers by these averages


def test_averages_follow_the_mean_over_the_tasks_of_a_meta_batch():
    net = Net()
    learner, tasks = ProtoNet(net), [Task(points(6), points(4)) for _ in range(3)]
    learner(tasks)
    seen = [net.first(torch.cat((task.support[0], task.query[0]))) for task in tasks]
    mean = sum(z.mean(0) for z in seen) / 3
    torch.testing.assert_close(learner.running.tensors()["embedding.norm.running_mean"][0], 0.1 * mean.detach())


@pytest.mark.parametrize("method, norm", MODES)
def test_an_answer_does_not_depend_on_the_other_queries(method, norm):
    learner = method(embedding(), norm=norm)
    learner(Task(batch(6), batch(5)))
    predict, x = learner.adapt(batch(6)), batch(5)[0]
    with torch.no_grad():
        alone = torch.cat([predict(row) for row in x.split(1)])
        torch.testing.assert_close(predict(x), alone)


@EVERY
def test_the_test_may_have_more_classes_than_the_training_and_labels_with_gaps(method):
    learner = method(embedding())
    learner(Task(batch(6), batch(5))).loss.backward()
    support, query = (batch(18, 9)[0], 2 * batch(18, 9)[1] + 1), (batch(9, 9)[0], 2 * batch(9, 9)[1] + 1)
    far = learner.adapt((support[0], support[1] + 60_000))(query[0])  # and no more memory than for 18
    outputs = learner.adapt(support)(query[0])  # classes 1, 3, .. 17
    assert outputs.shape == (9, 18)
    assert outputs.isfinite().all() and (outputs.softmax(1)[:, ::2] == 0).all()  # never one that has no sample
    torch.testing.assert_close(far[:, -18:], outputs)
    shifted = learner.adapt((support[0], (support[1] - 1) // 2))(query[0])
    torch.testing.assert_close(outputs[:, 1::2], shifted)
    trace = learner.trace([Task(support, query), Task(batch(6), batch(5))])
    assert trace.losses.isfinite().all() and [len(output[0, 0]) for output in trace.outputs] == [18, 3]


@EVERY
def test_on_noise_an_untrained_embedding_is_right_by_chance(method):
    learner = method(embedding()).eval()
    tasks = [Task(batch(10, 5), (batch(20, 5)[0], torch.randint(5, (20,)))) for _ in range(60)]
    tasks = [Task(task.support, (task.query[0], torch.cat((torch.arange(5), task.query[1][5:])))) for task in tasks]
    right = learner.trace(tasks).metrics["accuracy"][:, 0]
    assert abs(float(right.mean()) - 0.2) < 4 * (0.2 * 0.8 / (60 * 20)) ** 0.5


@pytest.mark.parametrize("method, norm", MODES)
def test_a_predictor_is_read_from_its_folder_by_name(method, norm, tmp_path):
    torch.set_default_dtype(torch.float32)
    learner = method(embedding(), norm=norm)
    predictor = learner.adapt(batch(8, 4))
    predictor.details["net"] = predictor.model.described(DESCRIBED)
    again, x = load_predictor(save_predictor(predictor, tmp_path / "mine")), batch(3)[0]
    with torch.no_grad():
        torch.testing.assert_close(again(x), predictor(x), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [torch.int32, torch.uint8, torch.bool])
def test_whole_numbers_of_any_type_are_class_numbers(kind):
    learner, (x, y), (xq, yq) = ProtoNet(Net()), points(6), points(4)
    want, got = learner.trace(Task((x, y), (xq, yq))), learner.trace(Task((x, y.to(kind)), (xq, yq.to(kind))))
    torch.testing.assert_close(got.losses, want.losses)
    torch.testing.assert_close(learner.adapt((x, y.to(kind)))(xq), learner.adapt((x, y))(xq))


@pytest.mark.parametrize("method", [ProtoNet, lambda net: SiameseNet(net, features=4)], ids=["protonet", "siamese"])
def test_a_query_that_is_marked_does_not_count(method):
    learner, support, (x, y) = method(Net()).eval(), points(6), points(4)
    marked = Task(support, (x, torch.where(torch.arange(4) == 1, -100, y)))
    kept = torch.tensor([0, 2, 3])
    want = learner([Task(support, (x[kept], y[kept]))])
    torch.testing.assert_close(learner([marked]).losses, want.losses)


def as_y(y):
    return Task((torch.randn(4, 3), y), (torch.randn(4, 3), torch.arange(4) % 2))


@pytest.mark.parametrize(
    "task, says",
    [
        (as_y(torch.randn(4)), r"needs class numbers \(4,\).*torch.float32: choose MAML for numbers"),
        (as_y(torch.randn(4, 1)), r"the support labels are \(4, 1\)"),
        (as_y(torch.eye(4)), r"write y.argmax\(1\) for class probabilities"),
        (as_y(torch.tensor([0, 1, -1, 0])), "support row 2: the label is -1"),
        (as_y(torch.tensor([0, 1, 1, 10**6])), "support row 3: the label is 1000000"),
        (as_y(torch.tensor([0, 0, 0, 0])), "query row 1: the label is 1, and the support set has samples of 0 alone"),
        (as_y(torch.tensor([0, 2, 2, 0])), "query row 1: the label is 1, and the support set has samples of 0, 2"),
        (as_y(torch.tensor([0, 1, 0])), "4 samples and 3 labels"),
        (Task(points(4), (torch.randn(0, 3), torch.arange(0))), "no query samples"),
        (Task((torch.randn(4, 3),), points(4)), r"needs a support set \(x, y\) of two tensors.* tuple of \(Tensor\)"),
        (Task({"x": torch.randn(4, 3)}, points(4)), "choose MAML for batches of another form"),
    ],
)
def test_tasks_that_are_none_of_classes_are_refused(task, says):
    learner = ProtoNet(Net())
    with pytest.raises(TaskError, match=says):
        learner([Task(points(4), points(4)), task])
    with pytest.raises(TaskError, match=says):
        learner.trace(task)


def test_the_task_at_fault_is_named():
    with pytest.raises(TaskError, match="task 2 of the meta-batch, query row 1: the label is 5"):
        bad = Task(points(4), (torch.randn(2, 3), torch.tensor([0, 5])))
        ProtoNet(Net())([Task(points(4), points(2)), Task(points(4), points(4)), bad])


def test_a_support_set_that_is_not_finite_is_refused():
    support = torch.tensor([[1.0, 2, 3], [torch.nan, 0, 0]]), torch.tensor([0, 1])
    with pytest.raises(TaskError, match="support x, row 1: nan: what is remembered"):
        ProtoNet(nn.Linear(3, 2)).adapt(support)


@pytest.mark.parametrize(
    "net, says",
    [(nn.Flatten(0), r"Flatten returned shape \(24,\)"), (nn.LSTM(3, 3).double(), "LSTM returned a tuple")],
)
def test_a_module_that_gives_no_features_is_refused(net, says):
    with pytest.raises(TaskError, match=says):
        ProtoNet(net)(Task(points(4), points(4)))


@pytest.mark.parametrize(
    "build, says",
    [
        (
            lambda: SiameseNet(Net(), features=3),
            r"features of shape \(4,\) for a sample.*built for \(3,\); give features=4",
        ),
        (lambda: MatchingNet(Net(), context=5), "give context=4"),
        (lambda: RelationNet(Net(), features=(4, 4, 4)), "give features=4"),
    ],
    ids=["siamese", "matching", "relation"],
)
def test_a_comparison_that_was_built_for_other_features_is_refused(build, says):
    with pytest.raises(TaskError, match=says):
        build().adapt(points(4))


def test_a_predictor_has_the_type_of_its_learner():
    torch.set_default_dtype(torch.float32)
    learner, support, x = ProtoNet(Net()).double(), points(6), points(4)[0].double()
    support = support[0].double(), support[1]
    answers = learner.adapt(support)(x)
    assert answers.dtype == torch.float64
    torch.testing.assert_close(
        answers, learner.trace(Task(support, (x, points(4)[1]))).outputs[0][0], rtol=1e-12, atol=0
    )
    assert learner.half().adapt((support[0].half(), support[1]))(x.half()).dtype == torch.float16


def test_per_step_is_refused_and_so_are_averages_that_were_not_kept():
    with pytest.raises(ConfigError, match="ProtoNet has none; choose norm='running'"):
        ProtoNet(Net(), norm="per_step")
    with pytest.raises(TaskError, match="kept no running moments"):
        ProtoNet(Net(), norm="support").adapt(points(4), norm="running")


def test_samples_embedded_a_few_at_a_time_give_the_same_answers(monkeypatch):
    learner = ProtoNet(embedding())
    tasks = [Task(batch(6), batch(5)), Task(batch(8, 4), batch(3))]
    learner(tasks)
    whole = learner.trace(tasks)
    monkeypatch.setattr(one_pass, "ROWS", 4)
    torch.testing.assert_close(learner.trace(tasks).losses, whole.losses)


def test_tasks_may_have_images_of_several_sizes():
    learner = ProtoNet(embedding())
    tasks = [Task(batch(6), batch(5)), Task(*[(torch.rand(4, 1, 24, 24), torch.arange(4) % 2)] * 2)]
    learner(tasks)
    plain = ProtoNet(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(2)))
    assert plain(tasks).losses.isfinite().all()
    alone = [learner.trace(task).losses for task in tasks]
    torch.testing.assert_close(learner.trace(tasks).losses, torch.cat(alone))


def test_the_loss_may_be_torchs_or_learn_something_itself():
    smooth, task = nn.CrossEntropyLoss(label_smoothing=0.1), Task(points(6), points(4))
    net = Net()
    outcome = ProtoNet(net, smooth)(task)
    torch.testing.assert_close(outcome.loss, smooth(ProtoNet(net)(task).outputs[0], task.query[1]))

    class Heated(nn.Module):
        def __init__(self):
            super().__init__()
            self.heat = nn.Parameter(torch.tensor(2.0))

        def forward(self, model, batch):
            return cross_entropy(lambda x: self.heat * model(x), batch)

    learner = ProtoNet(net, Heated())
    learner(task).loss.backward()
    assert learner.loss.heat.grad.abs() > 0


def test_losses_can_be_weighted_and_what_is_frozen_stays():
    net = Net()
    net.first.requires_grad_(False)
    learner, tasks = ProtoNet(net, CrossEntropy()), [Task(points(6), points(4)) for _ in range(3)]
    outcome = learner(tasks)
    (torch.tensor([0.0, 0.0, 2.0]) * outcome.losses).sum().backward()
    alone = torch.autograd.grad(2 * learner([tasks[2]]).loss, net.last.weight)[0]
    torch.testing.assert_close(net.last.weight.grad, alone)
    assert net.first.weight.grad is None
