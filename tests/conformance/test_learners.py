"""What every learner promises, whatever its method, on every kind of task."""

import copy
import pickle

import pytest
import torch
from torch.utils import _pytree as pytree

from conformance.kinds import KINDS, LEARNERS, USUAL
from fastadapt import Outcome, Predictor, Task
from fastadapt.errors import ConfigError
from fastadapt.judging.loss_values import value_of

pytestmark = pytest.mark.usefixtures("double")


LONG = ("cdt", "imaml", "ttt", "mamlpp", "protomaml", "fine_tune", "fine_tune_transductive", "nearest_support")
SLOW = (
    "ttt_first_order",
    "maml_segments",
    "maml_minibatch",
    "mfr",
    "mldg",
    "foml",
    "meta_lstm_exact",
    "mamlpp_first_order",
    "protomaml_first_order",
)


def when(name, kind):
    """Return the marks of a method on a kind of task: most run by default on classes, MAML on all kinds."""
    if name == "maml":
        return []
    if kind == "regression" and "classification" not in (LEARNERS[name].kinds or USUAL):
        return []
    again = LEARNERS[name].setting or name in LONG  # a setting of a method that runs, or long itself
    if name in SLOW or kind not in ("classification", "ragged", "pairs", "streams"):
        return [pytest.mark.slow]
    if kind == "ragged":
        return [pytest.mark.slow if again else pytest.mark.long]
    return [pytest.mark.long] if again else []


CASES = [
    pytest.param((name, kind), id=f"{name}-{kind}", marks=when(name, kind))
    for name, entry in LEARNERS.items()
    for kind in entry.kinds or USUAL
]


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def entry(case):
    return LEARNERS[case[0]]


@pytest.fixture
def kind(case):
    return KINDS[case[1]]


@pytest.fixture
def tasks(kind):
    return kind.tasks()


@pytest.fixture
def learner(entry, kind):
    return entry.build(kind.model(), kind.loss)


def inputs(batch):
    return pytree.tree_leaves(batch)[0]


def backward(learner, tasks):
    """Return the outcome and gradients of a copy, so that nothing a learner keeps between calls can matter."""
    twin = copy.deepcopy(learner)
    torch.manual_seed(7)
    outcome = twin(tasks)
    backward_of(twin, outcome)
    return outcome, {n: p.grad for n, p in twin.named_parameters() if p.requires_grad}


def backward_of(learner, outcome):
    if any(p.requires_grad for p in learner.parameters()):
        outcome.loss.backward()


def everything(learner):
    state = {name: value.clone() for name, value in learner.state_dict().items()}
    flags = {name: (module.training, set(vars(module))) for name, module in learner.named_modules()}
    return state, flags, {n: (p.requires_grad, id(p)) for n, p in learner.named_parameters()}


def assert_same(before, after):
    assert before[1:] == after[1:]
    assert before[0].keys() == after[0].keys()
    for name in before[0]:
        assert torch.equal(before[0][name], after[0][name]), name


def test_forward_gives_a_scalar_loss_and_one_loss_per_task(learner, tasks):
    outcome = learner(tasks)
    assert isinstance(outcome, Outcome)
    assert outcome.loss.shape == ()
    assert outcome.losses.shape == (len(tasks),)
    torch.testing.assert_close(outcome.loss.detach(), outcome.losses.mean())
    assert all(values.shape == (len(tasks),) for values in outcome.metrics.values())
    assert len(outcome.outputs) in (0, len(tasks))
    for output, task in zip(outcome.outputs, tasks, strict=False):
        assert len(output) == len(inputs(task.query))


def test_backward_reaches_every_trainable_parameter_and_no_frozen_one(entry, learner, tasks):
    assert any(p.requires_grad for p in learner.parameters()) == entry.trains
    if not entry.trains:
        pytest.skip("it has nothing to train")
    learner(tasks).loss.backward()
    for name, p in learner.named_parameters():
        if p.requires_grad:
            assert p.grad is not None and p.grad.isfinite().all(), name
        else:
            assert p.grad is None, name
    first = learner.model.first.weight
    assert not first.requires_grad or first.grad.abs().max() > 0 or "first.weight" not in learner.adapted
    assert any(p.grad.abs().max() > 0 for p in learner.parameters() if p.grad is not None)


def test_permuting_tasks_permutes_losses_and_keeps_gradients(entry, learner, tasks):
    if entry.shuffles:
        pytest.skip("its minibatches are drawn in the order of the tasks")
    order = [2, 0, 3, 1]
    first, want = backward(learner, tasks)
    second, got = backward(learner, [tasks[i] for i in order])
    torch.testing.assert_close(second.losses, first.losses[order])
    for values, same in zip(second.metrics.values(), first.metrics.values(), strict=True):
        torch.testing.assert_close(values, same[order])
    for i, output in zip(order, second.outputs, strict=False):
        torch.testing.assert_close(output, first.outputs[i])
    for name in want:
        torch.testing.assert_close(got[name], want[name], msg=name)


