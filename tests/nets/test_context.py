"""The context beside the input: its place, what adapts, its meta-gradient in float64, and as the network of a run."""

import json

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, MSE, SGD, Conv4, CrossEntropy, Execution, Predictor, Task
from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.nets import WithContext
from fastadapt.nets.settings import build_net
from fastadapt.runs.config import Conv4Net, MAMLMethod, MLPNet, OmniglotData, ResNet12Net, RunConfig, SinusoidData
from fastadapt.runs.predictor_file import load_predictor, save_predictor
from fastadapt.runs.run_files import export_model, load_run
from fastadapt.selection import select
from fastadapt.training.checkpoint import Checkpoint, save_checkpoint
from reference import difference, grads_of, maml, sgd

both_routes = pytest.mark.parametrize("route", ["vmap", "loop"])


def dense():
    return WithContext(MLP(2 + 3, (5,), 1, activation="tanh", init_std=None), 3)


def convolutional():
    return WithContext(Conv4(1 + 2, 3, 2, size=16), 2)


def points(count=3):
    batches = [[(torch.randn(n, 2), torch.randn(n, 1)) for n in (6, 4)] for _ in range(count)]
    return [Task(*pair) for pair in batches]


def images(count=2):
    batches = [[(torch.randn(n, 1, 16, 16), torch.arange(n) % 2) for n in (4, 6)] for _ in range(count)]
    return [Task(*pair) for pair in batches]


CASES = {"dense": (dense, MSE(), points), "convolutional": (convolutional, CrossEntropy(), images)}


# ---- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "flat", "width"),
    [((4,), False, 4), ((4,), True, 4), ((2, 5, 6), False, 2), ((2, 5, 6), True, 60), ((2, 7), False, 2)],
)
def test_the_context_is_put_behind_the_second_axis(shape, flat, width):
    net = WithContext(nn.Identity(), 3, flat=flat)
    with torch.no_grad():
        net.context.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = torch.randn(2, *shape)
    y = net(x)
    given = x.flatten(1) if flat else x
    assert torch.equal(y[:, :width], given)
    assert y.shape == (2, width + 3, *given.shape[2:])
    for i in range(3):
        assert torch.equal(y[:, width + i], torch.full_like(y[:, 0], i + 1))


def test_it_begins_at_zero_where_the_network_is_as_it_was_and_its_gradient_is_not_zero():
    net, x = dense(), torch.randn(4, 2)
    assert torch.equal(net.context, torch.zeros(3))
    plain = MLP(2, (5,), 1, activation="tanh", init_std=None)
    plain.load_state_dict({n: v[:, :2] if n == "body.0.weight" else v for n, v in net.net.state_dict().items()})
    torch.testing.assert_close(net(x), plain(x))
    net(x).sum().backward()
    assert net.context.grad.abs().min() > 0


def test_maps_are_put_beside_the_image_and_pass_a_batch_norm_that_stops_numbers():
    net = WithContext(nn.Identity(), 2, maps=(5, 6))
    assert net.context.shape == (2, 5, 6)
    with torch.no_grad():
        net.context.copy_(torch.randn(2, 5, 6))
    x = torch.randn(3, 1, 5, 6)
    assert torch.equal(net(x), torch.cat([x, net.context.expand(3, 2, 5, 6)], 1))
    with pytest.raises(ConfigError, match=r"maps are \(5, 6\) and the images \(6, 5\)"):
        net(x.transpose(2, 3))

    def response(**settings):
        torch.manual_seed(0)
        inner = nn.Sequential(nn.Conv2d(1 + 2, 4, 1), nn.BatchNorm2d(4))  # no border through which a number could act
        built = WithContext(inner, 2, **settings)
        before = built(x)
        with torch.no_grad():
            built.context.copy_(torch.randn_like(built.context))
        return (built(x) - before).abs().max()

    assert response() < 1e-4 and response(maps=(5, 6)) > 0.1
    with pytest.raises(ConfigError, match="leave out flat or maps"):
        WithContext(nn.Identity(), 2, flat=True, maps=(5, 6))


def test_a_context_needs_a_number():
    with pytest.raises(ConfigError, match="got size=0"):
        WithContext(nn.Identity(), 0)


