import pytest
import torch

from fastadapt import MAML, MLP, SGD, Conv4, CrossEntropy, Execution, Task, Tasks, Training, meta_train
from fastadapt.data.sinusoid import Sinusoid
from fastadapt.engine.engine import Engine, Plan
from fastadapt.engine.memory import PeakBytes, budget
from fastadapt.engine.rule import ELSE
from fastadapt.errors import ConfigError
from reference import difference, grads_of


def batch(count=7):
    x = torch.randn(count, 11, 3)
    y = (torch.arange(11) % 2).repeat(count, 1)
    return Tasks((x[:, :4], y[:, :4]), (x[:, 4:], y[:, 4:]))


def gradient(learner, tasks):
    learner.zero_grad()
    outcome = learner(tasks)
    outcome.loss.backward()
    return outcome, {n: g.clone() for n, g in grads_of(learner).items()}


@pytest.mark.parametrize(
    "setting",
    [
        {"route": "fast"},
        {"compile": "yes"},
        {"precision": "half"},
        {"task_chunk": 0},
        {"segment": 1.5},
        {"threads": -1},
        {"memory": 0.0},
    ],
)
def test_a_setting_outside_its_range_is_refused_by_name(setting):
    [(name, _)] = setting.items()
    with pytest.raises(ConfigError, match=name):
        Execution(**setting)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_of_tasks_give_the_numbers_of_all_at_once(chunk):
    model, tasks = MLP(3, (8,), 2, norm=True, init_std=None), batch()
    whole, want = gradient(MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route="vmap"), tasks)
    learner = MAML(model, CrossEntropy(), rule=SGD(0.2), steps=2, route=Execution(route="vmap", task_chunk=chunk))
    outcome, got = gradient(learner, tasks)
    assert difference(got, want) < 1e-6
    torch.testing.assert_close(outcome.losses, whole.losses)
    torch.testing.assert_close(torch.stack(outcome.outputs), torch.stack(whole.outputs))
    torch.testing.assert_close(learner.trace(tasks).losses[:, -1], whole.losses)


@pytest.mark.long
def test_a_memory_budget_bounds_what_runs_at_once():
    model, tasks = MLP(3, (64,), 2, init_std=None), batch(16)
    peaks = {}
    for memory in (1.0, 1e-4, 4e-5):
        learner = MAML(model, CrossEntropy(), rule=SGD(0.1), steps=3, route=Execution(route="vmap", memory=memory))
        learner(tasks)
        with PeakBytes() as used:
            learner(tasks)
        peaks[memory] = used.peak
    assert peaks[4e-5] < peaks[1e-4] < peaks[1.0]
    assert peaks[1e-4] < 2e5  # bytes: the budget, and what is shared


def test_the_budget_holds_for_a_larger_meta_batch_that_comes_later():
    model = MLP(3, (64,), 2, init_std=None)
    learner = MAML(model, CrossEntropy(), rule=SGD(0.1), steps=3, route=Execution(route="vmap", memory=1e-4))
    learner(batch(2))
    with PeakBytes() as used:
        learner(batch(64))
    assert used.peak < 3e5  # 64 tasks at once take more than a million bytes


def test_the_default_budget_is_a_share_of_the_memory():
    assert 1e8 < budget(torch.device("cpu"), None) < 1e13
    assert budget(torch.device("cpu"), 2.5) == 2.5e9


def slow_convolutions():
    x = torch.randn(4, 12, 3, 32, 32)
    y = (torch.arange(12) % 2).repeat(4, 1)
    return Tasks((x[:, :4], y[:, :4]), (x[:, 4:], y[:, 4:]))


@pytest.mark.parametrize(
    "size, route, why",
    [(32, "loop", "large images through convolutions, on a CPU"), (8, "vmap", ELSE)],
)
def test_the_rule_picks_and_the_choice_is_said_in_words(size, route, why, caplog):
    caplog.set_level("INFO", logger="fastadapt.engine")
    x, y = torch.randn(2, 22, 3, size, size), (torch.arange(22) % 2).repeat(2, 1)
    tasks = Tasks((x[:, :11], y[:, :11]), (x[:, 11:], y[:, 11:]))
    learner = MAML(Conv4(3, 4, 2, size=16 if size == 8 else size), CrossEntropy(), rule=SGD(0.1))
    for _ in range(2):
        learner(tasks)
    said = [r.getMessage() for r in caplog.records if r.name == "fastadapt.engine"]
    assert [line.split(": ")[1].split("; ")[1] for line in said] == [why]
    assert {plan.route for plan in learner.engine.plans.values()} == {route}


