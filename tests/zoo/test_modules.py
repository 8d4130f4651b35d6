"""Modules that people write, each beside its twin written out by hand: equal to 1e-10, in every setting and route."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, SGD, Protocol, Task, evaluate
from zoo import modules_recomputed, modules_shared
from zoo.modules import ZOO
from zoo.modules_layers import Words, words_of
from zoo.trial import (
    ROUTES,
    assert_untouched,
    cases,
    check,
    check_adapt,
    check_everything,
    check_meta_gradient,
    check_reptile,
    check_trace,
    check_twin,
    in_turn,
    kept,
)

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("name", ZOO)
def test_the_twin_is_one(name):
    check_twin(ZOO[name])


@pytest.mark.parametrize("name, setting", cases(ZOO, closely=[*modules_shared.ZOO, *modules_recomputed.ZOO]))
def test_meta_gradient(name, setting):
    check_meta_gradient(ZOO[name], setting)


@pytest.mark.parametrize("name, rule, steps", in_turn(ZOO, ("sgd", 3), ("adam", 7)))
def test_adapted_parameters_and_answers(name, rule, steps):
    check(check_adapt, ZOO[name], rule, steps)


@pytest.mark.parametrize(
    "name, rule, steps, route", in_turn(ZOO, ("adam", 3, "loop"), ("sgd", 1, "vmap"), ("sgd", 7, "loop"))
)
def test_traced_losses(name, rule, steps, route):
    check(check_trace, ZOO[name], rule, steps, route)


@pytest.mark.parametrize(
    "name, rule, steps, route",
    in_turn(ZOO, ("sgd", 3, "vmap"), ("adam", 7, "loop"), ("sgd", 3, "loop")),
)
def test_displacement_of_reptile(name, rule, steps, route):
    check(check_reptile, ZOO[name], rule, steps, route)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", ZOO)
def test_every_setting(name):
    check_everything(ZOO[name])


@pytest.mark.parametrize("norm", [0.5, 1.0])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("bag", [False, True])
def test_an_embedding_that_bounds_its_norms_leaves_the_users_weights_alone(route, bag, norm):
    """torch renormalises the rows that it looks up in place, during `forward`."""
    embed = (nn.EmbeddingBag if bag else nn.Embedding)(5, 3, max_norm=norm)
    model = Words(embed)
    with torch.no_grad():
        embed.weight.mul_(10)
    learner = MAML(model, rule=SGD(0.1), steps=2, meta_gradient="first_order", route=ROUTES[route])

    def sample(_):
        return Task((words_of(4), torch.randn(4, 2)), (words_of(3), torch.randn(3, 2)))

    tasks = [sample(None) for _ in range(2)]
    before = kept(model)
    predict = learner.adapt(tasks[0].support)
    assert_untouched(model, before)
    with torch.no_grad():
        assert predict(tasks[0].query[0]).isfinite().all()
    assert learner.trace(tasks).losses.isfinite().all()
    assert_untouched(model, before)
    evaluate(learner, sample, Protocol(tasks=2, steps=2))
    assert_untouched(model, before)
    outcome = learner(tasks)
    outcome.loss.backward()
    assert outcome.losses.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert_untouched(model, before)
