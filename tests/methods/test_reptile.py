import pytest
import torch
from torch import nn

from fastadapt import MLP, MSE, SGD, Adam, Execution, Momentum, Pretrain, Reptile, Task
from fastadapt.errors import ConfigError
from fastadapt.methods.minibatches import minibatch_order
from reference import adam, adapted, difference, grads_of, sgd

pytestmark = pytest.mark.usefixtures("double")
both_routes = pytest.mark.parametrize("route", ["vmap", "loop"])


class Point(nn.Module):
    def __init__(self, *values):
        super().__init__()
        self.phi = nn.Parameter(torch.tensor(values))

    def forward(self):
        return self.phi


def bowl(model, batch):
    a, c = batch
    away = model() - c
    return 0.5 * away @ a @ away


def bowl_task(a, c):
    batch = (torch.tensor(a), torch.tensor(c))
    return Task(batch, batch)


def net():
    return MLP(2, (5,), 1, activation="tanh", init_std=None)


def tasks(count=3, shots=6):
    batches = [(torch.randn(shots, 2), torch.randn(shots, 1)) for _ in range(count)]
    return [Task(batch, batch) for batch in batches]


def pseudo_gradient(learner, batch):
    learner.zero_grad()
    learner(batch).loss.backward()
    if learner.engine.route == "vmap":
        assert {plan.route for plan in learner.engine.plans.values()} == {"vmap"}
    return grads_of(learner.model)


def displacement(model, task, step, steps):
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    phi = adapted(model, MSE(), theta, task.support, step, steps, first_order=True)
    return {n: (theta[n] - phi[n]).detach() for n in theta}


@both_routes
def test_scalar_regression_has_the_direction_found_by_hand(route):
    line = nn.Linear(1, 1, bias=False)
    nn.init.ones_(line.weight)
    batch = (torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [3.0]]))
    grads = pseudo_gradient(Reptile(line, rule=SGD(0.05), steps=1, route=route), Task(batch, batch))
    assert float(grads["weight"]) / 0.05 == pytest.approx(-3.0, abs=1e-12)


@both_routes
@pytest.mark.parametrize(("ours", "theirs"), [(SGD(0.1), sgd(0.1)), (Adam(0.01), adam(0.01, 0.0))])
@pytest.mark.parametrize("steps", [1, 4])
def test_pseudo_gradient_is_the_mean_displacement(ours, theirs, steps, route):
    model, batch = net(), tasks()
    each = [displacement(model, task, theirs, steps) for task in batch]
    want = {n: sum(d[n] for d in each) / len(each) for n in each[0]}
    got = pseudo_gradient(Reptile(model, rule=ours, steps=steps, route=route), batch)
    assert difference(got, want) < 1e-12


@pytest.mark.parametrize("epsilon", [0.0, 1.0])
def test_plain_sgd_is_the_papers_interpolation(epsilon):
    model, [task] = net(), tasks(1)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    learner = Reptile(model, rule=SGD(0.1), steps=5)
    adapted_to = dict(learner.adapt(task.support).model.named_parameters())
    learner(task).loss.backward()
    torch.optim.SGD(learner.parameters(), lr=epsilon).step()
    for name, p in model.named_parameters():
        if epsilon == 0:
            assert torch.equal(p, before[name])
        else:
            torch.testing.assert_close(p, adapted_to[name], rtol=0, atol=1e-15)


def test_one_step_is_joint_training():
    model, batch = net(), tasks()
    joint = Pretrain(model)
    joint(batch).loss.backward()
    want = {n: 0.1 * g for n, g in grads_of(model).items()}
    assert difference(pseudo_gradient(Reptile(model, rule=SGD(0.1), steps=1), batch), want) < 1e-12


@both_routes
def test_quadratic_bowl_matches_the_closed_form(route):
    learner = Reptile(Point(1.0, 1.0), bowl, rule=SGD(0.1), steps=3, route=route)
    grads = pseudo_gradient(learner, bowl_task([[1.0, 0.0], [0.0, 3.0]], [0.5, -1.0]))
    torch.testing.assert_close(grads["phi"], torch.tensor([0.1355, 1.314]), rtol=0, atol=1e-14)