def test_a_task_does_not_see_its_neighbours(learner, tasks, kind):
    other = kind.tasks()
    first, _ = backward(learner, tasks)
    second, _ = backward(learner, [*other[:3], tasks[3]])
    torch.testing.assert_close(second.losses[3], first.losses[3], rtol=1e-12, atol=0)
    assert not torch.allclose(second.losses[:3], first.losses[:3])
    traced = learner.trace(tasks).losses
    torch.testing.assert_close(learner.trace([*other[:3], tasks[3]]).losses[3], traced[3], rtol=1e-12, atol=0)


def test_gradient_of_a_meta_batch_is_the_mean_over_its_tasks(entry, learner, tasks):
    if entry.shuffles:
        pytest.skip("its minibatches are drawn in the order of the tasks")
    _, want = backward(learner, tasks)
    alone = [backward(learner, [task])[1] for task in tasks]
    for name in want:
        torch.testing.assert_close(sum(g[name] for g in alone) / len(tasks), want[name], msg=name)


@pytest.mark.parametrize("training", [True, False])
def test_learner_is_bit_identical_after_forward_adapt_and_trace(learner, tasks, training):
    learner.train(training)
    learner.model.first.eval()  # a part that the user froze stays as it is
    before = everything(learner)
    learner.adapt(tasks[0].support)
    learner.trace(tasks)
    if not (training and getattr(learner, "running", None)):  # its averages follow whatever it sees in training
        with torch.no_grad():
            learner(tasks)
    assert_same(before, everything(learner))
    model_before = everything(learner.model)
    backward_of(learner, learner(tasks))
    assert_same(model_before, everything(learner.model))


def test_adapted_predictor_answers_like_the_last_column_of_the_trace(learner, tasks):
    trace = learner.trace(tasks)
    assert trace.losses.shape[0] == len(tasks)
    assert all(values.shape == trace.losses.shape for values in trace.metrics.values())
    for task, outputs in zip(tasks, trace.outputs, strict=True):
        predict = learner.adapt(task.support)
        assert isinstance(predict, Predictor)
        torch.testing.assert_close(predict(inputs(task.query)).detach(), outputs[-1])


def test_trace_begins_with_the_unadapted_model_and_has_a_column_for_each_step(entry, learner, tasks, kind):
    if not entry.has_steps:
        pytest.skip("it takes no inner steps")
    trace = learner.trace(tasks, steps=3)
    assert trace.losses.shape == (len(tasks), 4)
    for i, task in enumerate(tasks):
        for column in (0, 3):
            predict = learner.adapt(task.support, steps=column)
            judged = value_of(kind.loss(predict, task.query))[0].detach()
            torch.testing.assert_close(judged, trace.losses[i, column])
    assert not torch.allclose(trace.losses[:, 0], trace.losses[:, 3])


def test_judging_after_some_steps_gives_the_columns_of_judging_after_all(entry, learner, tasks):
    if not entry.has_steps:
        pytest.skip("it takes no inner steps")
    whole = learner.trace(tasks, steps=3)
    for after in ([0, 2], [3], [1]):
        some = learner.trace(tasks, steps=3, after=after)
        torch.testing.assert_close(some.losses, whole.losses[:, after])
        assert {name: value.shape for name, value in some.metrics.items()} == {
            name: (len(tasks), len(after)) for name in whole.metrics
        }
        for few, all_of_them in zip(some.outputs, whole.outputs, strict=True):
            torch.testing.assert_close(few, all_of_them[after])


@pytest.mark.parametrize("after", [[], [2, 1], [1, 1], [-1], [4], [0.5, 1]])
def test_steps_that_can_not_be_judged_are_refused(learner, tasks, after):
    with pytest.raises(ConfigError, match=r"ascending numbers of inner steps among 0\.\.3"):
        learner.trace(tasks, steps=3, after=after)


def test_no_inner_step_gives_the_initial_model(entry, learner, tasks):
    if not entry.has_steps or entry.own_head:
        pytest.skip("it takes no inner steps, or its first answer is made of the support set")
    x = inputs(tasks[0].query)
    bare = copy.deepcopy(learner.model).train()  # a batch norm in training normalises by its own batch
    bare.train(getattr(learner, "running", None) is None)  # unless it has running averages, here still its own
    torch.testing.assert_close(learner.adapt(tasks[0].support, steps=0)(x), bare(x))


def test_adapting_begins_at_the_start_and_ends_where_adapt_does(learner, tasks):
    support, x = tasks[0].support, inputs(tasks[0].query)
    path = list(learner.adapting(support, 2))
    assert torch.equal(path[-1](x), learner.adapt(support, steps=2)(x))
    if len(path) > 1:  # a method without inner steps has one state
        assert len(path) == 3
        assert torch.equal(path[0](x), learner.adapt(support, steps=0)(x))


