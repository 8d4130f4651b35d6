"""Low-rank factors: names and answers stay, what adapts is right, and they come off again."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

import fastadapt as fa
from fastadapt.errors import CheckpointError, ConfigError, SelectionError
from fastadapt.losses import BitsPerCharacter
from fastadapt.nets import Decoder, ViT, merged, with_lora

pytestmark = pytest.mark.usefixtures("double")


def base():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Decoder(7, context=6, width=8, depth=2, heads=2)


def stirred(model):
    """Move the factors off zero."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("lora_B"):
                p.normal_(std=0.3)
    return model


def drawn():
    return torch.randint(0, 7, (2, 6)), torch.randint(0, 7, (2, 6))


def tasks():
    return [fa.Task(drawn(), drawn()) for _ in range(3)]


def by_hand(model, tasks, rate, steps, exact, scale):
    """Return meta-objective and gradient to the factors, which are added to the weights of a plain network."""
    plain = base()
    factors = [name for name, _ in model.named_parameters() if "lora" in name]
    start = {n: p.detach().clone().requires_grad_(n in factors) for n, p in model.named_parameters()}

    def answer(theta, x):
        weights = {}
        for name, p in theta.items():
            if name in factors:
                continue
            stem = name.removesuffix("weight")
            pair = name.endswith("weight") and f"{stem}lora_A" in theta
            weights[name] = p + scale * theta[f"{stem}lora_B"] @ theta[f"{stem}lora_A"] if pair else p
        return functional_call(plain, weights, (x,))

    total = 0.0
    with sdpa_kernel(SDPBackend.MATH):
        for task in tasks:
            theta = dict(start)
            for _ in range(steps):
                loss = F.cross_entropy(answer(theta, task.support[0]), task.support[1])
                grads = torch.autograd.grad(loss, [theta[n] for n in factors], create_graph=exact)
                theta = {**theta, **{n: theta[n] - rate * g for n, g in zip(factors, grads, strict=True)}}
            total = total + F.cross_entropy(answer(theta, task.query[0]), task.query[1]) / len(tasks)
        return total.detach(), dict(zip(factors, torch.autograd.grad(total, [start[n] for n in factors]), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_factors_begin_such_that_nothing_changes_bit_for_bit(dtype):
    plain, x = base().to(dtype), torch.randint(0, 7, (4, 6))
    model = with_lora(copy.deepcopy(plain), 2)
    assert torch.equal(model(x), plain(x))
    assert [n for n, _ in model.named_parameters() if "lora" not in n] == [n for n, _ in plain.named_parameters()]
    trainable = {n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"lora_A", "lora_B"}


def test_what_was_saved_before_is_loaded_as_ever_and_leaves_the_factors_alone():
    plain, model, x = base(), stirred(with_lora(Decoder(7, context=6, width=8, depth=2, heads=2), 2)), drawn()[0]
    factor = model.blocks[0].up.lora_B.clone()
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model.blocks[0].up.lora_B, factor) and torch.equal(model.norm.weight, plain.norm.weight)
    again = with_lora(base(), 2)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    some = {name: value for name, value in model.state_dict().items() if not name.endswith("up.lora_B")}
    with pytest.raises(RuntimeError, match=r"up\.lora_B"):
        again.load_state_dict(some)


def test_merged_weights_answer_the_same_bit_for_bit_and_are_an_ordinary_model():
    model, x = stirred(with_lora(base(), 2, "blocks.*", alpha=6)), drawn()[0]
    want = model(x)
    plain = merged(copy.deepcopy(model))
    assert torch.equal(plain(x), want) and list(plain.state_dict()) == list(base().state_dict())
    assert type(plain.blocks[0].up) is nn.Linear
    plain.load_state_dict(base().state_dict())
    assert torch.equal(with_lora(plain, 1)(x), base()(x))


def test_a_weight_that_is_tied_is_merged_for_its_layer_alone():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.head, self.other = nn.Embedding(7, 6), nn.Linear(6, 7, bias=False), nn.Linear(6, 7)
            self.head.weight = self.other.weight = self.words.weight

        def forward(self, x):
            h = self.words(x)
            return self.head(h) + self.other(h)

    model, x = stirred(with_lora(Tied(), 2)), torch.arange(7)
    want, words = model(x), model.words.weight.clone()
    assert torch.equal(merged(model)(x), want) and torch.equal(model.words.weight, words)


def test_what_can_have_no_factors_yet_is_told():
    with pytest.raises(ConfigError, match="lazy layers"):
        with_lora(nn.Sequential(nn.LazyLinear(4)), 2)
    for rank in (0, True, 1.5):
        with pytest.raises(ConfigError, match="rank must be a whole number"):
            with_lora(nn.Linear(2, 2), rank)
    with pytest.raises(ConfigError, match="alpha must be finite"):
        with_lora(nn.Linear(2, 2), 1, alpha="4")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_it_is_copied_and_pickled(again):
    model, x = stirred(with_lora(base(), 2)), drawn()[0]
    twin = again(model)
    assert torch.equal(twin(x), model(x))
    stirred(twin)
    assert not torch.equal(twin(x), model(x))


@pytest.mark.parametrize("route", ["loop", pytest.param("vmap", marks=pytest.mark.long)])
@pytest.mark.parametrize("order", ["exact", "first_order"])
def test_the_meta_gradient_of_the_factors_is_that_of_added_weights(route, order):
    model, some = stirred(with_lora(base(), 2, "blocks.*", alpha=4)), tasks()
    want, gradient = by_hand(model, some, 1.0, 3, order == "exact", 2.0)
    learner = fa.MAML(
        model, BitsPerCharacter(), rule=fa.SGD(1.0), steps=3, adapt="lora", meta_gradient=order, route=route
    )
    outcome = learner(some)
    outcome.loss.backward()
    torch.testing.assert_close(outcome.loss.detach(), want, rtol=1e-9, atol=0)
    for name, p in model.named_parameters():
        if p.requires_grad:
            torch.testing.assert_close(p.grad, gradient[name], rtol=1e-8, atol=1e-9)
        else:
            assert p.grad is None
    assert {plan.route for plan in learner.engine.plans.values()} == {route}


@pytest.mark.long
def test_reptile_moves_the_factors_alone_on_both_routes():
    some, start = tasks(), stirred(with_lora(base(), 2, "blocks.1.*", freeze=False))
    loop, vmap = (copy.deepcopy(start) for _ in range(2))
    for model, route in ((loop, "loop"), (vmap, "vmap")):
        learner = fa.Reptile(model, BitsPerCharacter(), rule=fa.SGD(1.0), steps=2, adapt="lora", route=route)
        learner(some).loss.backward()
        assert {plan.route for plan in learner.engine.plans.values()} == {route}
    for (name, p), q in zip(loop.named_parameters(), vmap.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)
        assert (p.grad.abs().max() > 0) == ("lora" in name)


def test_a_factor_behind_another_function_counts_too():
    """`nn.MultiheadAttention` never calls its last projection; it hands its weight to a function."""
    plain = ViT(1, 5, size=8, patch=4, width=8, depth=1, heads=2)
    model, x = stirred(with_lora(copy.deepcopy(plain), 2, "*.out_proj")), torch.randn(2, 1, 8, 8)
    assert not torch.allclose(model(x), plain(x))
    torch.testing.assert_close(model.eval()(x), model.train()(x))


def test_layers_that_take_no_factors_are_named():
    with pytest.raises(SelectionError, match="'symbols' matches 'symbols' of class Embedding; those in the model are"):
        with_lora(base(), 2, "symbols")
    with pytest.raises(SelectionError, match="matches 'the whole model' of class Conv2d; those in the model are none"):
        with_lora(nn.Conv2d(1, 1, 1), 1)
    with pytest.raises(SelectionError, match="'nothing' matches no layer"):
        with_lora(base(), 2, ("blocks.*", "nothing"))
    with pytest.raises(SelectionError, match="leave no layer"):
        with_lora(base(), 2, ("head", "!head"))
    with pytest.raises(ConfigError, match="rank must be"):
        with_lora(base(), 0)
    with pytest.raises(ConfigError, match="alpha must be"):
        with_lora(base(), 1, alpha=-1)
    with pytest.raises(ConfigError, match=r"has factors already, the first in 'head'; .*merged"):
        with_lora(with_lora(base(), 2, "head"), 2)
    with pytest.raises(SelectionError, match=r"the model has none; put them in with fastadapt\.nets\.with_lora"):
        fa.MAML(base(), adapt="lora")
    with pytest.raises(SelectionError, match=r"those of the model are frozen, such as 'head.lora_A'; thaw them"):
        fa.select(with_lora(base(), 2, "head").requires_grad_(False), "lora")


def test_an_adapted_model_is_saved_as_its_factors_alone(tmp_path):
    model, task, x = with_lora(base(), 2, "blocks.*"), tasks()[0], drawn()[0]
    learner = fa.MAML(model, BitsPerCharacter(), rule=fa.SGD(1.0), steps=3, adapt="lora")
    predictor = learner.adapt(task.support)
    folder = fa.save_predictor(predictor, tmp_path / "adapted")
    held = load_file(folder / "weights.safetensors")
    assert sorted(held) == sorted(f"model.{n}" for n, p in model.named_parameters() if p.requires_grad)
    again = fa.load_predictor(folder, model=model)
    assert torch.equal(again(x), predictor(x)) and not torch.equal(again(x), model(x))
    with pytest.raises(CheckpointError, match=r"holds only 16 adapted tensors of a Decoder: pass the model"):
        fa.load_predictor(folder)
    with torch.no_grad():
        model.norm.weight[0] += 1e-9
    with pytest.raises(CheckpointError, match="has other weights beside the 16 adapted ones"):
        fa.load_predictor(folder, model=model)
    with pytest.raises(CheckpointError, match=r"has no 'blocks\.0\.attend\.lora_A'"):
        fa.load_predictor(folder, model=base())
    whole = fa.save_predictor(predictor, tmp_path / "whole", only="all")
    assert torch.equal(fa.load_predictor(whole, model=with_lora(base(), 2, "blocks.*"))(x), predictor(x))


@pytest.mark.parametrize("adapt", ["all", "head", "lora"])
def test_what_was_adapted_beside_factors_is_saved_as_well(tmp_path, adapt):
    net = with_lora(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)), 2, freeze=False)
    learner = fa.MAML(net, rule=fa.SGD(0.5), steps=3, adapt=adapt, norm="running")
    x, y = torch.randn(6, 3), torch.randn(6, 2)
    learner([fa.Task((x, y), (x, y))])  # moments that the module has not
    predictor = learner.adapt((x, y))
    for name, only in (("whole", None), ("apart", adapt)):
        fa.save_predictor(predictor, tmp_path / name, only=only)
        assert torch.equal(fa.load_predictor(tmp_path / name, model=net)(x), predictor(x))


def test_any_selection_is_saved_alone(tmp_path):
    net = fa.MLP(2, (4,), 1)
    learner = fa.MAML(net, rule=fa.SGD(0.1), steps=2, adapt="head")
    predictor = learner.adapt((torch.randn(5, 2), torch.randn(5, 1)))
    folder = fa.save_predictor(predictor, tmp_path / "head", only="head")
    assert len(load_file(folder / "weights.safetensors")) == 2
    x = torch.randn(3, 2)
    assert torch.equal(fa.load_predictor(folder, model=net)(x), predictor(x))
