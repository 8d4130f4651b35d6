"""What minutes buy: a bound on the whole call or command, and everything that is measured on less is said."""

import copy
import dataclasses
import json
import logging
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fastadapt import MAML, MLP, Protocol, Sinusoid, Training, meta_train
from fastadapt.cli import main
from fastadapt.engine.execution import Route
from fastadapt.learner import Learner
from fastadapt.tasks import Task
from fastadapt.training.budget import TOO_FEW, VALIDATIONS, Budget


def learner(route: Route = "auto") -> Learner:
    torch.manual_seed(0)
    return MAML(MLP(1, (8,), 1), test_steps=2, route=route)


class Slow:
    """Waves that take a while to draw: so long that validating and testing them all would take minutes."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.drawn = seconds, 0

    def sample(self, rng: np.random.Generator) -> Task:
        time.sleep(self.seconds)
        self.drawn += 1
        return Sinusoid().sample(rng)


def test_without_minutes_nothing_is_measured_and_nothing_is_kept_back() -> None:
    source, protocol = Slow(0.0), Protocol(tasks=500)
    budget = Budget(None, test=(source, protocol), after=9.0, pictured=11)
    assert budget.begin(learner(), 0.0, protocol, source) is protocol
    assert source.drawn == 0
    assert budget.for_training == budget.left == float("inf")
    assert not budget.over and budget.validates() and not budget.enough(400)
    assert (budget.at_once(protocol), budget.pictured) == (25, 11)


@pytest.mark.long
def test_minutes_bound_the_call_with_its_validations(caplog: pytest.LogCaptureFixture) -> None:
    source = Slow(0.05)
    settings = Training(steps=10_000, meta_batch=2, minutes=0.15, validate_every=5, log_every=1000)
    began = time.monotonic()
    with caplog.at_level(logging.INFO, "fastadapt"):
        trained = meta_train(
            learner("loop"),  # what looking at the routes takes would be much of so short a time
            source,
            settings,
            validation=source,
            protocol=Protocol(tasks=100, split="val"),
            quiet=True,
        )
    took = time.monotonic() - began
    assert 0.7 * 9 < took < 1.5 * 9  # a hundred tasks alone would take more than half of it, every five steps
    assert trained.stopped == "time limit"
    assert "a validation is on " in caplog.text and "tasks rather than 100" in caplog.text
    assert trained.records[-1]["step"] == trained.step  # the last weights are validated
    validations = [record for record in trained.records if "val mse" in record]
    assert 2 <= len(validations) < trained.step // 5
    assert caplog.text.count("validations are further apart") == 1


def test_a_run_with_minutes_takes_the_steps_of_one_without() -> None:
    timed, free = learner(), learner()
    settings = Training(steps=12, meta_batch=3, validate_every=5)
    few = Protocol(tasks=4, split="val")
    for one, minutes in ((timed, 5.0), (free, None)):
        meta_train(
            one,
            Sinusoid(),
            dataclasses.replace(settings, minutes=minutes),
            validation=Sinusoid(),
            protocol=few,
            quiet=True,
        )
    for name, tensor in free.state_dict().items():
        assert torch.equal(tensor, timed.state_dict()[name])


def test_the_measurement_leaves_weights_routes_and_random_numbers_alone() -> None:
    one = learner()
    before, state = copy.deepcopy(one.state_dict()), torch.random.get_rng_state()
    budget = Budget(1.0)
    budget.begin(one, 0.0, Protocol(tasks=50, split="val"), Sinusoid())
    assert budget.task > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.engine.plans == {}  # type: ignore[attr-defined]
    for name, tensor in before.items():
        assert torch.equal(tensor, one.state_dict()[name])


@pytest.mark.long
def test_it_is_said_how_many_steps_the_time_buys_and_what_gets_further() -> None:
    said: list[str] = []
    training = Training(steps=10_000, minutes=1.0)
    budget = Budget(1.0, after=10.0, cheaper=("fewer inner steps (--method.steps 1)",))
    budget.begin(learner(), 0.0, Protocol(), None)
    for step in (1, 2, 3):
        time.sleep(0.6)
        budget.stepped(step, training, said.append)
    [words] = said
    found = re.match(r"about (\d+) outer steps of 10,000 fit into 1 minutes", words)
    assert found is not None and 55 < int(found[1]) < 95  # 48 seconds of 0.6 each
    assert "what gets further: fewer inner steps (--method.steps 1); more minutes" in words


def test_who_has_time_enough_is_told_no_hints() -> None:
    budget = Budget(60.0, cheaper=("a hint",))
    budget.begin(learner(), 0.0, Protocol(), None)
    budget._taken = [3.0, 0.1, 0.1]
    assert "a hint" not in budget.forecast(3, Training(steps=60_000))
    assert budget.forecast(3, Training(steps=1000)).startswith("all 1,000 outer steps fit into 60 minutes")
    budget._taken = [9.0, 90.0]  # the second has the looks in it, and compiles
    assert TOO_FEW > 3600 / 9 and "a hint" in budget.forecast(2, Training(steps=1000))


def test_what_earlier_lives_have_trained_counts_and_the_test_does_not_pay_for_it() -> None:
    source = Sinusoid()
    budget = Budget(1.0, test=(source, Protocol(tasks=10)))
    budget.begin(learner(), 58.0, Protocol(), None)
    assert budget.for_training < 2 and budget.left > 50
    assert not budget.enough(0) and not budget.enough(5)


def test_validations_on_the_way_take_at_most_their_share() -> None:
    budget = Budget(10.0)
    budget.begin(learner(), 0.0, Protocol(tasks=2), Sinusoid())
    budget._validating = 1.0
    assert not budget.validates()  # nothing is trained yet
    budget._trains -= 1.01 / VALIDATIONS
    assert budget.validates()
    budget.validated(1.0)
    assert not budget.validates()


WAVES = ["--training.minutes", "0.2", "--method.test-steps", "2", "--training.log-every", "1000"]


@pytest.mark.long
def test_a_command_tests_on_fewer_tasks_where_time_is_short_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    words = ["train", "maml-sinusoid", *WAVES, "--protocol.tasks", "1000000", "--training.validate-every", "0"]
    assert main(words) == 0
    assert time.monotonic() - began < 1.6 * 12  # drawing is a good part of so short a time
    out, err = capsys.readouterr()
    result = json.loads((tmp_path / "runs/maml-sinusoid/evaluation.json").read_text())["protocol"]
    assert 2 <= result["tasks"] < 1_000_000
    assert result["name"] == "custom (sinusoid-k10-v1 with protocol.tasks changed)"
    assert f"tested on {result['tasks']:,} of 1,000,000 tasks: the minutes allow no more" in out
    assert "outer steps of 70,000 fit into 0.2 minutes" in err
    config = json.loads((tmp_path / "runs/maml-sinusoid/config.json").read_text())
    assert config["protocol"]["tasks"] == 1_000_000