def test_a_training_that_was_stopped_makes_the_same_choices(tmp_path):
    def learner():
        torch.manual_seed(0)
        return MAML(MLP(1, (8,), 1), rule=SGD(0.01))

    short = Training(steps=4, meta_batch=3, checkpoint_every=2)
    meta_train(learner(), Sinusoid(), short, folder=tmp_path, quiet=True)
    resumed = learner()
    meta_train(resumed, Sinusoid(), Training(steps=6, meta_batch=3, checkpoint_every=2), folder=tmp_path, quiet=True)
    [kept] = [plan for key, plan in resumed.engine.plans.items() if "train" in str(key[0])]
    assert kept.strategy == "vmapped"
    straight = learner()
    meta_train(straight, Sinusoid(), Training(steps=6, meta_batch=3), quiet=True)
    for a, b in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_auto_compiles_only_what_is_worth_it():
    model, tasks = MLP(3, (8,), 2, init_std=None), batch()
    learner = MAML(model, CrossEntropy(), rule=SGD(0.2), steps=1)
    learner.engine.expect(100)
    learner(tasks)
    assert {plan.compile for plan in learner.engine.plans.values()} == {"off"}


@pytest.mark.parametrize(("seconds", "compiles"), [(20.0, False), (3600.0, True)])
def test_a_short_budget_of_time_is_not_spent_on_compiling(monkeypatch, seconds, compiles):
    tried = []
    monkeypatch.setattr(Engine, "_compared", lambda self, plan, eager, *rest: tried.append(plan) or eager)
    learner = MAML(MLP(3, (8,), 2, init_std=None), CrossEntropy(), rule=SGD(0.2), steps=1)
    learner.engine.expect(10**9, seconds)
    learner(batch())
    assert bool(tried) is compiles


def test_programs_are_built_for_a_long_training_whatever_came_before(monkeypatch):
    tried = []
    monkeypatch.setattr(Engine, "_compared", lambda self, plan, eager, *rest: tried.append(plan.strategy) or eager)
    learner = MAML(MLP(3, (8,), 2, init_std=None), CrossEntropy(), rule=SGD(0.2), steps=1)
    learner(batch())
    assert tried == []
    learner.engine.expect(10**9)
    learner(batch())
    learner(batch())
    assert tried == ["programs"]


def test_the_first_step_of_a_training_is_not_kept_waiting(caplog):
    caplog.set_level("INFO", logger="fastadapt.engine")
    seen = []

    class Noted(MAML):
        def forward(self, tasks):
            seen.append(sum("train" in r.getMessage() for r in caplog.records if r.name == "fastadapt.engine"))
            return super().forward(tasks)

    learner = Noted(MLP(1, (8,), 1), rule=SGD(0.01))
    meta_train(learner, Sinusoid(), Training(steps=3, meta_batch=3), quiet=True)
    assert seen == [0, 0, 1]  # nothing is chosen, nor said, until the second step


def test_a_plan_says_what_it_does():
    assert Plan("loop").compile == "off"
    assert Engine(Execution(route="loop")).route == Engine("loop").route == "loop"


def test_a_single_task_runs_in_the_loop_at_once_and_more_are_looked_at():
    x = torch.randn(4, 3)
    task = Task((x, torch.arange(4) % 2), (x, torch.arange(4) % 2))
    learner = MAML(MLP(3, (4,), 2), CrossEntropy())

    def plans():
        return [(plan.route, plan.why) for plan in learner.engine.plans.values()]

    alone = learner(task).loss
    assert plans() == [("loop", "a single task")] and learner.engine.history() == {}
    together = learner([task, task, task]).loss
    [(route, why)] = plans()
    assert route == "vmap" and why == ELSE and len(learner.engine.history()) == 1
    torch.testing.assert_close(alone, together)
    learner(task)
    assert plans() == [(route, why)]


def test_a_call_before_the_training_changes_nothing_of_it_nor_of_its_resume(tmp_path):
    def trained(folder, steps, called):
        torch.manual_seed(0)
        learner = MAML(MLP(1, (8,), 1))
        if called:
            learner(Task((torch.zeros(10, 1), torch.zeros(10, 1)), (torch.zeros(10, 1), torch.zeros(10, 1))))
        settings = Training(steps=steps, meta_batch=1, checkpoint_every=4)
        meta_train(learner, Sinusoid(shots=10, queries=10), settings, folder=tmp_path / folder, quiet=True)
        return torch.cat([p.detach().flatten() for p in learner.parameters()])

    straight = trained("straight", 8, called=False)
    assert torch.equal(trained("called", 8, called=True), straight)
    trained("resumed", 4, called=True)
    assert torch.equal(trained("resumed", 8, called=False), straight)