def test_adapting_reads_the_support_set(learner, tasks, kind):
    a, b = (learner.adapt(task.support) for task in tasks[:2])
    x = inputs(tasks[0].query)
    assert not torch.allclose(a(x), b(x))


@pytest.mark.parametrize("route", ["vmap", "loop"])
def test_inference_mode_gives_the_same_answers(entry, kind, tasks, route):
    learner = entry.build(kind.model(), kind.loss, **({"route": route} if entry.has_route else {})).eval()
    predict, trace, x = learner.adapt(tasks[0].support), learner.trace(tasks), inputs(tasks[0].query)
    with torch.no_grad():
        losses, answers = learner(tasks).losses, predict(x)
    with torch.inference_mode():
        support = pytree.tree_map_only(torch.Tensor, torch.clone, tasks[0].support)  # tensors that autograd refuses
        for same in (tasks[0].support, support):
            torch.testing.assert_close(learner.adapt(same)(x), answers)
        torch.testing.assert_close(learner.trace(tasks).losses, trace.losses)
        torch.testing.assert_close(learner.trace([Task(support, tasks[0].query)]).losses, trace.losses[:1])
        if not entry.shuffles:
            torch.testing.assert_close(learner(tasks).losses, losses)


def test_state_dict_carries_all_that_adapt_needs(entry, learner, tasks, kind):
    learner(tasks)
    other = entry.build(kind.model(), kind.loss)
    x, support = inputs(tasks[0].query), tasks[0].support
    assert not torch.allclose(other.adapt(support)(x), learner.adapt(support)(x))
    other.load_state_dict(learner.state_dict())
    torch.testing.assert_close(other.adapt(support)(x), learner.adapt(support)(x), rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", [lambda p: torch.optim.SGD(p, 0.2), lambda p: torch.optim.Adam(p, 0.01)])
def test_ordinary_optimizers_train_it(entry, learner, tasks, optimizer):
    if not entry.trains:
        pytest.skip("it has nothing to train")
    frozen = learner.model.scale.clone()
    step, losses = optimizer(learner.parameters()), []
    for _ in range(8):
        torch.manual_seed(3)  # the same minibatches each time, where there are some
        step.zero_grad()
        outcome = learner(tasks)
        outcome.loss.backward()
        step.step()
        losses.append(float(outcome.losses.detach().mean()))
    assert (min(losses[1:]) if entry.shuffles else losses[-1]) < losses[0]
    assert torch.equal(learner.model.scale, frozen)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_predictor_and_learner_can_be_copied_and_pickled(learner, tasks, again):
    backward_of(learner, learner(tasks))
    predict, x = learner.adapt(tasks[0].support), inputs(tasks[0].query)
    torch.testing.assert_close(again(predict)(x), predict(x), rtol=0, atol=0)


def test_predictor_is_independent_of_the_learner(learner, tasks):
    predict, x = learner.adapt(tasks[0].support), inputs(tasks[0].query)
    before = predict(x).detach()
    with torch.no_grad():
        for p in learner.parameters():
            p.add_(1.0)
    torch.testing.assert_close(predict(x).detach(), before, rtol=0, atol=0)


def test_both_routes_give_the_same_numbers(entry, kind, tasks):
    if not entry.has_route:
        pytest.skip("it takes no route")
    model = kind.model()
    loop, vmap = (entry.build(copy.deepcopy(model), kind.loss, route=route) for route in ("loop", "vmap"))
    vmap.load_state_dict(loop.state_dict())  # a learner may have first weights of its own
    (a, want), (b, got) = backward(loop, tasks), backward(vmap, tasks)
    torch.testing.assert_close(b.losses, a.losses)
    for name in want:
        torch.testing.assert_close(got[name], want[name], msg=name)
    torch.testing.assert_close(vmap.trace(tasks).losses, loop.trace(tasks).losses)
    assert {plan.route for plan in vmap.engine.plans.values()} == {
        "vmap"
    }  # and not the loop that stands in where the two disagree


def test_float32_is_close_to_float64(entry, learner, tasks):
    narrow = copy.deepcopy(learner).float()
    halves = [(t.support, t.query) for t in tasks]
    few = pytree.tree_map_only(torch.Tensor, lambda v: v.float() if v.is_floating_point() else v, halves)
    single = [type(tasks[0])(*pair) for pair in few]
    (a, want), (b, got) = backward(learner, tasks), backward(narrow, single)
    assert b.loss.dtype == torch.float32
    torch.testing.assert_close(b.losses.double(), a.losses, rtol=1e-4, atol=1e-5)
    for name in want:
        assert got[name].dtype == torch.float32
        torch.testing.assert_close(got[name].double(), want[name], rtol=2e-3, atol=1e-4, msg=name)
