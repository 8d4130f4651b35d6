"""Runs of reinforcement learning: whole commands, a resume that is exact, environments that fail."""

import json
import math
from dataclasses import replace

import pytest
import torch

from fastadapt import cli
from fastadapt.errors import ConfigError, EpisodeError
from fastadapt.rl.distributions import Categorical
from fastadapt.rl.environments import family
from fastadapt.rl.experience import returns_of
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.navigation import Navigation, Walks
from fastadapt.rl.policies import policy_for
from fastadapt.rl.policy_gradient import PolicyGradient
from fastadapt.rl.ppo import PPO
from fastadapt.rl.rl2 import RL2
from fastadapt.rl.sampling import live
from fastadapt.rl.settings import RL2Method
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO
from fastadapt.rules.rules import SGD
from fastadapt.runs.config import RunConfig
from fastadapt.runs.presets import PRESETS
from fastadapt.tasks import draw
from fastadapt.training.checkpoint import latest_checkpoint
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

NAVIGATION = family("navigation-v0")
SMALL = ["--training.steps", "2", "--training.meta-batch", "2", "--data.episodes", "3", "--data.test-episodes", "4"]
SMALL += ["--data.horizon", "6", "--protocol.tasks", "5", "--net.hidden", "8", "--quiet"]


@pytest.mark.long
def test_the_commands_train_measure_adapt_and_act(tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    assert cli.main(["train", "maml-navigation", "--run", str(run), *SMALL]) == 0
    said = capsys.readouterr().out
    assert "return -" in said and "after 1 inner steps; protocol custom (navigation-v1 with" in said
    assert {path.name for path in (run / "report").iterdir()} == {"table.md", "curves.png", "returns.png", "walks.png"}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2 and all(record["kl"] <= 0.01 for record in records)
    assert {"return before", "return after", "environment steps", "episodes not finite"} <= set(records[0])
    assert cli.main(["evaluate", str(run), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["mean"]) == 5 and result["metric"] == "return" and result["higher_is_better"]
    before = json.loads((run / "evaluation.json").read_text())
    assert result["mean"] == before["mean"]
    assert cli.main(["adapt", str(run), "goal=0.3,-0.2", "--out", str(out), "--steps", "1"]) == 0
    assert "mean return after 1 update: -" in capsys.readouterr().out
    assert cli.main(["predict", str(out), "--json"]) == 0
    [rolled] = json.loads(capsys.readouterr().out)
    assert rolled["goal"] == [0.3, -0.2] and len(rolled["rewards"]) == len(rolled["actions"]) == 6
    assert rolled["return"] == pytest.approx(sum(rolled["rewards"]))
    assert cli.main(["predict", str(out), "goal=0.1,0.1", "task=3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    for word, told in (("0.3", "names no goal"), ("goal=1", "is 2 finite numbers"), ("goal=a,b", "no list of numbers")):
        assert cli.main(["predict", str(out), word]) == 2
        assert told in capsys.readouterr().err
    assert cli.main(["adapt", str(run), "goal=0,0", "--out", str(tmp_path / "b"), "--shots", "3"]) == 2
    assert "--shots is of samples" in capsys.readouterr().err
    assert cli.main(["serve", str(run)]) == 2
    assert "only runs on images and on points can be served" in capsys.readouterr().err


def learner_of(steps=1):
    torch.manual_seed(0)
    return MetaPolicy(policy_for(NAVIGATION, (8,)), rule=SGD(0.5), steps=steps)


def weights(learner):
    return [p.detach().clone() for p in learner.parameters()]


@pytest.mark.long
@pytest.mark.parametrize("outer", [TRPO(), PPO(epochs=2)], ids=["trpo", "ppo"])
def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, outer):
    source = Environments(NAVIGATION, episodes=3, horizon=6)
    through, halves = learner_of(), learner_of()
    training = Training(steps=4, meta_batch=2, log_every=1)
    whole = meta_train(through, source, training, outer_step=outer, quiet=True)
    for steps in (2, 4):
        halves = learner_of()  # from new weights: what is not in the checkpoint would be lost
        halves_training = replace(training, steps=steps)
        meta_train(halves, source, halves_training, folder=tmp_path, outer_step=outer, quiet=True)
    assert all(torch.equal(a, b) for a, b in zip(weights(through), weights(halves), strict=True))
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["loss"] == -last["return after"]
    assert last["return after"] == whole.records[-1]["return after"]
    assert not all(torch.equal(a, b) for a, b in zip(weights(through), weights(learner_of()), strict=True))


class Crumbling(Navigation):
    """Navigation whose points fail, or leave what is finite, at a step of the third meta-batch."""

    def __init__(self, what):
        self.what, self.starts = what, 0

    def start(self, tasks, seeds):
        self.starts += 1
        return Crumbled(tasks.clone(), self.what if self.starts == 5 else None)


class Crumbled(Walks):
    def __init__(self, goals, what):
        super().__init__(goals)
        self.what = what

    def step(self, actions):
        if self.what == "raises":
            raise ZeroDivisionError("a wheel came off")
        places, rewards, ended = super().step(actions)
        if self.what == "nan":
            places, rewards = places.clone(), rewards.clone()
            places[0], rewards[1] = float("nan"), float("inf")
        return (places, rewards[1:], ended) if self.what == "shapes" else (places, rewards, ended)


@pytest.mark.parametrize(
    ("what", "told"), [("raises", "ZeroDivisionError: a wheel came off"), ("shapes", "a step returned shapes")]
)
def test_an_environment_that_fails_ends_the_run_with_a_sentence_and_a_checkpoint(tmp_path, what, told):
    source = Environments(Crumbling(what), episodes=2, horizon=4)
    with pytest.raises(EpisodeError, match=f"the environment navigation-v0 failed in a step: .*{told}"):
        meta_train(
            learner_of(), source, Training(steps=9, meta_batch=1), folder=tmp_path, outer_step=TRPO(), quiet=True
        )
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 2


def test_episodes_that_are_not_finite_end_and_are_counted():
    source = Environments(Crumbling("nan"), episodes=3, horizon=4)
    trained = meta_train(
        learner_of(), source, Training(steps=3, meta_batch=2, log_every=1), outer_step=TRPO(), quiet=True
    )
    assert [record["episodes not finite"] for record in trained.records] == [0.0, 0.0, 2.0]
    assert trained.skipped == 0 and all(bool(w.isfinite().all()) for w in weights(learner_of()))


def test_a_policy_that_an_update_broke_has_no_return_that_looks_good(caplog):
    """An update that is much too long makes actions that are not finite; rewards here are below 0, and 0 the best."""
    learner = MetaPolicy(learner_of().model, rule=SGD(1e30), steps=1)
    tasks = draw(Environments(NAVIGATION, episodes=3, horizon=4), seed=0, split="test", indices=range(2))
    returns = learner.trace(tasks, 1).metrics["return"]
    assert bool(returns[:, 0].isfinite().all()) and bool(returns[:, 1].isnan().all())
    assert "6 of 6 episodes in navigation-v0 were ended as a number in them was not finite" in caplog.text


def test_a_choice_among_what_is_not_a_number_is_no_step():
    """Comparisons with NaN are false, so that it would be the first choice, in silence."""
    noise, walks = torch.full((3, 4, 1), 0.5), Walks(torch.ones(3, 2))
    walks.step = lambda actions: (torch.zeros(3, 2), -torch.ones(3), torch.zeros(3, dtype=torch.bool))
    lived = live(lambda seen: Categorical(torch.full((3, 2), math.nan)), walks, noise, 4, "choices")
    assert lived.nonfinite == 3 and not lived.alive.any()
    assert bool(returns_of(lived.rewards, lived.alive).isnan().all())


@pytest.mark.long
@pytest.mark.parametrize("kind", ["trpo", "promp"])
def test_navigation_is_learned_in_a_few_steps(kind):
    source = Environments(NAVIGATION, episodes=10, horizon=30)

    def fresh():
        torch.manual_seed(0)
        form = PolicyGradient("likelihood_ratio" if kind == "promp" else "log_likelihood")
        return MetaPolicy(policy_for(NAVIGATION, (32,), "tanh"), form, rule=SGD(0.4))

    def returns(learner):
        tasks = draw(source, seed=1, split="test", indices=range(10))
        return learner.trace(tasks, 1).metrics["return"].mean(0)

    learner = fresh()
    training = Training(steps=8, meta_batch=8, lr=3e-3)
    meta_train(learner, source, training, outer_step=TRPO() if kind == "trpo" else PPO(), quiet=True)
    before, after = returns(fresh()), returns(learner)
    assert after[1] > after[0] + 2  # one update helps
    assert after[1] > before[1] + 2  # and training taught it to


def test_presets_say_what_was_published_and_parts_that_dont_fit_are_refused():
    config = PRESETS["maml-navigation"][1]
    learner = config.build()
    assert (config.training.meta_batch, config.data.episodes, config.method.inner_lr) == (20, 20, 0.5)
    assert isinstance(learner, MetaPolicy) and isinstance(config.outer_step, TRPO)
    assert config.outer_step == TRPO(max_kl=0.01, cg_steps=10, damping=1e-5, shrink=0.8, tries=15)
    oracle = PRESETS["oracle-navigation"][1]
    assert oracle.network["arguments"]["observations"] == 4 and oracle.build().steps == 0
    assert isinstance(PRESETS["promp-navigation"][1].outer_step, PPO)
    assert isinstance(PRESETS["rl2-navigation"][1].build(), RL2)
    plain = replace(config, method=replace(config.method, outer="plain"))
    trained = meta_train(
        learner_of(), Environments(NAVIGATION, episodes=2, horizon=3), Training(steps=1, meta_batch=2, log_every=1),
        outer_step=plain.outer_step, quiet=True,
    )  # fmt: skip
    assert {"return before", "return after", "environment steps"} <= set(trained.records[0])
    with pytest.raises(ConfigError, match="go together, got EnvironmentData, PolicyNet, RL2Method"):
        replace(config, method=RL2Method()).build()
    with pytest.raises(ConfigError, match="go together, got SinusoidData, MLPNet, MetaPolicyMethod"):
        RunConfig(method=config.method).build()


@pytest.mark.long
def test_numbers_of_a_task_depend_neither_on_threads_nor_on_its_neighbours():
    source = Environments(NAVIGATION, episodes=3, horizon=20)
    learner = learner_of()
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(learner.trace(draw(source, seed=0, split="test", indices=range(4)), 0).metrics["return"])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)
    alone = [learner.trace(draw(source, seed=0, split="test", indices=[i]), 0).metrics["return"] for i in range(4)]
    torch.testing.assert_close(torch.cat(alone), found[0], atol=1e-4, rtol=1e-5)


def test_own_environments_need_their_name(capsys):
    assert cli.main(["train", "--env"]) == 2
    assert "write --env package:function" in capsys.readouterr().err
    assert cli.main(["train", "--env", "navigation-v9"]) == 2
    assert "there is no family of environments 'navigation-v9'" in capsys.readouterr().err
