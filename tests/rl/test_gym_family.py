import importlib.util
import pickle
import sys
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch

from fastadapt.errors import ConfigError, EpisodeError, MissingExtraError
from fastadapt.rl.gym_family import from_function, from_spec
from fastadapt.rl.gym_tasks import Form

INFINITE = gym.spaces.Box(-np.inf, np.inf, (2,))


class Push(gym.Env):
    """Push a point along a line towards a goal; each push is shaken by the environment's own generator."""

    action_space = gym.spaces.Box(-2, 4, (1,))
    observation_space = gym.spaces.Box(-99, 99, (2,))
    task_space = gym.spaces.Box(-0.5, 0.5, (1,), dtype=np.float64)
    horizon = 6
    goal = None
    shake = 0.01

    def set_task(self, task):
        self.goal = task

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.x = 0, np.float32(self.np_random.normal())
        return self.seen(), {}

    def seen(self):
        return np.array([self.x, self.steps], dtype=np.float32)

    def step(self, action):
        self.steps += 1
        self.x = np.float32(self.x + action[0] + self.shake * self.np_random.normal())
        return self.seen(), -abs(self.x - float(np.ravel(self.goal)[0])), bool(self.x > 50), False, {}


def made_of(task):
    env = gym.wrappers.TimeLimit(Push(), 4)
    env.unwrapped.goal = task
    return env


made_of.task_space = gym.spaces.Box(-0.5, 0.5, (1,), dtype=np.float64)


def changed(**attributes):
    return type("Changed", (Push,), attributes)


