"""Outer steps as one graph, held to the same steps taken eagerly, whatever changes between two of them."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, CrossEntropy, Momentum, Reptile, Tasks, Training
from fastadapt.errors import TaskError
from fastadapt.methods import MAMLPlusPlus
from fastadapt.training.captured import CapturedStep
from fastadapt.training.outer_step import outer_step
from replaying import Replaying


def batch(seed, shots=4, queries=6):
    rng = torch.Generator().manual_seed(seed)

    def samples(n):
        return torch.randn(2, n, 3, generator=rng, dtype=torch.float64), (torch.arange(n) % 2).repeat(2, 1)

    return [Tasks(samples(shots), samples(queries))]


class Pair:
    """Take every step twice, eagerly and recorded, and compare the weights after it."""

    def __init__(self, build):
        self.learners = []
        for _ in range(2):
            torch.manual_seed(0)
            self.learners.append(build().double())
        eager, mine = self.learners
        rate = torch.tensor(0.1, dtype=torch.float64)
        self.optimizers = (
            torch.optim.SGD(eager.parameters(), lr=0.1),
            torch.optim.SGD(mine.parameters(), lr=rate, fused=True),
        )
        self.recorders = []
        self.recorded = CapturedStep(lambda device: self.recorders.append(Replaying(device)) or self.recorders[-1])
        self.count = 0

    def step(self, times=1, **shape):
        for _ in range(times):
            self.count += 1
            for learner, take, optimizer in zip(
                self.learners, (outer_step, self.recorded), self.optimizers, strict=True
            ):
                torch.manual_seed(self.count)
                taken = take(learner, batch(self.count, **shape), optimizer, Training())
                assert bool(taken.moved)
            eager, mine = (learner.state_dict() for learner in self.learners)
            for name, value in mine.items():
                torch.testing.assert_close(value, eager[name], rtol=1e-9, atol=1e-12)

    def change(self, what):
        for learner in self.learners:
            what(learner)

    @property
    def whole(self):
        """Whether the whole step was recorded: the update's and the step's are two recordings."""
        return self.recorded._whole is not None

    @property
    def replays(self):
        return self.recorders[0].log.count("replay")


def net():
    return MLP(3, (6,), 2, norm=True, init_std=None)


class Annealed(CrossEntropy):
    """A loss with a weight that changes while it trains."""

    def __init__(self):
        super().__init__()
        self.beta = 1.0

    def __call__(self, model, given):
        return self.beta * super().__call__(model, given)


def maml(model=None, loss=None, **settings):
    settings = {"rule": SGD(0.1), "steps": 2, "route": "vmap", **settings}
    return MAML(model if model is not None else net(), loss if loss is not None else CrossEntropy(), **settings)


def test_it_is_recorded_once_and_then_runs_no_tasks_in_python(monkeypatch):
    torch.manual_seed(0)
    learner = maml(route="loop").double()
    optimizer = torch.optim.SGD(learner.parameters(), lr=torch.tensor(0.1), fused=True)
    step = CapturedStep(Replaying)
    for i in range(4):
        step(learner, batch(i), optimizer, Training())
    assert step._whole is not None
    monkeypatch.setattr(type(learner), "forward", None)
    outcomes = [step(learner, batch(i), optimizer, Training()).outcome for i in range(4, 7)]
    assert len({float(outcome.loss) for outcome in outcomes}) == 3  # each has its own numbers
    assert all(set(outcome.metrics) == {"accuracy"} for outcome in outcomes)


def test_a_module_that_keeps_state_of_its_own_stays_in_parts():
    class Counted(MLP):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * (1 + 0.01 * self.calls)

    torch.manual_seed(0)
    learner = maml(Counted(3, (6,), 2, init_std=None), route="loop").double()
    optimizer = torch.optim.SGD(learner.parameters(), lr=torch.tensor(0.1), fused=True)
    step = CapturedStep(Replaying)
    for i in range(5):
        before = learner.model.calls
        step(learner, batch(i), optimizer, Training())
        assert learner.model.calls > before
    assert step._whole is None


@pytest.mark.parametrize(
    "norm, route",
    [
        ("running", "vmap"),
        *(
            pytest.param(norm, route, marks=pytest.mark.slow)
            for norm, route in (
                ("transductive", "vmap"),
                ("per_step", "vmap"),
                ("running", "loop"),
                ("per_step", "loop"),
            )
        ),
    ],
)
def test_steps_are_those_of_the_eager_learner(norm, route):
    pair = Pair(lambda: maml(norm=norm, route=route))
    pair.step(6)
    assert pair.whole
    pair.change(lambda learner: learner.load_state_dict({n: v / 2 for n, v in learner.state_dict().items()}))
    before = pair.replays
    pair.step(2)  # in place: the same graph serves
    assert pair.replays == before + 2


def test_dropout_draws_what_the_eager_learner_draws():
    pair = Pair(lambda: maml(nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2))))
    pair.step(6)
    assert pair.whole


def test_learned_rates_move():
    pair = Pair(lambda: maml(rule=SGD(nn.Parameter(torch.tensor(0.1)))))
    pair.step(6)
    assert pair.whole
    assert float(pair.learners[1].rule.lr.detach()) != 0.1


@pytest.mark.long
def test_what_is_annealed_moves_while_one_graph_serves():
    settings = {"steps": 2, "multi_step_epochs": 9, "first_order_epochs": 1, "epoch": 4, "route": "vmap"}
    pair, served = Pair(lambda: MAMLPlusPlus(net(), CrossEntropy(), **settings)), []
    for step in range(14):
        pair.change(lambda learner, step=step: learner.at_step(step))
        pair.step()
        served.append(pair.recorders[0].log.count("record") if pair.recorders else 0)
    assert pair.whole
    assert served[-1] == served[-4]  # the weights changed with the epoch at step 12, and nothing was recorded anew


@pytest.mark.parametrize(
    "change",
    [
        lambda learner: setattr(learner.loss, "beta", 0.3),
        lambda learner: setattr(learner, "steps", 2),
        lambda learner: learner.model.eval(),
        lambda learner: next(learner.model.parameters()).requires_grad_(False),
        lambda learner: setattr(
            learner.model.body[0], "weight", nn.Parameter(2 * learner.model.body[0].weight.detach())
        ),
        lambda learner: setattr(learner.model.body[0], "forward", lambda x: x @ learner.model.body[0].weight.T),
    ],
    ids=["weight of the loss", "steps", "evaluation", "frozen", "replaced", "forward"],
)
def test_what_changes_is_seen(change):
    pair = Pair(lambda: maml(loss=Annealed(), steps=1, route="loop"))
    pair.step(4)
    assert pair.whole
    pair.change(change)
    pair.step(3)


@pytest.mark.long
def test_tasks_of_other_shapes_run_as_well():
    pair = Pair(maml)
    pair.step(5)
    for shape in ({"shots": 2}, {}, {"queries": 4}, {}):
        pair.step(**shape)
    assert pair.whole


def test_a_label_that_no_class_has_is_refused():
    pair = Pair(maml)
    pair.step(5)
    wrong = batch(9)
    wrong[0].query[1][1, 2] = 5
    with pytest.raises(TaskError, match="task 1 of the meta-batch, query row 2: the label is 5"):
        pair.recorded(pair.learners[1], wrong, pair.optimizers[1], Training())


def test_an_inner_state_that_goes_on_from_step_to_step_does():
    pair = Pair(lambda: Reptile(net(), CrossEntropy(), rule=Momentum(0.1), steps=2, inner_state="serial"))
    pair.step(6)


@pytest.mark.parametrize(
    ("how", "each"),
    [("register_hook", 1 + 2 * 2), ("register_post_accumulate_grad_hook", 1)],  # two tasks, two inner gradients
)
def test_hooks_of_a_parameter_are_called_at_each_step(how, each):
    calls = []
    pair = Pair(lambda: maml(route="loop"))
    getattr(next(pair.learners[1].parameters()), how)(lambda _: calls.append(0))
    pair.step(5)
    assert not pair.whole
    assert len(calls) == 5 * each


@pytest.mark.slow
def test_steps_that_are_computed_a_second_time_stay_in_parts():
    pair = Pair(lambda: maml(steps=6))
    pair.step(4)  # and are right all the same
    assert not pair.whole


class OfItsOwn(Replaying):
    """A device whose random numbers are not those of the CPU."""

    def generator(self):
        return torch.zeros(1)

    def set_generator(self, state):
        pass


def test_minibatches_that_are_drawn_on_the_cpu_are_not_frozen():
    pair = Pair(lambda: Reptile(net(), CrossEntropy(), rule=SGD(0.1), steps=3, batch=2, route="vmap"))
    pair.recorded = CapturedStep(OfItsOwn)
    pair.step(5)
    assert not pair.whole
