"""One adaptation, step by step, against the learner's own `adapt` and against closed forms."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt.predictor import Predictor
from fastadapt.serve.adaptation import answers, held_out, nearest, steps_of
from fastadapt.serve.heads import featuriser, head_of, nearest_mean
from fastadapt.serve.problems import Problem
from serve.kit import SHAPES, drawing, picture, waves


def go_on():
    pass


def support(model, ways=3, shots=2):
    rows = [model.recipe.decode(picture(name, shift=2 * i), "x") for name in SHAPES[:ways] for i in range(shots)]
    return torch.stack(rows), torch.arange(ways).repeat_interleave(shots)


def queries(model):
    return torch.stack([model.recipe.decode(picture(name, shift=3), "x") for name in SHAPES])


@pytest.mark.parametrize("norm", ["support", "transductive", "running", "per_step"])
def test_every_step_is_what_adapt_returns_for_so_many(norm):
    model = drawing(norm=norm)
    x, y = support(model)
    asked = queries(model)
    learner = model.run_for(3).learner
    found = list(steps_of(model, "maml", (x, y), 3, None, asked, go_on))
    assert [step.number for step in found] == [0, 1, 2, 3]
    for step in found:
        predictor = learner.adapt((x, y), steps=step.number, norm=model.norm)
        with torch.no_grad():
            expected = torch.cat([predictor(row) for row in asked.split(1)]).double().softmax(-1)
        assert torch.equal(step.answers, expected)


def test_loss_and_accuracy_are_those_of_the_support():
    model = waves()
    x, y = torch.tensor([[-1.0], [0.0], [2.0]]), torch.tensor([[0.5], [0.0], [1.0]])
    for step in steps_of(model, "reptile", (x, y), 2, None, x[:1], go_on):
        with torch.no_grad():
            assert step.loss == pytest.approx(float(F.mse_loss(step.predictor(x), y)))
        assert step.accuracy is None
    image = drawing(norm="running")
    x, y = support(image)
    for step in steps_of(image, "maml", (x, y), 2, None, x[:0], go_on):
        with torch.no_grad():
            logits = step.predictor(x)
        assert step.loss == pytest.approx(float(F.cross_entropy(logits, y)))
        assert step.accuracy == pytest.approx(float((logits.argmax(1) == y).float().mean()))


def test_fine_tuning_starts_elsewhere_and_always_at_the_same_place():
    model, again = drawing(), drawing()
    x, y = support(model)
    first = [next(iter(steps_of(m, "fine-tune", (x, y), 1, None, x, go_on))).answers for m in (model, again)]
    assert torch.equal(first[0], first[1])
    learned = next(iter(steps_of(model, "maml", (x, y), 1, None, x, go_on))).answers
    # an untrained model is a random start too, so another seed than the model's own is told by the weights
    weights = [model.learner(method, 3).state_dict()["model.head.weight"] for method in ("maml", "fine-tune")]
    assert weights[0].shape == weights[1].shape and learned.shape == first[0].shape


def test_building_a_random_start_draws_nothing_from_the_common_generator():
    model = drawing()
    before = torch.get_rng_state()
    model.learner("fine-tune", 4)
    model.learner("fine-tune", 4)
    assert torch.equal(torch.get_rng_state(), before)


def test_nearest_mean_is_the_softmax_of_squared_distances_to_the_class_means():
    model = drawing()
    x, y = support(model)
    asked = queries(model)
    [step] = steps_of(model, "nearest-mean", (x, y), 7, None, asked, go_on)
    start = model.run_for(3).learner.adapt((x, y), steps=0, norm="support")
    net = start.model
    with torch.no_grad():
        body = featuriser(start)
        assert body is not None
        seen = torch.cat([body(row) for row in asked.split(1)]).double()
        together = Predictor(net, "transductive")
        features = []
        handle = net.head.register_forward_pre_hook(lambda _, given: features.append(given[0]))
        together(x)
        handle.remove()
        means = torch.stack([features[0][y == c].double().mean(0) for c in range(3)])
    between = torch.stack([(means[i] - means[j]).square().sum() for i in range(3) for j in range(3) if i != j]).mean()
    distances = torch.stack([(seen - mean).square().sum(1) for mean in means], 1)
    torch.testing.assert_close(step.answers, (-distances / between).softmax(1), rtol=1e-4, atol=1e-5)
    assert step.number == 0


def test_nearest_mean_puts_each_mean_into_its_own_class():
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 4))
    x = torch.tensor([[0.0, 0.0], [0.0, 2.0], [4.0, 0.0], [4.0, 2.0]])
    y = torch.tensor([0, 0, 1, 1])
    predictor = nearest_mean(Predictor(net, "running"), (x, y), x)
    with torch.no_grad():
        logits = predictor(torch.tensor([[0.0, 1.0], [4.0, 1.0], [2.0, 5.0]]))
    # the means are 4 apart, so the squared distances 0 and 16 become 0 and -1
    assert (logits[0, 0] - logits[0, 1]).item() == pytest.approx(1.0)
    assert (logits[1, 1] - logits[1, 0]).item() == pytest.approx(1.0)
    assert (logits[2, 0] - logits[2, 1]).item() == pytest.approx(0.0, abs=1e-6)


def test_the_head_is_the_last_layer_if_that_is_linear():
    assert head_of(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))) == "1"
    assert head_of(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))) is None
    assert head_of(nn.ReLU()) is None
    assert head_of(nn.Linear(2, 3)) is None  # the module itself: there is nothing before it
    assert featuriser(Predictor(nn.ReLU(), "running")) is None


def test_the_nearest_sample_of_a_sample_is_itself():
    model = drawing(norm="running")
    x, y = support(model, 3, 2)
    *_, last = steps_of(model, "maml", (x, y), 1, None, x[:0], go_on)
    found = nearest(last.predictor, (x, y), x, go_on)
    assert found == [{"class": c, "image": i} for c in range(3) for i in range(2)]
    assert nearest(last.predictor, (x, y), x[:0], go_on) == []


def test_held_out_accuracy_leaves_each_sample_out_once():
    model = drawing()
    x, y = support(model, 3, 3)
    keep = torch.tensor([True] * 7 + [False] * 2)  # three, three and one of a class
    x, y = x[keep], y[keep]
    right = asked = 0
    for fold in range(3):
        out = torch.tensor([fold, 3 + fold])
        rest = torch.tensor([i for i in range(7) if i not in out.tolist()])
        predictor = model.run_for(3).learner.adapt((x[rest], y[rest]), steps=2, norm="support")
        guess = answers(predictor, x[out], True, go_on).argmax(1)
        right, asked = right + int((guess == y[out]).sum()), asked + 2
    before, after = held_out(model, "maml", (x, y), 2, None, go_on)
    assert after == right / asked and 0 <= before <= 1
    assert held_out(model, "maml", support(model, 3, 1), 2, None, go_on) is None
    assert held_out(waves(), "reptile", (torch.zeros(4, 1), torch.zeros(4, 1)), 1, None, go_on) is None


def test_the_check_is_called_between_steps_and_stops_it():
    model, calls = drawing(), []

    def check():
        calls.append(1)
        if len(calls) > 4:
            raise Problem(409, "cancelled", "stopped")

    x, y = support(model)
    found = []
    with pytest.raises(Problem, match="stopped"):
        for step in steps_of(model, "maml", (x, y), 50, None, x[:0], check):
            found.append(step.number)
    assert 1 <= len(found) <= 4


def test_a_learner_is_nobody_elses():
    model = drawing()
    first, second = model.learner("maml", 3), model.learner("maml", 3)
    assert first is not second and first is not model.run_for(3).learner
    assert {id(p) for p in first.parameters()}.isdisjoint(id(p) for p in second.parameters())


def test_memory_grows_with_the_samples_and_bounds_what_is_measured():
    from fastadapt.engine.memory import PeakBytes

    model = drawing()
    few, many = model.bytes_for(3, 6), model.bytes_for(3, 30)
    assert many == pytest.approx(5 * few) and few > 0
    x, y = support(model, 3, 10)
    with PeakBytes() as memory:
        model.run_for(3).learner.adapt((x, y), 1, "support")
    assert 0.5 * memory.peak < many < 2 * memory.peak