def follow(family, tasks, seeds, actions):
    episodes = family.start(tasks, seeds)
    found = [(episodes.observations, torch.zeros(len(seeds)).double(), torch.zeros(len(seeds)).bool())]
    found += [episodes.step(actions[:, step]) for step in range(actions.shape[1])]
    return [torch.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("function", [Push, made_of, lambda: gym.wrappers.OrderEnforcing(Push())])
def test_numbers_are_those_of_the_environment_alone(function):
    family = from_function(function)
    assert (family.observation_size, family.action_size, family.discrete) == (2, 1, False)
    assert family.horizon == (4 if function is made_of else 6)
    tasks, seeds = family.draw_tasks(3, np.random.default_rng(0)), [5, 2**61, 5]
    assert tasks.shape == (3, 1) and tasks.dtype == torch.float64 and tasks.abs().max() <= 0.5
    actions = torch.tensor([[[-1.0], [1.0], [0.5], [7.0]]]).repeat(3, 1, 1)
    together = follow(family, tasks, seeds, actions)
    for row in range(3):
        alone = follow(family, tasks[[row]], [seeds[row]], actions[[row]])
        assert all(torch.equal(one[:, 0], rest[:, row]) for one, rest in zip(alone, together, strict=True))
    env = Push()
    env.set_task(tasks[1].numpy())
    seen, _ = env.reset(seed=int(np.random.SeedSequence(2**61).generate_state(1)[0]))
    for step, action in enumerate((-2.0, 4.0, 2.5, 4.0)):  # [-1, 1] spans [-2, 4]
        assert together[0][step, 1].tolist() == seen.tolist()
        seen, reward, *_ = env.step(np.array([action], dtype=np.float32))
        assert together[1][step + 1, 1].item() == pytest.approx(reward)
    assert together[0].dtype == torch.float32 and torch.equal(together[0][0, 0], together[0][0, 2])


def test_environments_of_set_task_are_used_again_and_those_of_a_task_closed():
    made, closed = [], []

    class Counted(Push):
        def __init__(self, task=None):
            made.append(1)
            self.goal = task

        def close(self):
            closed.append(1)

    family = from_function(Counted)
    for _ in range(3):
        family.start(torch.zeros(4, 1), [0, 1, 2, 3])
    assert (len(made), len(closed)) == (4, 0)
    one, other = family.start(torch.zeros(2, 1), [0, 1]), family.start(torch.ones(2, 1), [0, 1])
    assert torch.equal(one.observations, other.observations)
    assert not torch.equal(one.step(torch.zeros(2, 1))[1], other.step(torch.zeros(2, 1))[1])  # none is shared

    def of_task(task):
        return Counted(task)

    of_task.task_space = Push.task_space
    family = from_function(of_task)
    made.clear()
    closed.clear()
    episodes = family.start(torch.zeros(4, 1), [0, 1, 2, 3])
    assert (len(made), len(closed)) == (4, 0)
    del episodes
    assert len(closed) == 4


def test_choices_are_counted_from_zero_for_the_policy():
    class Choice(Push):
        action_space = gym.spaces.Discrete(3, start=-1)
        taken: ClassVar = []

        def step(self, action):
            self.taken.append(action)
            return super().step([action])

    family = from_function(Choice)
    assert (family.discrete, family.action_size) == (True, 3)
    episodes = family.start(torch.zeros(3, 1), [0, 1, 2])
    Choice.taken.clear()
    episodes.step(torch.tensor([0, 2, 1]))
    assert Choice.taken == [-1, 1, 0]


def test_a_number_without_bounds_is_passed_on():
    class Free(Push):
        action_space = gym.spaces.Box(np.array([-np.inf, 0, -1]), np.array([np.inf, np.inf, 3]), dtype=np.float64)
        taken: ClassVar = []

        def step(self, action):
            self.taken.append(action.tolist())
            return super().step(action)

    episodes = from_function(Free).start(torch.zeros(2, 1), [0, 1])
    Free.taken.clear()
    episodes.step(torch.tensor([[-7.0, -2.0, 0.0], [9.0, 5.0, -1.0]]))
    assert Free.taken == [[-7.0, 0.0, 1.0], [9.0, 5.0, -1.0]]


def test_what_ends_an_episode():
    class Ends(Push):
        """Terminate at step 2 for task 1, be cut at step 3 for task 2, and at the horizon by a TimeLimit for task 3."""

        task_space = gym.spaces.Discrete(4)

        def step(self, action):
            seen, reward, *_ = super().step(action)
            return seen, reward, (self.goal, self.steps) == (1, 2), (self.goal, self.steps) == (2, 3), {}

    family = from_function(lambda: gym.wrappers.TimeLimit(Ends(), 4), "ends")
    episodes = family.start(torch.tensor([[1.0], [2.0], [3.0]]), [0, 1, 2])
    told, rows, seen = [], [], []
    for _ in range(4):
        observations, rewards, ended = episodes.step(torch.zeros(3, 1))
        told.append(ended.tolist())
        rows.append(rewards.tolist())
        seen.append(observations)
    assert told == [[False] * 3, [True, False, False], [True, True, False], [True, True, False]]
    assert torch.equal(seen[1][0], seen[3][0]) and rows[2][0] == rows[3][0] == 0.0  # where it is, it stays


@pytest.mark.parametrize("broken", ["observation", "reward", "action", "start"])
def test_what_is_not_finite_ends_its_episode_alone_and_is_counted(broken):
    class Breaks(Push):
        def reset(self, *, seed=None, options=None):
            seen, told = super().reset(seed=seed)
            return (seen * np.nan if self.hit("start") else seen), told

        def step(self, action):
            assert np.isfinite(action).all()
            seen, reward, *rest = super().step(action)
            if self.steps == 2:
                seen = seen + np.float32(np.inf) if self.hit("observation") else seen
                reward = float("nan") if self.hit("reward") else reward
            return seen, reward, *rest

        def hit(self, what):
            return what == broken and self.goal == 0.25

    family, sound = from_function(Breaks), from_function(Push)
    tasks = torch.tensor([[0.0], [0.25], [0.1]]).double()
    actions = torch.zeros(3, 4, 1)
    if broken == "action":
        actions[1, 1] = float("nan")
    episodes = family.start(tasks, [0, 1, 2])
    found = [episodes.step(actions[:, step]) for step in range(4)]
    expected = follow(sound, tasks, [0, 1, 2], torch.zeros(3, 4, 1))
    assert episodes.nonfinite == 1
    for step, parts in enumerate(found):
        assert all(torch.equal(one[[0, 2]], all_[step + 1, [0, 2]]) for one, all_ in zip(parts, expected, strict=True))
        assert parts[2].tolist() == [False, broken == "start" or step >= 1, False]
        # what is not finite is not seen, and no 0 is put in its place that would count as a good reward
        assert torch.isfinite(parts[0]).all() and parts[1].isnan().tolist() == parts[2].tolist()


@pytest.mark.parametrize(
    ("task", "row"),
    [
        (0.5, [0.5]),
        (3, [3.0]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [1.0, 2.0, 3.0, 4.0]),
        ({"velocity": 1.5, "way": -1}, [1.5, -1.0]),
        ({"goal": np.array([1, 2]), "wind": True}, [1.0, 2.0, 1.0]),
    ],
)
def test_a_task_comes_back_from_its_row_as_it_was(task, row):
    form = Form.of(task)
    assert form.row(task).tolist() == row and form.size == len(row)
    back = form.task(np.array(row))
    assert repr(back) == repr(task) and type(back) is type(task)


def test_tasks_of_a_mapping_reach_the_environment_as_they_were_drawn():
    class Mapped(Push):
        def sample_tasks(self, count, rng):
            return [{"x": rng.normal(), "n": int(rng.integers(9))} for _ in range(count)]

        def set_task(self, task):
            self.goal, self.got = task["x"], task

    family = from_function(Mapped)
    tasks = family.draw_tasks(3, np.random.default_rng(4))
    wanted = Mapped().sample_tasks(3, np.random.default_rng(4))
    episodes = family.start(tasks, [0, 1, 2])
    assert [env.got for env in episodes._envs] == wanted


def test_sample_tasks_of_a_count_draws_from_the_environments_generator():
    class Seeded(Push):
        def sample_tasks(self, count):
            return [{"velocity": v} for v in self.np_random.uniform(0, 2, count)]

        def set_task(self, task):
            self.goal = task["velocity"]

    family = from_function(Seeded)
    one, other = (family.draw_tasks(4, np.random.default_rng(seed)) for seed in (0, 1))
    assert torch.equal(one, family.draw_tasks(4, np.random.default_rng(0))) and not torch.equal(one, other)

    def unseeded(self, count):
        return np.random.uniform(0, 2, count)

    with pytest.raises(ConfigError, match=r"a generator that reset\(seed=...\) does not set"):
        from_function(changed(sample_tasks=unseeded))


@pytest.mark.parametrize(
    ("space", "within"),
    [
        (gym.spaces.Discrete(3, start=2), {2.0, 3.0, 4.0}),
        (gym.spaces.Box(1, 2, (1,), dtype=np.int64), {1.0, 2.0}),
    ],
)
def test_tasks_that_are_whole_numbers(space, within):
    tasks = from_function(changed(task_space=space)).draw_tasks(60, np.random.default_rng(0))
    assert set(tasks[:, 0].tolist()) == within


SPACES = gym.spaces
REFUSED = {
    "names no environment; write package:function": "my_envs",
    "Box of floats": changed(action_space=SPACES.MultiDiscrete([2, 3])),
    r"takes actions of Box\(0, 9": changed(action_space=SPACES.Box(0, 9, (1,), dtype=np.int64)),
    "gymnasium.wrappers.FlattenObservation": changed(observation_space=SPACES.Dict({"a": SPACES.Box(-1, 1)})),
    r"observations of Discrete\(4\)": changed(observation_space=SPACES.Discrete(4)),
    "does not say how long an episode is; wrap it in gymnasium.wrappers.TimeLimit": changed(horizon=None),
    "at least 1 step, got 0": changed(horizon=0),
    "does not say which tasks there are; give the function": changed(task_space=None),
    "uniformly from a Box with bounds": changed(task_space=INFINITE),
    r"without set_task\(task\), and takes no task itself": changed(set_task=None),
    "which is no gymnasium.Env": lambda: 3,
    "takes several arguments": lambda task, colour: Push(),
    "can't draw a task: ValueError: 'fast' is not a number": changed(sample_tasks=lambda self, n, rng: ["fast"] * n),
    r"can't draw a task: ValueError: \[\] where a list of 1": changed(sample_tasks=lambda self, n, rng: []),
    "can't draw a task: ValueError: None where a list of 1": changed(sample_tasks=lambda self, n, rng: None),
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_does_not_do_is_refused_by_a_sentence(told):
    function = REFUSED[told]
    with pytest.raises(ConfigError, match=told):
        from_spec(function) if isinstance(function, str) else from_function(function, "mine")


class Fails(Push):
    task_space = gym.spaces.Discrete(2)

    def step(self, action):
        if self.goal == 1 and self.steps == 3:
            raise RuntimeError("no such joint\nand more")
        return super().step(action)


def test_a_failure_names_environment_task_and_step():
    episodes = from_function(Fails).start(torch.tensor([[0.0], [1.0]]), [7, 8])
    for _ in range(3):
        episodes.step(torch.zeros(2, 1))
    told = "an environment of Fails failed in step 4, task 1, seed 8: RuntimeError: no such joint; mend it"
    with pytest.raises(EpisodeError, match=told) as caught:
        episodes.step(torch.zeros(2, 1))
    assert "\n" not in str(caught.value)


def stop(*_, **__):
    raise OSError("no licence")


def answering(*rest):
    return changed(step=lambda self, action: (self.seen(), *rest))


BROKEN = {
    "failed as it was reset, task .*: OSError: no licence": changed(reset=stop),
    r"as it was reset, task .* reset returned a list of length 1, and not \(obs": changed(reset=lambda self, **_: [0]),
    "as it was reset, task .* reset returned a ndarray, and not": changed(reset=lambda self, **_: np.zeros(2)),
    "failed as it was reset, task .* an observation of shape": changed(seen=lambda self: np.zeros(3)),
    "failed in step 1, task .* step returned a NoneType, and not": changed(step=lambda self, action: None),
    "failed in step 1, task .* step returned a tuple of length 4, and": answering(0.0, False, {}),
    "the reward is '1.5', and not one real number": answering("1.5", False, False, {}),
    "the reward is array.*, and not one real number": answering(np.zeros(2), False, False, {}),
    "terminated is 'False', and not true or false": answering(0.0, "False", False, {}),
    "truncated is None, and not true or false": answering(0.0, False, None, {}),
    "failed in step 1, task .*: SystemExit: 3": changed(step=lambda self, action: sys.exit(3)),
    "not finite in its first steps, task .*; mend it": answering(float("nan"), False, False, {}),
    r"can't set the task .*: OSError: no licence": changed(set_task=stop),
    "can't make an environment: OSError: no licence": lambda: stop(None),
}


def test_other_failures_are_sentences_too():
    for told, function in BROKEN.items():
        with pytest.raises(EpisodeError, match=told):
            from_function(function, "mine")
    from_function(answering(np.zeros(1), np.array([False]), np.False_, {}))  # what some environments have, and is clear
    family = from_function(Push)
    with pytest.raises(ConfigError, match=r"needs tasks \[n, 1\] with a seed each, got \[2, 2\] and 2 seeds"):
        family.start(torch.zeros(2, 2), [0, 1])

    class Short(Push):
        def sample_tasks(self, count, rng):
            return [[0.5]] * min(count, 2)

    with pytest.raises(EpisodeError, match="2 tasks where 3 were asked for"):
        from_function(Short).draw_tasks(3, np.random.default_rng(0))


def test_what_can_not_be_repeated_is_told(caplog):
    def step(self, action):
        self.x = np.float32(np.random.normal())
        return self.seen(), 0.0, False, False, {}

    from_function(Push)
    assert not caplog.records
    from_function(changed(step=step), "mine")
    assert "mine is not the same twice" in caplog.text


def test_a_function_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "own_envs.py").write_text("class Box:\n    from test_gym_family_push import Push\nnumber = 3\n")
    monkeypatch.setitem(sys.modules, "test_gym_family_push", sys.modules[__name__])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    family = from_spec("own_envs:Box.Push")
    assert family.name == "own_envs:Box.Push" and family.horizon == 6
    for words, told in {
        "own_envs:nothing": "can't import the environment 'own_envs:nothing': AttributeError",
        "no_such_module:make": "ModuleNotFoundError",
        "own_envs:number": "own_envs:number is a int, and a function is needed",
    }.items():
        with pytest.raises(ConfigError, match=told):
            from_spec(words)


def test_without_the_extra_it_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gymnasium" else find(name))
    with pytest.raises(MissingExtraError, match=r"need gymnasium: pip install 'fastadapt\[rl\]'"):
        from_function(Push)


def test_a_copy_has_environments_of_its_own():
    family = from_function(Push)
    copied = pickle.loads(pickle.dumps(family))
    assert copied._free[0] is not family._free[0] and (copied.name, copied.horizon) == ("Push", 6)