@pytest.mark.parametrize("build", [dense, convolutional])
def test_selections_find_it(build):
    net = build()
    for pattern in ("context", "context*", "cont*"):
        assert select(net, pattern) == ("context",)
    assert select(net, "head") == ("net.head.weight", "net.head.bias")
    assert set(select(net, "body")) == {n for n, _ in net.named_parameters()} - {"net.head.weight", "net.head.bias"}
    assert select(net, "body")[0] == select(net, "all")[0] == "context"
    assert "context" not in select(net, ("*", "!context"))


# ---- the ablation --------------------------------------------------------------------------------


@pytest.mark.usefixtures("double")
@both_routes
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_meta_gradient_equals_plain_autograd_and_reaches_every_weight(name, first_order, route):
    build, loss, draw = CASES[name]
    net, batch = build(), draw()
    losses, want = maml(net, loss, batch, sgd(0.5), 2, names=["context"], first_order=first_order)
    kind = "first_order" if first_order else "exact"
    outcome = MAML(net, loss, rule=SGD(0.5), steps=2, adapt="context*", meta_gradient=kind, route=route)(batch)
    outcome.loss.backward()
    torch.testing.assert_close(outcome.losses, losses)
    got = grads_of(net)
    assert difference(got, want) < 1e-8
    first = "net.body.0.weight" if name == "dense" else "net.blocks.0.0.weight"
    size = net.context.numel()
    assert all(g.abs().max() > 0 for n, g in got.items() if ".0.bias" not in n)  # BN hides those of convolutions
    assert got[first][:, -size:].abs().max() > 0  # the weights that meet z, although it begins at zero


@pytest.mark.long
@pytest.mark.usefixtures("double")
@both_routes
@pytest.mark.parametrize("name", CASES)
def test_recorded_programs_give_the_eager_numbers(name, route):
    build, loss, draw = CASES[name]
    net, batch = build(), draw()
    _, want = maml(net, loss, batch, sgd(0.5), 2, names=["context"])
    execution = Execution(route=route, compile="trace", threads=1)
    learner = MAML(net, loss, rule=SGD(0.5), steps=2, adapt="context", route=execution)
    for _ in range(2):  # the first time checks, the second runs
        learner.zero_grad()
        learner(batch).loss.backward()
        assert difference(grads_of(net), want) < 1e-8
    assert {plan.compile for plan in learner.engine.plans.values()} == {"trace"}


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", CASES)
def test_only_the_context_moves_in_the_inner_loop(name):
    build, loss, draw = CASES[name]
    net, [task, *_] = build(), draw()
    learner = MAML(net, loss, rule=SGD(0.5), steps=3, adapt="context")
    adapted = dict(learner.adapt(task.support).model.named_parameters())
    z = torch.zeros_like(net.context, requires_grad=True)
    for _ in range(3):
        value = loss(lambda x, z=z: torch.func.functional_call(net, {"context": z}, (x,)), task.support)
        z = (z - 0.5 * torch.autograd.grad(value, z)[0]).detach().requires_grad_()
    assert z.abs().max() > 0
    torch.testing.assert_close(adapted.pop("context"), z.detach())
    own = dict(net.named_parameters())
    assert all(torch.equal(p, own[n]) for n, p in adapted.items())


@pytest.mark.usefixtures("double")
def test_behind_a_dense_layer_with_batch_norm_it_has_no_gradient_which_is_why_it_is_refused():
    net = WithContext(MLP(2 + 3, (5,), 1, norm=True, activation="tanh", init_std=None), 3)
    net(torch.randn(6, 2)).square().sum().backward()
    assert net.context.grad.abs().max() < 1e-12 < net.net.body[0].weight.grad.abs().max()
    with pytest.raises(ConfigError, match=r"net\.context=3 has no effect with net\.norm: .*leave one of them out"):
        RunConfig(net=MLPNet(norm=True, context=3)).build()


@pytest.mark.usefixtures("double")
def test_ahead_of_a_convolution_with_batch_norm_it_acts_through_the_zeros_around_the_map_only():
    net, x = convolutional(), torch.randn(6, 1, 16, 16)
    net(x).square().sum().backward()
    assert net.context.grad.abs().max() > 1e-3
    net.zero_grad()
    net.net.blocks[0][0].padding = (0, 0)
    net(x).square().sum().backward()
    assert net.context.grad.abs().max() < 1e-12 < net.net.blocks[0][0].weight.grad.abs().max()


