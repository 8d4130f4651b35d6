import copy
import importlib.util
import math

import numpy as np
import pytest
import torch

from fastadapt.errors import ConfigError, DataError, MissingExtraError
from fastadapt.rl import bodies
from fastadapt.rl.ant import contact_forces
from fastadapt.rl.bodies import ANT, HALF_CHEETAH, Body, installed
from fastadapt.rl.locomotion import FAMILIES, Goal, Locomotion
from fastadapt.rl.physics import Physics, settled

SIZES = {"half-cheetah-{}-v0": (20, 6), "half-cheetah-{}-v5": (17, 6), "ant-{}-v0": (125, 8), "ant-{}-v5": (105, 8)}
SECONDS = {"half-cheetah-{}-v0": 0.01, "half-cheetah-{}-v5": 0.05, "ant-{}-v0": 0.02, "ant-{}-v5": 0.05}


@pytest.fixture(scope="module")
def families():
    return {name: make() for name, make in FAMILIES.items()}


def goals(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def on(family: Locomotion, threads: int) -> Locomotion:
    return Locomotion(family.name, type(family.body), family.goal, threads)


def script(step: int, n: int, size: int) -> torch.Tensor:
    """Return the actions of a scripted policy: each copy swings its motors in a phase of its own."""
    at = torch.arange(n)[:, None] + 0.7 * torch.arange(size)[None] + 0.5 * step
    return 1.3 * torch.sin(at.double())


def follow(family: Locomotion, tasks, seeds, rows, steps=12):
    episodes = family.start(tasks, seeds)
    found = [(episodes.observations, torch.zeros(len(seeds)).double(), torch.zeros(len(seeds)).bool())]
    for step in range(steps):
        found.append(episodes.step(script(step, max(rows) + 1, family.action_size)[rows]))
    return [torch.stack(part) for part in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", ["velocity", "direction"])
@pytest.mark.parametrize("form", SIZES)
def test_sizes_horizon_and_the_time_of_a_step(families, form, kind):
    family = families[form.format(kind)]
    assert (family.observation_size, family.action_size) == SIZES[form]
    assert (family.name, family.horizon, family.discrete) == (form.format(kind), 200, False)
    episodes = family.start(family.draw_tasks(2, np.random.default_rng(0)), [0, 1])
    assert episodes.observations.shape == (2, SIZES[form][0])
    for _ in range(3):
        observations, rewards, ended = episodes.step(torch.zeros(2, family.action_size))
    assert (observations.shape, rewards.shape, ended.dtype) == ((2, SIZES[form][0]), (2,), torch.bool)
    assert episodes.states[:, 0] == pytest.approx(3 * SECONDS[form])


def test_goals_are_uniform_and_of_the_generator_alone(families):
    for name, family in families.items():
        drawn = family.draw_tasks(2000, np.random.default_rng(7))
        assert drawn.shape == (2000, 1) and drawn.dtype == torch.float64
        assert torch.equal(drawn, family.draw_tasks(2000, np.random.default_rng(7)))
        widest = 2.0 if "cheetah" in name else 3.0
        assert 0 <= drawn.min() < 0.01 and widest - 0.01 < drawn.max() < widest
        assert drawn.mean() == pytest.approx(widest / 2, abs=0.05)


def test_rewards_of_hand_made_velocities():
    velocity, asked = np.array([0.5, -1.0, 2.5]), np.array([2.0, 0.5, 2.5])
    assert Goal("velocity", 2.0).reward(velocity, asked) == pytest.approx([-1.5, -1.5, 0.0])
    assert Goal("velocity", 3.0, 1.0).reward(velocity, asked) == pytest.approx([-0.5, -0.5, 1.0])
    assert Goal("direction", 3.0).reward(velocity, asked) == pytest.approx([0.5, 1.0, 2.5])


@pytest.mark.parametrize(("name", "half"), [("half-cheetah-direction-v0", 1.0), ("ant-direction-v0", 1.5)])
def test_the_direction_turns_at_half_the_widest_goal(families, name, half):
    goal = families[name].goal
    around = np.array([0.0, np.nextafter(half, 0), half, np.nextafter(half, 9), 2 * half])
    assert goal.reward(np.full(5, 0.7), around) == pytest.approx([-0.7, -0.7, 0.7, 0.7, 0.7])
    assert goal.bonus == 0.0 and families[name.replace("direction", "velocity")].goal.bonus == (half == 1.5)


def placed(family: Locomotion, goal: float, change) -> tuple:
    """Return episodes of one copy whose state was changed by hand, and MuJoCo's own data of the state after a step."""
    mujoco, model = installed(), family.body.physics.model
    episodes = family.start(goals(goal), [3])
    change(episodes.states)
    data = mujoco.MjData(model)
    return episodes, model, data


@pytest.mark.parametrize("kind", ["velocity", "direction"])
@pytest.mark.parametrize("goal", [0.3, 1.6])
def test_half_cheetahs_step_is_that_of_mujocos_own_functions(families, kind, goal):
    mujoco, family = installed(), families[f"half-cheetah-{kind}-v0"]
    episodes, model, data = placed(family, goal, lambda states: states.__setitem__((0, 10), 1.2))
    mujoco.mj_setState(model, data, episodes.states[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
    action = torch.tensor([[0.5, -0.25, 1.0, 3.0, -2.0, 0.0]])
    observations, rewards, ended = episodes.step(action)
    data.ctrl[:] = [0.5, -0.25, 1.0, 1.0, -1.0, 0.0]
    mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    seen = np.concatenate([data.qpos[1:], data.qvel, data.subtree_com[1]])
    assert observations[0].numpy() == pytest.approx(seen, abs=1e-12)
    v = data.subtree_linvel[1, 0]
    assert abs(v - 1.2) < 0.4  # what was set is what is rewarded
    run = -abs(v - goal) if kind == "velocity" else (-v if goal < 1 else v)
    assert rewards.item() == pytest.approx(run - 0.05 * (0.25 + 0.0625 + 3.0), abs=1e-12)
    assert not ended


@pytest.mark.parametrize("kind", ["velocity", "direction"])
@pytest.mark.parametrize("goal", [0.3, 2.6])
def test_ants_step_is_that_of_mujocos_own_functions(families, kind, goal):
    mujoco, family = installed(), families[f"ant-{kind}-v0"]

    def fast_and_low(states):
        states[0, 16] = 1.2
        states[0, 3] = 0.4

    episodes, model, data = placed(family, goal, fast_and_low)
    mujoco.mj_setState(model, data, episodes.states[0], mujoco.mjtState.mjSTATE_FULLPHYSICS)
    observations, rewards, ended = episodes.step(torch.full((1, 8), -0.5))
    data.ctrl[:] = -0.5
    mujoco.mj_step(model, data)
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    mujoco.mj_rnePostConstraint(model, data)
    forces = np.clip(data.cfrc_ext, -1, 1)
    assert np.abs(forces).max() == 1.0  # it stands on something
    seen = np.concatenate([data.qpos, data.qvel, forces.ravel(), data.xmat[1], data.subtree_com[1]])
    assert observations[0].numpy() == pytest.approx(seen, abs=1e-10)
    v = data.subtree_linvel[1, 0]
    run = 1.0 - abs(v - goal) if kind == "velocity" else (-v if goal < 1.5 else v)
    costs = 0.005 * 8 * 0.25 + 0.0005 * np.square(forces).sum()
    assert rewards.item() == pytest.approx(run - costs + 0.05, abs=1e-10)
    assert not ended


def test_contact_forces_are_cfrc_ext(families):
    """They are no sensor's, but computed from several; of ants thrown at the ground in all ways."""
    mujoco, physics = installed(), families["ant-velocity-v0"].body.physics
    rng, data = np.random.default_rng(0), mujoco.MjData(physics.model)
    states = physics.start(list(range(30)))
    states[:, 3] = rng.uniform(0.15, 0.6, 30)
    states[:, 4:8] = rng.normal(size=(30, 4))
    states[:, 4:8] /= np.linalg.norm(states[:, 4:8], axis=1, keepdims=True)
    states[:, 16:] = rng.normal(size=(30, 14))
    controls = rng.uniform(-1, 1, (30, 8))
    found, most = contact_forces(physics.sense(states, controls)), 0.0
    for state, control, forces in zip(states, controls, found, strict=True):
        mujoco.mj_setState(physics.model, data, state, mujoco.mjtState.mjSTATE_FULLPHYSICS)
        data.ctrl[:], data.qacc_warmstart[:] = control, 0
        mujoco.mj_forward(physics.model, data)
        mujoco.mj_rnePostConstraint(physics.model, data)
        most = max(most, np.abs(data.cfrc_ext).max())
        assert forces == pytest.approx(data.cfrc_ext[1:], abs=1e-9)
    assert most > 100


@pytest.mark.parametrize(("height", "over"), [(0.19, True), (0.25, False), (0.95, False), (1.05, True)])
def test_an_ant_too_low_or_too_high_ends_and_stays(families, height, over):
    family = families["ant-velocity-v0"]
    episodes = family.start(goals(1.0, 1.0), [0, 1])
    episodes.states[0, 1:16] = [0, 0, height, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    episodes.states[0, 16:] = 0
    # legs that stretch to the sides from a low torso would lift it
    observations, _, ended = episodes.step(torch.zeros(2, 8))
    assert ended.tolist() == [over, False]
    later, _, ended = episodes.step(torch.ones(2, 8))
    assert torch.equal(later[0], observations[0]) is over and not torch.equal(later[1], observations[1])
    assert ended[0].item() is over and episodes.nonfinite == 0


@pytest.mark.parametrize(("name", "told"), [("half-cheetah-velocity-v0", -200.0), ("ant-velocity-v0", -90.0)])
def test_standing_still_returns_what_the_specification_says(families, name, told):
    family = families[name]
    episodes = family.start(goals(*np.linspace(0, family.goal.widest, 7)), range(7))
    total = sum(episodes.step(torch.zeros(7, family.action_size))[1] for _ in range(200))
    assert total.mean().item() == pytest.approx(told, abs=4)


@pytest.mark.parametrize("form", SIZES)
def test_alone_beside_others_and_on_threads_the_numbers_are_the_same(families, form):
    family = families[form.format("velocity")]
    tasks, seeds = family.draw_tasks(5, np.random.default_rng(1)), [11, 3, 3, 8, 2**40]
    together = follow(family, tasks, seeds, range(5))
    for row in range(5):
        alone = follow(family, tasks[[row]], [seeds[row]], [row])
        assert all(torch.equal(one[:, 0], all_[:, row]) for one, all_ in zip(alone, together, strict=True))
    for threads in (1, 2, 3):
        threaded = follow(on(family, threads), tasks, seeds, range(5))
        assert all(torch.equal(one, other) for one, other in zip(threaded, together, strict=True))
    assert torch.equal(together[0][0, 1], together[0][0, 2])  # the seed alone says where one starts
    assert not torch.equal(together[0][0, 0], together[0][0, 1])


@pytest.mark.parametrize(("name", "theirs"), [("half-cheetah-{}-v5", "HalfCheetah-v5"), ("ant-{}-v5", "Ant-v5")])
def test_v5_is_gymnasiums_own_environment_step_by_step(families, name, theirs):
    """Bit for bit, where its solver starts from zero as ours does; within 1e-5 otherwise."""
    import gymnasium

    with bodies.quiet():  # MuJoCo would write a log about a deprecated word of that file
        cold, warm = (gymnasium.make(theirs).unwrapped for _ in range(2))
    family = families[name.format("velocity")]
    episodes = family.start(goals(0.4, 1.7), [9, 5])
    first, _ = cold.reset(seed=5)
    warm.reset(seed=5)
    assert np.array_equal(episodes.observations[1].numpy(), first)
    for step in range(25):
        action = script(step, 2, family.action_size)
        observations, rewards, ended = episodes.step(action)
        action = action.clamp(-1, 1)
        cold.data.qacc_warmstart[:] = 0
        seen, _, over, _, info = cold.step(action[1].numpy())
        assert np.array_equal(observations[1].numpy(), seen)
        cost = 0.05 * action[1].square().sum().item()
        if "ant" in name:
            cost = 0.1 * cost + 0.0005 * np.square(seen[27:]).sum() - 0.05 - 1.0
        assert rewards[1].item() == pytest.approx(-abs(info["x_velocity"] - 1.7) - cost, abs=1e-12)
        assert ended[1].item() == over
        assert observations[1].numpy() == pytest.approx(warm.step(action[1].numpy())[0], abs=1e-5)
        if over:  # ours stays
            break
    assert step >= 10 and episodes.states[1, 0] == pytest.approx((step + 1) * 0.05)


@pytest.mark.parametrize("form", SIZES)
def test_what_is_not_finite_ends_its_episode_alone_and_is_counted(families, form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    family = families[form.format("direction")]
    episodes, undisturbed = (family.start(goals(1.9, 1.9, 1.9), [0, 1, 2]) for _ in range(2))
    for step in range(2):
        before = episodes.observations
        actions = script(step, 3, family.action_size)
        if step == 1:
            joint = 1 + (9 if "cheetah" in form else 15) + 3
            episodes.states[1, joint] = 1e30
        found, expected = episodes.step(actions), undisturbed.step(actions)
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine[[0, 2]], theirs[[0, 2]])
    observations, rewards, ended = found
    assert (math.isnan(rewards[1]), ended.tolist(), episodes.nonfinite) == (True, [False, True, False], 1)
    assert torch.equal(observations[1], before[1]) and undisturbed.nonfinite == 0
    episodes.step(actions)
    assert episodes.nonfinite == 1  # once
    assert list(tmp_path.iterdir()) == []  # MuJoCo would write a log here


def test_an_action_that_stops_half_way_is_not_sound():
    before = np.zeros((3, 4))
    after = np.array([[0.05, 1, 1, 1], [0.02, 1, 1, 1], [0.05, 1, np.inf, 1]])
    states, sound = settled(before, after, Body("x.xml", 0.0, 0.01, 5, "normal", (0, 0)))
    assert sound.tolist() == [True, False, False] and np.array_equal(states, [after[0], before[1], before[2]])


@pytest.mark.parametrize("form", SIZES)
def test_an_action_that_is_not_finite_ends_its_episode_alone(families, form):
    """MuJoCo would take 0 in its place, and say nothing."""
    family = families[form.format("velocity")]
    episodes, undisturbed = (family.start(goals(0.5, 1.5, 1.0), [0, 1, 2]) for _ in range(2))
    first, actions = episodes.observations, script(0, 3, family.action_size)
    broken = actions.clone()
    broken[1, 2] = float("nan")
    found, expected = episodes.step(broken), undisturbed.step(actions)
    assert all(torch.equal(one[[0, 2]], other[[0, 2]]) for one, other in zip(found, expected, strict=True))
    assert (math.isnan(found[1][1]), found[2].tolist(), episodes.nonfinite) == (True, [False, True, False], 1)
    assert torch.equal(found[0][1], first[1])


def test_a_copy_moves_the_same(families):
    family = families["ant-velocity-v0"]
    copied = copy.deepcopy(on(family, 2))
    assert copied.name == family.name and copied.goal == family.goal and len(copied.body.physics.movers.rooms) == 2
    found = (follow(one, goals(1.0, 2.0), [0, 1], range(2), steps=2) for one in (family, copied))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_goals_of_another_form_are_refused(families):
    for tasks in (torch.zeros(2), torch.zeros(2, 2)):
        with pytest.raises(ConfigError, match=r"needs goals \[n, 1\] with a seed each"):
            families["ant-velocity-v0"].start(tasks, [0, 1])
    with pytest.raises(ConfigError, match="2 seeds"):
        families["ant-velocity-v0"].start(torch.zeros(3, 1), [0, 1])
    with pytest.raises(ConfigError, match="at least 1 thread"):
        on(families["ant-velocity-v0"], 0)


def test_without_the_extra_it_is_named(monkeypatch):
    find, gone = importlib.util.find_spec, "mujoco"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == gone else find(name))
    installed.cache_clear()
    with pytest.raises(MissingExtraError, match=r"need mujoco: pip install 'fastadapt\[rl\]'"):
        FAMILIES["ant-velocity-v0"]()
    installed.cache_clear()


def test_another_body_under_the_same_name_is_refused(monkeypatch, tmp_path):
    """An id stands for one body, whatever a later Gymnasium has in that file."""
    text = (bodies._folder() / "half_cheetah.xml").read_text()
    (tmp_path / "half_cheetah.xml").write_text(text.replace('gear="120"', 'gear="121"'))
    monkeypatch.setattr(bodies, "_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="describes another body"):
        HALF_CHEETAH.model()


def test_the_ant_of_rllab_differs_from_gymnasiums_where_its_file_does():
    ours, theirs = Physics(ANT, "contacts", 1).model, bodies.ANT_V5.model()
    assert ours.opt.timestep == 0.02 and theirs.opt.timestep == 0.01
    assert np.allclose(ours.geom_solimp[:, :3], (0.8, 0.8, 0.01)) and not np.allclose(theirs.geom_solimp[:, 0], 0.8)
    start = ANT.start(ours, range(4000))
    assert start[:, 1:16].mean(0) == pytest.approx([0, 0, 0.55, 1, 0, 0, 0, 0, 1, 0, -1, 0, -1, 0, 1], abs=1e-3)
    assert start[:, 1:16].std() == pytest.approx(np.std(start[:, 1:16].mean(0)), rel=0.01)
    assert start[:, 16:].std() == pytest.approx(0.1, rel=0.01) and not start[:, 0].any()
