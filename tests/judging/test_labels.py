"""Labels of every form: the right number, or one sentence before the first step, on every route."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import fastadapt as fa
from fastadapt.errors import TaskError
from fastadapt.losses import as_loss

N = 3
LOSSES = {
    "cross_entropy": fa.cross_entropy,
    "sum": fa.CrossEntropy("sum"),
    "module": nn.CrossEntropyLoss(),
    "function": F.cross_entropy,
}
ROUTES = {
    "loop": "loop",
    "vmap": "vmap",
    "recorded": fa.Execution("vmap", compile="trace"),
    "recorded loop": fa.Execution("loop", compile="trace"),
}


def onehot(y):
    return F.one_hot(y, N)


# what stands for the same labels in another form
RIGHT = {
    "int32": lambda y: y.int(),
    "int16": lambda y: y.short(),
    "int8": lambda y: y.char(),
    "uint8": lambda y: y.to(torch.uint8),
    "one-hot int64": onehot,
    "one-hot int32": lambda y: onehot(y).int(),
    "one-hot bool": lambda y: onehot(y).bool(),
    "one-hot float": lambda y: onehot(y).float(),
    "one-hot float64": lambda y: onehot(y).double(),
    "one-hot as it was drawn, not in one piece": lambda y: onehot(y).float().t().contiguous().t(),
}
# what stands for no labels of three classes, with words of the sentence
WRONG = {
    "floats": (lambda y: y.float(), r"\(6,\) of torch.float32 from 0 to 2; .* y.long\(\)"),
    "float64": (lambda y: y.double(), r"torch.float64 from 0 to 2"),
    "half": (lambda y: y.half(), r"torch.float16 from 0 to 2"),
    "[n, 1]": (lambda y: y[:, None], r"\(6, 1\) of torch.int64 from 0 to 2; .* y.squeeze"),
    "[n, 1] float": (lambda y: y[:, None].float(), r"\(6, 1\) .* y.squeeze\(-1\).long\(\)"),
    "[1, n]": (lambda y: y[None].expand(len(y), -1), r"\(6, 6\) .* labels of 6 classes need an output of 6"),
    "one-hot of four": (lambda y: F.one_hot(y, 4).float(), r"\(6, 4\) .* of 4 classes need an output of 4"),
    "1..N": (lambda y: y + 1, r"task 0 .* support row 2: the label is 3, .* \(6, 3\) are 0..2 .* 1..3.* y - 1"),
    "-1..1": (lambda y: y - 1, r"row 0: the label is -1, .* \(the labels are -1..1\)"),
    "0..N": (lambda y: y + (y == 2), r"the label is 3, .* \(the labels are 0..3\).* give the network 4 outputs"),
    "255": (lambda y: torch.where(y == 1, 255, y).to(torch.uint8), r"the label is 255"),
    "several classes": (lambda y: (onehot(y) + onehot((y + 1) % N)).float(), r"sums to 2, .* nn.BCEWithLogitsLoss"),
    "logits for labels": (lambda y: 4.0 * onehot(y) - 1, r"has -1 in it, and class probabilities are >= 0"),
    "percent": (lambda y: 100.0 * onehot(y), r"sums to 100"),
}


def batch(n=6, label=lambda y: y, classes=N):
    generator = torch.Generator().manual_seed(n)
    y = torch.arange(n) % classes
    return torch.randn(n, 4, generator=generator) + y[:, None], label(y)


def tasks(label=lambda y: y, count=3):
    return [fa.Task(batch(6, label), batch(6 + 3 * i, label)) for i in range(count)]


def same_shapes(label=lambda y: y):
    return [fa.Task(batch(6, label), batch(6, label)) for _ in range(2)]


def learner(loss, route="loop", outputs=N):
    torch.manual_seed(0)
    return fa.MAML(nn.Linear(4, outputs), loss, rule=fa.SGD(0.1), steps=2, route=route)


@pytest.mark.parametrize("form", RIGHT)
@pytest.mark.parametrize("name", LOSSES)
def test_another_form_of_the_same_labels_gives_the_same_numbers(name, form):
    plain, other = (learner(LOSSES[name])(same_shapes(label)) for label in (lambda y: y, RIGHT[form]))
    torch.testing.assert_close(other.loss, plain.loss, check_dtype=False)
    torch.testing.assert_close(other.metrics["accuracy"], plain.metrics["accuracy"], check_dtype=False)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("form", ["int32", "one-hot bool"])
def test_they_do_on_every_route(route, form):
    want = learner(fa.cross_entropy)(same_shapes())
    got = learner(fa.cross_entropy, ROUTES[route])
    for _ in range(2):  # the first call looks, the second runs the program
        outcome = got(same_shapes(RIGHT[form]))
    torch.testing.assert_close(outcome.losses, want.losses)
    torch.testing.assert_close(outcome.metrics["accuracy"], want.metrics["accuracy"])


@pytest.mark.parametrize("form", WRONG)
@pytest.mark.parametrize("name", ["cross_entropy", "module"])
def test_other_labels_are_one_sentence_before_anything_is_learned(name, form):
    label, words = WRONG[form]
    refused = learner(LOSSES[name])
    before = copy.deepcopy(refused.state_dict())
    drawn = iter(tasks(label) * 20)
    asked = [
        lambda: refused(tasks(label)),
        lambda: refused.trace(tasks(label)),
        lambda: refused.adapt(tasks(label)[0].support),
        lambda: list(refused.adapting(tasks(label)[0].support)),
        lambda: fa.evaluate(refused, lambda rng: next(drawn), fa.Protocol(tasks=3)),
        lambda: fa.meta_train(refused, lambda rng: next(drawn), fa.Training(steps=2, meta_batch=3), quiet=True),
    ]
    for ask in asked:
        with pytest.raises(TaskError, match=words.replace("task 0 .* ", "")) as caught:
            ask()
        assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in refused.state_dict().items())


@pytest.mark.parametrize("route", ROUTES)
def test_a_label_that_comes_later_is_named_on_every_route(route):
    late = learner(fa.cross_entropy, ROUTES[route])
    late(same_shapes())
    late(same_shapes())
    for side in ("support", "query"):
        for label in (3, -1):
            given = same_shapes()
            getattr(given[1], side)[1][4] = label
            for ask in (late, late.trace):
                with pytest.raises(TaskError, match=rf"task 1 of the meta-batch, {side} row 4: the label is {label}"):
                    ask(given)


@pytest.mark.parametrize("shape", [(6, 1), (6,), ()])
def test_an_output_without_classes_is_told(shape):
    output = torch.zeros(shape)
    for y in (torch.zeros(shape), torch.zeros(shape, dtype=torch.long), torch.arange(6) % 2):
        if y.dim() == 0 and not y.is_floating_point() and shape == (6,):
            continue
        with pytest.raises(TaskError, match=r"a number for each class, at least 2|give class indices"):
            fa.cross_entropy(nn.Identity(), (output, y))


SEQUENCES = {
    "mask with an axis": (lambda y: y[:, None], r"\(4, 1, 5\) .* write y.squeeze\(1\)"),
    "classes last": (lambda y: F.one_hot(y, N).float(), r"labels|class"),
    "one for the whole": (lambda y: y[:, 0], r"give class indices \(4, 5\)"),
}


@pytest.mark.parametrize("form", SEQUENCES)
def test_labels_of_sequences(form):
    output, y = torch.randn(4, N, 5), torch.randint(N, (4, 5))
    label, words = SEQUENCES[form]
    with pytest.raises(TaskError, match=words):
        fa.cross_entropy(nn.Identity(), (output, label(y)))
    with pytest.raises(TaskError, match="classes of this output seem to be its last axis"):
        fa.cross_entropy(nn.Identity(), (output.movedim(1, -1), y))


NUMBERS = {
    "mse": (fa.mse, lambda x: x),
    "l1": (nn.L1Loss(), lambda x: x),
    "huber": (F.huber_loss, lambda x: x),
    "logits": (nn.BCEWithLogitsLoss(), lambda x: (x > 0).float()),
    "poisson": (nn.PoissonNLLLoss(), lambda x: x.abs().round()),
    "divergence": (nn.KLDivLoss(reduction="batchmean"), lambda x: x.abs()),
    "signs": (nn.SoftMarginLoss(), lambda x: x.sign()),
    "hinge": (F.hinge_embedding_loss, lambda x: x.sign()),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_targets_of_another_shape_are_never_broadcast(name):
    loss, target = NUMBERS[name]
    output = torch.randn(6, 1)
    y = target(torch.randn(6))
    assert as_loss(loss)(nn.Identity(), (output, y[:, None])).isfinite()
    with pytest.raises(TaskError, match=r"shape \(6, 1\) and the targets have \(6,\); .* y.unsqueeze\(-1\)"):
        as_loss(loss)(nn.Identity(), (output, y))
    with pytest.raises(TaskError, match=r"shape \(6,\) and the targets have \(6, 1\); .* y.squeeze\(-1\)"):
        as_loss(loss)(nn.Identity(), (output[:, 0], y[:, None]))


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.bool])
@pytest.mark.parametrize("name", ["mse", "l1", "huber", "logits"])
def test_whole_targets_are_numbers(name, kind):
    loss, output, y = as_loss(NUMBERS[name][0]), torch.randn(6, 1, requires_grad=True), torch.arange(6)[:, None] % 2
    whole = loss(nn.Identity(), (output, y.to(kind)))
    torch.testing.assert_close(whole, loss(nn.Identity(), (output, y.float())))
    whole.backward()


OUT_OF_RANGE = {
    "1 and 2": (nn.BCEWithLogitsLoss(), 1.0 + torch.arange(6)[:, None] % 2, "is 2, and targets of a binary"),
    "-1 and 1": (F.binary_cross_entropy_with_logits, 2.0 * (torch.arange(6)[:, None] % 2) - 1, "is -1, and targets"),
    "percent": (nn.BCEWithLogitsLoss(), 50.0 * (torch.arange(6)[:, None] % 2), "is 50, and targets"),
    "0..2 for signs": (nn.SoftMarginLoss(), torch.arange(6.0)[:, None] % 3, "is 2, and targets of this loss are 1"),
    "letters": (nn.MultiLabelSoftMarginLoss(), torch.full((6, 1), 3.0), "is 3, and targets"),
}


@pytest.mark.parametrize("form", OUT_OF_RANGE)
def test_targets_out_of_the_range_of_a_loss_are_told(form):
    loss, y, words = OUT_OF_RANGE[form]
    task = fa.Task((torch.randn(6, 4), y), (torch.randn(6, 4), y))
    with pytest.raises(TaskError, match=words):
        learner(loss, outputs=1)(task)


def test_log_probabilities_take_indices_alone():
    loss = as_loss(nn.NLLLoss())
    output = torch.randn(6, N).log_softmax(1)
    assert loss(nn.Identity(), (output, torch.arange(6, dtype=torch.int32) % N)).isfinite()
    with pytest.raises(TaskError, match=r"\(6, 3\) of torch.float32"):
        loss(nn.Identity(), (output, torch.eye(N).repeat(2, 1)))


@pytest.mark.parametrize("ignored", [-100, 255, -1])
def test_an_index_that_is_left_out_is_no_fault(ignored):
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    given = [fa.Task(*(((x, torch.where(torch.arange(6) == 1, ignored, y))) for x, y in (batch(), batch())))]
    outcome = learner(loss)(given)
    kept = [fa.Task(*((x[[0, 2, 3, 4, 5]], y[[0, 2, 3, 4, 5]]) for x, y in (batch(), batch())))]
    torch.testing.assert_close(outcome.losses, learner(loss)(kept).losses)


def test_a_method_that_reads_labels_in_its_own_way_is_not_judged():
    class Unlabelled(fa.MAML):
        def inner_objective(self, model, support):
            return model(support[0]).square().mean()

    x, y = batch()
    free = Unlabelled(nn.Linear(4, N), fa.cross_entropy, rule=fa.SGD(0.1))
    assert free(fa.Task((x, torch.full_like(y, -1)), (x, y))).loss.isfinite()


def test_a_network_with_an_output_for_each_class_of_the_task_is_not_judged_by_the_last_one():
    class AsMany(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 9))

        def forward(self, x):
            return x @ self.weight[:, : int(x.shape[0] // 2)]

    many = fa.MAML(AsMany(), fa.cross_entropy, rule=fa.SGD(0.1), route="loop")
    for n in (4, 10, 4):
        assert many(fa.Task(batch(n, classes=n // 2), batch(n, classes=n // 2))).loss.isfinite()


def test_the_labels_of_the_validation_are_looked_at_before_the_training():
    def sample(label):
        return lambda rng: tasks(label)[int(rng.integers(3))]

    refused = learner(fa.cross_entropy)
    before = copy.deepcopy(refused.state_dict())
    training = fa.Training(steps=5, meta_batch=2, validate_every=5)
    with pytest.raises(TaskError, match="the label is 3"):
        fa.meta_train(refused, sample(lambda y: y), training, validation=sample(lambda y: y + 1), quiet=True)
    assert all(torch.equal(before[name], value) for name, value in refused.state_dict().items())


def unequal(rng):
    middle, y = rng.normal(size=(2, 4)), torch.from_numpy(rng.permutation([0] * 18 + [1] * 6))
    x = torch.from_numpy(middle[y] * 2 + rng.normal(size=(24, 4))).float()
    return fa.Task((x[:12], y[:12]), (x[12:], y[12:]))


def by_hand(learner, sample, count):
    """Return the balanced accuracy and that of each class, with loops."""
    balanced, asked, right = [], np.zeros(2), np.zeros(2)
    for task in fa.draw(sample, seed=1, split="test", indices=range(count)):
        answer = learner.adapt(task.support)(task.query[0]).argmax(1)
        shares = []
        for c in task.query[1].unique().tolist():
            of = task.query[1] == c
            shares.append(float((answer[of] == c).float().mean()))
            asked[c] += int(of.sum())
            right[c] += int((answer[of] == c).sum())
        balanced.append(np.mean(shares))
    return np.mean(balanced), right / asked, asked


@pytest.mark.parametrize("form", [lambda y: y, lambda y: F.one_hot(y, 2).float(), lambda y: y.int()])
def test_accuracy_class_by_class_where_classes_are_unequal(form):
    def sample(rng):
        task = unequal(rng)
        return fa.Task(*((x, form(y)) for x, y in (task.support, task.query)))

    judged = learner(fa.cross_entropy, outputs=2)
    result = fa.evaluate(judged, sample, fa.Protocol(tasks=12))
    balanced, shares, asked = by_hand(judged, unequal, 12)
    assert result.by_class.balanced == pytest.approx(balanced)
    assert result.by_class.accuracy == pytest.approx(list(shares))
    assert result.by_class.queries == asked.tolist()
    assert "balanced accuracy" in str(result) and '"by_class"' in result.to_json()


def test_it_says_nothing_where_classes_are_equal():
    result = fa.evaluate(learner(fa.cross_entropy), lambda rng: tasks()[int(rng.integers(3))], fa.Protocol(tasks=6))
    assert result.by_class is None
    assert "balanced" not in str(result) and "by_class" not in result.to_json()


def test_always_the_larger_class_is_no_more_than_chance():
    class Larger(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(()))

        def forward(self, x):
            return torch.tensor([[1.0, 0.0]]).expand(len(x), 2) + self.w

    result = fa.evaluate(fa.MAML(Larger(), fa.cross_entropy, steps=1), unequal, fa.Protocol(tasks=8))
    assert result.result > 0.6
    assert result.by_class.accuracy == [1.0, 0.0]
    assert result.by_class.balanced == pytest.approx(0.5, abs=0.13)  # a task may have one class only


def test_what_else_does_not_fit_is_told():
    with pytest.raises(TaskError, match="a label for each of the 6 samples, and not 5"):
        learner(fa.cross_entropy)(fa.Task((batch()[0], batch()[1][:5]), batch()))
    with pytest.raises(TaskError, match="a target for each of the 6 samples, and not 5"):
        learner(fa.mse, outputs=1)(fa.Task((batch()[0], torch.ones(5, 1)), batch()))
    with pytest.raises(TaskError, match=r"weight tensor of shape: \[2\]; give the loss a weight for each output"):
        learner(nn.CrossEntropyLoss(weight=torch.ones(2)))(fa.Task(batch(), batch()))
    for loss in (fa.cross_entropy, fa.mse, nn.CrossEntropyLoss(), nn.L1Loss()):
        with pytest.raises(TaskError, match=r"are a tensor, got list; write torch.as_tensor\(y\)"):
            as_loss(loss)(nn.Linear(4, N), (batch()[0], [0, 1, 2, 0, 1, 2]))