@pytest.mark.parametrize("state", ["serial", "mean", "reset"])
def test_one_task_gives_the_same_whichever_way_the_state_is_kept(state):
    model, [task] = net(), tasks(1)
    want = displacement(model, task, adam(0.01, 0.0), 3)
    got = pseudo_gradient(Reptile(model, rule=Adam(0.01), steps=3, inner_state=state), task)
    assert difference(got, want) < 1e-12


@both_routes
def test_order_of_tasks_does_not_matter_without_a_kept_state(route):
    learner, batch = Reptile(net(), rule=SGD(0.1), steps=3, route=route), tasks()
    want = {n: g.clone() for n, g in pseudo_gradient(learner, batch).items()}
    assert difference(pseudo_gradient(learner, batch[::-1]), want) < 1e-12


def test_serial_state_passes_from_task_to_task_and_on_to_the_next_batch_and_to_test():
    model, (first, second) = net(), tasks(2)
    theta = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    memory = {n: {} for n in theta}

    def run(task, steps=2):
        phi = dict(theta)
        for _ in range(steps):
            value = MSE()(lambda x, phi=phi: torch.func.functional_call(model, phi, (x,)), task.support)
            grads = torch.autograd.grad(value, list(phi.values()))
            phi = {n: adam(0.01, 0.5)(phi[n], g, memory[n]) for n, g in zip(theta, grads, strict=True)}
        return {n: (theta[n] - phi[n]).detach() for n in theta}

    learner = Reptile(model, rule=Adam(0.01, beta1=0.5), steps=2, inner_state="serial")
    for _ in range(2):
        a, b = run(first), run(second)
        got = pseudo_gradient(learner, [first, second])
        assert difference(got, {n: (a[n] + b[n]) / 2 for n in a}) < 1e-12
    at_test = learner.adapt(first.support)
    got = {n: (theta[n] - p).detach() for n, p in at_test.model.named_parameters()}
    assert difference(got, run(first)) < 1e-12


def test_mean_state_is_the_mean_over_tasks_of_what_each_reached():
    model, batch = net(), tasks(2)
    learner = Reptile(model, rule=Momentum(0.1, 0.9), steps=2, inner_state="mean")
    pseudo_gradient(learner, batch)
    alone = []
    for task in batch:
        single = Reptile(model, rule=Momentum(0.1, 0.9), steps=2, inner_state="mean")
        pseudo_gradient(single, task)
        alone.append(single.rule_state.value())
    kept = learner.rule_state.value()
    assert difference(kept, {n: (alone[0][n] + alone[1][n]) / 2 for n in kept}) < 1e-12
    assert max(float(m.abs().max()) for m in kept.values()) > 0


@pytest.mark.parametrize("state", ["serial", "mean"])
def test_evaluation_leaves_weights_and_kept_state_bit_identical(state):
    learner, batch = Reptile(net(), rule=Adam(0.01), steps=2, inner_state=state), tasks()
    pseudo_gradient(learner, batch)
    before = {n: v.clone() for n, v in learner.state_dict().items()}
    learner.trace(batch)
    learner.adapt(batch[0].support)
    with torch.no_grad():
        learner(batch)
    learner.eval()(batch)
    after = learner.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[n], before[n]) for n in before)
    assert any(n.startswith("rule_state") for n in before)


def test_kept_state_survives_a_state_dict():
    batch = tasks()
    learner, other = (Reptile(net(), rule=Adam(0.01), steps=2, inner_state="serial") for _ in range(2))
    pseudo_gradient(learner, batch)
    other.load_state_dict(learner.state_dict())
    want = {n: g.clone() for n, g in pseudo_gradient(learner, batch).items()}
    assert difference(pseudo_gradient(other, batch), want) == 0


def test_a_shared_optimum_is_a_fixed_point_that_training_reaches():
    batch = [bowl_task([[1.0, 0.0], [0.0, 3.0]], [0.5, -1.0]), bowl_task([[2.0, 0.5], [0.5, 1.0]], [0.5, -1.0])]
    torch.testing.assert_close(settled(batch), torch.tensor([0.5, -1.0]))


def test_two_symmetric_tasks_meet_halfway():
    a = [[1.0, 0.0], [0.0, 3.0]]
    batch = [bowl_task(a, [1.0, 2.0]), bowl_task(a, [-3.0, 0.0])]
    torch.testing.assert_close(settled(batch), torch.tensor([-1.0, 1.0]))