# ---- the network of a run ------------------------------------------------------------------------

RUNS = {
    "sinusoid": (SinusoidData(), MLPNet(hidden=(8,), activation="tanh", init_std=None, context=2), (5, 1), 3),
    "omniglot": (OmniglotData(ways=3), Conv4Net(width=4, context=5), (3, 1, 28, 28), 6),
    "omniglot-dense": (OmniglotData(ways=3), MLPNet(hidden=(8,), init_std=None, context=2), (3, 1, 28, 28), 786),
}


def config_of(name):
    data, net, shape, width = RUNS[name]
    method = MAMLMethod(inner_lr=0.5, steps=2, test_steps=2, adapt=("context",))
    return RunConfig(data, net, method), shape, width


@pytest.mark.parametrize("name", RUNS)
def test_settings_build_it_and_survive_json(name):
    config, shape, width = config_of(name)
    assert RunConfig.from_json(config.to_json()) == config
    learner = config.build()
    assert learner.adapted == ("context",)
    assert next(iter(learner.model.net.parameters())).shape[1] == width
    assert learner.model(torch.rand(shape)).shape == (shape[0], 1 if name == "sinusoid" else 3)
    json.dumps(config.net.describe(config.data))


@pytest.mark.parametrize("net", [MLPNet(), Conv4Net()])
def test_without_one_everything_is_as_it_was_also_in_files_of_before(net):
    config = RunConfig(OmniglotData(), net)
    old = json.loads(config.to_json())
    del old["net"]["context"]
    assert RunConfig.from_json(json.dumps(old)) == config
    description = net.describe(config.data)
    assert set(description) == {"name", "arguments"} and "context" not in description["arguments"]
    kind = MLP if isinstance(net, MLPNet) else Conv4
    assert type(build_net(description)) is type(config.build().model) is kind


@pytest.mark.parametrize("net", [MLPNet(context=-1), Conv4Net(context=-2)])
def test_a_negative_size_is_refused(net):
    with pytest.raises(ConfigError, match=r"net\.context .* must be >= 0, got -"):
        RunConfig(OmniglotData(), net).build()


def test_a_residual_network_has_none():
    config = json.loads(RunConfig(OmniglotData(), ResNet12Net()).to_json())
    config["net"]["context"] = 3
    with pytest.raises(ConfigError, match="ResNet12Net has no setting context"):
        RunConfig.from_json(json.dumps(config))


@pytest.mark.parametrize("name", RUNS)
def test_an_exported_run_and_its_predictor_are_read_back(name, tmp_path):
    config, shape, _ = config_of(name)
    learner, x = config.build(), torch.rand(shape)
    with torch.no_grad():
        learner.model.context.uniform_(-1, 1)
    save_checkpoint(tmp_path / "checkpoints", Checkpoint(7, learner.state_dict(), {}, {}))
    export_model(tmp_path, config, "last")
    trained = load_run(tmp_path)
    assert trained.step == 7 and torch.equal(trained.learner.model.context, learner.model.context)
    y = torch.rand(shape[0], 1) if name == "sinusoid" else torch.arange(3)
    predictor = trained.learner.adapt((x, y), norm="support+query")
    predictor.details.update(net=trained.net)
    again = load_predictor(save_predictor(predictor, tmp_path / "predictor"))
    assert isinstance(again.model, WithContext)
    assert not torch.equal(again.model.context, learner.model.context)
    with torch.no_grad():
        assert torch.equal(again(x), predictor(x))


@pytest.mark.parametrize(
    ("context", "says"),
    [
        ({"size": 4, "flat": True}, r"has 'context' of shape \(4,\)"),
        ({"size": 0}, "does not describe a network"),
        (5, "does not describe a network"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(context, says, tmp_path):
    config, _, _ = config_of("sinusoid")
    described = {**config.net.describe(config.data), "context": context}
    predictor = Predictor(config.build().model, details={"net": described})
    with pytest.raises(CheckpointError, match=says):
        save_predictor(predictor, tmp_path)
