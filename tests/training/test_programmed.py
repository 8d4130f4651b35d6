"""Outer steps by a program alone, held to `outer_step` bit for bit, whatever changes between two of them."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, CrossEntropy, Execution, Reptile, Task, Tasks, Training, meta_train
from fastadapt.errors import TaskError
from fastadapt.methods import MAMLPlusPlus
from fastadapt.training.adam_at_once import move
from fastadapt.training.outer_step import outer_step
from fastadapt.training.programmed import ProgrammedStep

RECORDED = Execution(route="vmap", compile="trace")


def batch(seed, shots=4, tasks=2):
    rng = torch.Generator().manual_seed(seed)

    def samples(n):
        return torch.randn(tasks, n, 3, generator=rng), (torch.arange(n) % 2).repeat(tasks, 1)

    return [Tasks(samples(shots), samples(6))]


class Annealed(CrossEntropy):
    """A loss with a weight that changes while it trains."""

    def __init__(self):
        super().__init__()
        self.beta = 1.0

    def __call__(self, model, given):
        return self.beta * super().__call__(model, given)


def maml(**settings):
    model = settings.pop("model", None)
    settings = {"rule": SGD(0.1), "steps": 1, "route": RECORDED, **settings}
    return MAML(model if model is not None else MLP(3, (6,), 2, init_std=None), Annealed(), **settings)


class Pair:
    """Take every step twice, by `outer_step` and by the program, and compare what comes of it."""

    def __init__(self, build=maml, optimizer=torch.optim.Adam):
        self.learners, self.outcomes = [], []
        for _ in range(2):
            torch.manual_seed(0)
            self.learners.append(build())
        self.optimizers = [optimizer(learner.parameters(), lr=0.01) for learner in self.learners]
        self.mine = ProgrammedStep()
        self.count = 0

    def step(self, times=1, training=None, **shape):
        for _ in range(times):
            self.count += 1
            taken = []
            for learner, take, optimizer in zip(self.learners, (outer_step, self.mine), self.optimizers, strict=True):
                torch.manual_seed(self.count)
                taken.append(take(learner, batch(self.count, **shape), optimizer, training or Training()))
            want, got = taken
            assert bool(want.moved) == bool(got.moved)
            for pair in ((want.outcome.loss, got.outcome.loss), (want.gradient, got.gradient)):
                assert torch.equal(*pair)
            assert torch.equal(want.outcome.losses, got.outcome.losses)
            for name, value in want.outcome.metrics.items():
                assert torch.equal(value, got.outcome.metrics[name])
            states = [learner.state_dict() for learner in self.learners]
            assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
            grads = [[p.grad for p in learner.parameters()] for learner in self.learners]
            for one, other in zip(*grads, strict=True):
                assert (one is None) == (other is None)
                assert one is None or torch.equal(one, other)

    def change(self, what):
        for learner in self.learners:
            what(learner)

    @property
    def alone(self):
        """Whether the next step of the usual shape is the program alone."""
        return self.mine._call is not None and self.mine._call.fits(self.learners[1], batch(1), self.optimizers[1])


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, pytest.param(torch.optim.AdamW, marks=pytest.mark.long)])
def test_the_bits_are_those_of_the_learner(optimizer):
    pair = Pair(optimizer=optimizer)
    pair.step(4, Training(clip_norm=0.5))
    assert pair.alone


def test_no_python_of_the_learner_runs(monkeypatch):
    learner, take = maml(), ProgrammedStep()
    optimizer = torch.optim.Adam(learner.parameters())
    for i in range(2):
        take(learner, batch(i), optimizer, Training())
    monkeypatch.setattr(MAML, "forward", None)
    monkeypatch.setattr(MAML, "state", None)
    losses = {float(take(learner, batch(i), optimizer, Training()).outcome.loss) for i in range(3, 6)}
    assert len(losses) == 3


def elsewhere(learner):
    for p in learner.parameters():
        p.data = 1.1 * p.data


def replaced(learner):
    layer = learner.model.body[0]
    layer.weight = nn.Parameter(2 * layer.weight.detach())


CHANGES = {
    "an annealed weight": lambda learner: setattr(learner.loss, "beta", 0.3),
    "inner steps": lambda learner: setattr(learner, "steps", 2),
    "rule": lambda learner: setattr(learner, "rule", SGD(0.5)),
    "frozen": lambda learner: next(learner.parameters()).requires_grad_(False),
    "evaluation": lambda learner: learner.model.eval(),
    "forward": lambda learner: setattr(learner.model.body[0], "forward", lambda x: x @ learner.model.body[0].weight.T),
    "weights in place": lambda learner: [p.data.mul_(1.5) for p in learner.parameters()],
    "weights elsewhere": elsewhere,
    "replaced": replaced,
    "hook of a parameter": lambda learner: next(learner.parameters()).register_hook(lambda g: 2 * g),
    "hook of a module": lambda learner: learner.model.register_forward_hook(lambda module, x, y: 2 * y),
    "hook of the learner": lambda learner: learner.register_forward_hook(lambda module, x, y: None),
}


QUICK = ("an annealed weight", "weights elsewhere", "replaced")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.long]) for n in CHANGES])
def test_what_changes_between_two_steps_is_noticed(name):
    pair = Pair()
    pair.step(2)
    assert pair.alone
    pair.change(CHANGES[name])
    pair.step(3)


@pytest.mark.long
def test_tasks_of_other_shapes_run_as_well():
    pair = Pair()
    pair.step(2)
    for shape in ({"shots": 2}, {}, {"tasks": 3}, {}, {}):
        pair.step(**shape)
    assert pair.alone


@pytest.mark.long
@pytest.mark.parametrize(
    "build",
    [
        lambda: maml(rule=SGD(nn.Parameter(torch.tensor(0.1)))),
        lambda: maml(norm="running"),
        lambda: maml(batch=2),
        lambda: maml(adapt="head", meta_gradient="first_order"),
        lambda: Reptile(MLP(3, (6,), 2, init_std=None), CrossEntropy(), steps=2, batch=None, route=RECORDED),
        lambda: MAMLPlusPlus(MLP(3, (6,), 2, init_std=None), CrossEntropy(), steps=2, route=RECORDED),
        lambda: maml(model=MLP(3, (6,), 2, norm=True, init_std=None), norm="running"),
    ],
    ids=["learned rate", "running", "minibatches", "head", "reptile", "maml++", "running moments"],
)
def test_every_learner_has_its_own_bits(build):
    Pair(build).step(3)


def test_a_label_that_no_class_has_is_refused():
    pair = Pair()
    pair.step(2)
    wrong = batch(9)
    wrong[0].query[1][1, 2] = 5
    with pytest.raises(TaskError, match="task 1 of the meta-batch, query row 2: the label is 5"):
        pair.mine(pair.learners[1], wrong, pair.optimizers[1], Training())


def test_a_step_that_is_not_finite_moves_nothing():
    pair = Pair()
    pair.step(2)
    bad = batch(3)
    bad[0].support[0][0, 0, 0] = float("nan")
    before = {name: value.clone() for name, value in pair.learners[1].state_dict().items()}
    assert pair.alone
    taken = pair.mine(pair.learners[1], bad, pair.optimizers[1], Training())
    assert not bool(taken.moved)
    assert all(torch.equal(value, before[name]) for name, value in pair.learners[1].state_dict().items())


@pytest.mark.long
def test_a_training_that_is_stopped_goes_on_with_the_same_bits(tmp_path):
    def sample(rng):
        x = torch.as_tensor(rng.normal(size=(8, 3)), dtype=torch.float32)
        y = torch.as_tensor(rng.integers(2, size=8))
        return Task((x[:4], y[:4]), (x[4:], y[4:]))

    def trained(*steps, folder):
        learners = []
        for count in steps:
            torch.manual_seed(0)
            learners.append(maml())
            settings = Training(steps=count, meta_batch=3, log_every=2)
            meta_train(learners[-1], sample, settings, folder=folder, quiet=True)
        return learners[-1].state_dict()

    whole, parts = trained(9, folder=tmp_path / "whole"), trained(4, 9, folder=tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


@pytest.mark.parametrize(
    "settings",
    [{}, {"eps": 1e-3, "betas": (0.8, 0.9)}, {"weight_decay": 0.1}, {"amsgrad": True}, {"foreach": True}],
    ids=["default", "betas", "decay", "amsgrad", "foreach"],
)
def test_adam_s_step_has_the_bits_of_torch_s_own(settings):
    twins = [[nn.Parameter(torch.linspace(-1, 1, n)) for n in (7, 33)] for _ in range(2)]
    optimizers = [torch.optim.Adam(twin, lr=0.1, **settings) for twin in twins]
    generator = torch.Generator().manual_seed(0)
    for i in range(6):
        for pair in zip(*twins, strict=True):
            grad = torch.randn(pair[0].shape, generator=generator)
            for p in pair:
                p.grad = None if i == 3 and len(p) == 7 else grad.clone()
        optimizers[0].step()
        move(optimizers[1])
        for one, other in zip(*twins, strict=True):
            assert torch.equal(one, other)
            assert all(torch.equal(v, optimizers[1].state[other][k]) for k, v in optimizers[0].state[one].items())


def test_hooks_and_schedulers_of_torch_see_every_step():
    weight, calls = nn.Parameter(torch.ones(2)), []
    optimizer = torch.optim.Adam([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    optimizer.register_step_post_hook(lambda *_: calls.append(0))
    for _ in range(4):
        weight.grad = torch.ones(2)
        move(optimizer)
        schedule.step()
    assert len(calls) == 4
