import logging

import numpy as np
import pytest
import torch
from PIL import Image

from fastadapt import cli
from fastadapt.report.locomotion import BAND, FRAMES, draw_adapted, draw_runs, recorded
from fastadapt.rl import rendering
from fastadapt.rl.locomotion import FAMILIES
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.policies import policy_for
from fastadapt.rl.tasks import Environments


def act(observations):
    return torch.sin(7 * observations[:, :6])


@pytest.fixture(scope="module")
def cheetah():
    return FAMILIES["half-cheetah-direction-v5"]()


def test_what_is_recorded_is_the_episode(cheetah):
    goal = torch.tensor([1.5], dtype=torch.float64)
    states = recorded(cheetah, goal, act, seed=3)
    episodes = cheetah.start(goal[None], [3])
    assert states.shape == (201, 19) and np.array_equal(states[0], episodes.states[0])
    for step in range(5):
        episodes.step(act(episodes.observations.float()))
        assert np.array_equal(states[step + 1], episodes.states[0])
    assert states[-1, 0] == pytest.approx(10)


def test_an_episode_that_ends_is_recorded_to_its_end():
    ant = FAMILIES["ant-velocity-v0"]()
    states = recorded(ant, torch.tensor([1.0]), lambda seen: torch.ones(1, 8) * torch.sin(30 * seen[:, 2:3]), seed=1)
    heights = states[:, 3]
    assert ((heights[:-1] >= 0.2) & (heights[:-1] <= 1.0)).all()
    assert len(states) == 201 or not 0.2 <= heights[-1] <= 1.0


def test_where_nothing_renders_the_way_is_plotted(cheetah, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(rendering, "ways", lambda: ())
    caplog.set_level(logging.INFO, logger="fastadapt")
    states = recorded(cheetah, torch.tensor([1.5]), act)[:20]
    assert draw_runs(cheetah, {"before": states, "after": states}, tmp_path / "new") == [tmp_path / "new" / "run.png"]
    assert "nothing renders without a screen here" in caplog.text
    with Image.open(tmp_path / "new" / "run.png") as picture:
        assert picture.size[0] > 500


@pytest.mark.long
def test_frames_are_of_the_states(cheetah, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="fastadapt")
    states = recorded(cheetah, torch.tensor([1.5]), act)[:30]
    files = draw_runs(cheetah, {"before": states, "after": states[:9]}, tmp_path)
    if len(files) == 1:
        pytest.skip(f"nothing renders here: {caplog.text}")
    with Image.open(files[0]) as strip, Image.open(files[1]) as film:
        assert strip.size == (240 * FRAMES, 2 * (180 + BAND)) and film.size == (240, 2 * (180 + BAND))
        assert film.n_frames == 15
        pixels = np.asarray(strip).astype(int)
    first, last = pixels[BAND : 180 + BAND, :240], pixels[BAND : 180 + BAND, -240:]
    again = pixels[180 + 2 * BAND :, :240]
    assert np.array_equal(first, again) and np.abs(first - last).mean() > 1
    assert first.std() > 20  # something is on it


@pytest.mark.long
def test_a_way_that_does_not_work_is_told(cheetah, monkeypatch, caplog):
    monkeypatch.setenv("MUJOCO_GL", "smoke")
    caplog.set_level(logging.INFO, logger="fastadapt")
    assert rendering.frames(cheetah.body.physics.body, np.zeros((1, 19))) is None
    assert "smoke: RuntimeError: invalid value for environment variable MUJOCO_GL: smoke" in caplog.text


@pytest.mark.long
@pytest.mark.parametrize("told", [False, True])
def test_the_report_of_a_body_shows_both_directions(cheetah, tmp_path, monkeypatch, told):
    monkeypatch.setattr(rendering, "ways", lambda: ())
    source = Environments(cheetah, episodes=2, horizon=4, told=told)
    learner = MetaPolicy(policy_for(cheetah, (8,), told=told), steps=0 if told else 1)
    assert draw_adapted(learner, source, tmp_path) == [tmp_path / "run.png"]
    assert [cheetah.goal.called(goal) for goal in (0.9, 1.0)] == ["backward", "forward"]
    assert FAMILIES["ant-velocity-v0"]().goal.called(2.25) == "2.25 m/s"


@pytest.mark.long
def test_runs_in_other_environments_are_not_drawn_together(tmp_path, capsys):
    small = ["--training.steps", "1", "--training.meta-batch", "2", "--data.episodes", "2", "--data.test-episodes", "2"]
    small += ["--protocol.tasks", "2", "--net.hidden", "4", "--quiet"]
    runs = [str(tmp_path / name) for name in "ab"]
    for run, horizon in zip(runs, ("4", "5"), strict=True):
        assert cli.main(["train", "oracle-navigation", "--run", run, *small, "--data.horizon", horizon]) == 0
    assert cli.main(["report", runs[0], "--against", runs[1]]) == 2
    assert "b has the horizon 5 and " in capsys.readouterr().err