def settled(batch):
    learner = Reptile(Point(1.0, 1.0), bowl, rule=SGD(0.1), steps=3)
    optimizer = torch.optim.SGD(learner.parameters(), lr=1.0)
    for _ in range(100):
        optimizer.zero_grad()
        learner(batch).loss.backward()
        optimizer.step()
    return learner.model.phi.detach()


def test_minibatches_cover_one_pass_before_any_sample_repeats():
    assert minibatch_order(50, 10, 5).flatten().sort().values.tolist() == list(range(50))
    order = minibatch_order(100, 25, 5)
    assert len(set(order[:4].flatten().tolist())) == 100
    assert set(order[4].tolist()) < set(range(100))


def test_minibatches_with_replacement_are_distinct_inside_and_independent_between():
    order = minibatch_order(10, 5, 200, replacement=True)
    assert all(len(set(row.tolist())) == 5 for row in order)
    assert len(set(order[:2].flatten().tolist())) < 10 or len(set(order[2:4].flatten().tolist())) < 10
    assert torch.bincount(order.flatten(), minlength=10).min() > 60


@both_routes
@pytest.mark.parametrize("replacement", [False, True])
def test_each_inner_step_sees_its_own_minibatch(replacement, route):
    model, [task] = net(), tasks(1)
    learner = Reptile(model, rule=SGD(0.1), steps=4, batch=2, replacement=replacement, route=route)
    torch.manual_seed(5)
    got = pseudo_gradient(learner, task)
    torch.manual_seed(5)
    phi = {n: p.detach() for n, p in model.named_parameters()}
    for rows in minibatch_order(6, 2, 4, replacement=replacement):
        x, y = task.support
        grads = torch.func.grad(
            lambda p, x=x, y=y, r=rows: MSE()(lambda v: torch.func.functional_call(model, p, (v,)), (x[r], y[r]))
        )(phi)
        phi = {n: phi[n] - 0.1 * grads[n] for n in phi}
    want = {n: p.detach() - phi[n] for n, p in model.named_parameters()}
    assert difference(got, want) < 1e-12


@pytest.mark.parametrize("batch", [4, 6])
def test_a_small_task_does_not_shrink_the_minibatches_of_a_large_one(batch):
    model, [small], [large] = net(), tasks(1, shots=2), tasks(1, shots=6)
    learner = Reptile(model, rule=SGD(0.1), steps=3, batch=batch)
    torch.testing.assert_close(learner.trace([small, large]).losses[1:], learner.trace(large).losses)
    torch.testing.assert_close(learner.trace([small, large]).losses[:1], learner.trace(small).losses)


def test_a_support_set_always_gives_the_same_predictor_also_beside_other_tasks():
    learner, batch = Reptile(net(), rule=SGD(0.1), steps=3, batch=2), tasks()
    x = torch.randn(4, 2)
    torch.testing.assert_close(learner.adapt(batch[1].support)(x), learner.adapt(batch[1].support)(x), rtol=0, atol=0)
    last = learner.trace(batch).outputs[1][-1]
    torch.testing.assert_close(learner.adapt(batch[1].support)(batch[1].query[0]), last)


def test_evaluation_does_not_disturb_the_random_state():
    learner, batch = Reptile(net(), steps=3, batch=2), tasks()
    before = torch.get_rng_state()
    learner.trace(batch)
    learner.adapt(batch[0].support)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("setting", [{"batch": 0}, {"test_batch": 0}, {"inner_state": "keep"}, {"steps": -1}])
def test_settings_out_of_range_are_refused(setting):
    with pytest.raises(ConfigError):
        Reptile(net(), **setting)


@pytest.mark.parametrize("steps", [1, 3])
def test_recorded_steps_leave_parameters_that_do_not_adapt_where_they_are(steps, monkeypatch):
    """Programs of single steps take all tasks at once, and what does not adapt has no task axis."""
    monkeypatch.setattr("fastadapt.engine.programs.LONGEST", 0)
    model, batch = net(), tasks()
    want = pseudo_gradient(Reptile(model, rule=SGD(0.1), steps=steps, adapt="head", route="loop"), batch)
    learner = Reptile(model, rule=SGD(0.1), steps=steps, adapt="head", route=Execution(route="vmap", compile="trace"))
    assert difference(pseudo_gradient(learner, batch), want) < 1e-12
    assert not want["body.0.weight"].any() and {plan.compile for plan in learner.engine.plans.values()} == {"trace"}
