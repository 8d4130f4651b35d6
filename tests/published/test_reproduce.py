"""`fastadapt reproduce` from the command to the result file, on runs that are small but real."""

import json
import math
from dataclasses import replace

import pytest
import torch

from commands.short_runs import noisy_classes
from fastadapt.cli import main
from fastadapt.compare.by_instance import by_instance
from fastadapt.errors import ConfigError, DataError
from fastadapt.evaluation import Protocol
from fastadapt.methods import MANN
from fastadapt.published import registry
from fastadapt.published.comparison import rows
from fastadapt.published.experiment import Claim, Experiment, Measurement
from fastadapt.published.instances import instance_facts
from fastadapt.published.reproduce import judged_after, reproduce
from fastadapt.published.result_file import read_result, save_result
from fastadapt.report.waves import AdaptedWave
from fastadapt.runs.config import SinusoidData
from fastadapt.runs.presets import PRESETS

SOURCE = "somebody 2017 (arXiv:1703.03400)"


def small(name: str, preset: str, steps: int = 30, **more) -> Experiment:
    config = PRESETS[preset][1]
    training = replace(config.training, steps=steps, meta_batch=4, validate_every=10, checkpoint_every=10, log_every=5)
    measurement = Measurement(
        "K=5",
        Protocol("small-v1", tasks=20, steps=2, ddof=0),
        data={"shots": 5},
        claims={1: Claim(0.67, source=SOURCE), 2: Claim(8.0, 9.0, source=SOURCE)},
    )
    config = replace(config, training=training, validation_tasks=5)
    return Experiment(name, "a small run", config, (measurement,), SOURCE, **more)


@pytest.fixture(autouse=True)
def experiments(monkeypatch):
    made = [
        small("tiny-maml", "maml-sinusoid"),
        small("tiny-reptile", "reptile-sinusoid", steps=4000),
        small("tiny-pretrain", "pretrain-sinusoid", rates=(1e-9, 0.01)),
    ]
    for experiment in made:
        monkeypatch.setitem(registry.EXPERIMENTS, experiment.name, experiment)
    return {experiment.name: experiment for experiment in made}


def run(tmp_path, *words: str) -> int:
    return main(["reproduce", *words, "--quiet", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")])


@pytest.mark.long
def test_a_run_is_trained_measured_and_compared(tmp_path, capsys) -> None:
    assert run(tmp_path, "tiny-maml", "--seeds", "0", "1") == 0
    text = capsys.readouterr().out
    assert "2 trainings, the published training" in text
    content = read_result(tmp_path / "out" / "tiny-maml.json")
    assert [r["seed"] for r in content["runs"]] == [0, 1]
    first = content["runs"][0]
    assert first["steps"] == first["published steps"] == 30
    assert first["fraction"] == 1
    assert first["command"] == "fastadapt reproduce tiny-maml --seeds 0 1 --quiet"
    assert [point["step"] for point in first["curve"]] == [10, 20, 30]
    assert first["made"]["torch"] == torch.__version__
    assert str(tmp_path) not in json.dumps(content)
    assert AdaptedWave.from_record(first["waves"][0]).half == "right"
    assert first["measurements"][0]["mean"] != content["runs"][1]["measurements"][0]["mean"]
    assert "0.67" in text
    assert "inside (" in text


@pytest.mark.long
def test_fewer_test_tasks_are_the_first_ones_and_told(tmp_path, capsys) -> None:
    run(tmp_path, "tiny-maml")
    assert ", 20 tasks" not in capsys.readouterr().out
    whole = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]["measurements"][0]
    run(tmp_path, "tiny-maml", "--tasks", "8")
    assert "K=5, 8 tasks" in capsys.readouterr().out
    some = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]["measurements"][0]
    assert (whole["protocol"]["tasks"], some["protocol"]["tasks"]) == (20, 8)
    assert some["ci95"] != whole["ci95"]
    run(tmp_path, "tiny-maml", "--tasks", "1000")
    again = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]["measurements"][0]
    assert again == whole


def test_images_are_judged_after_a_few_steps_with_every_published_number_among_them() -> None:
    for experiment in registry.EXPERIMENTS.values():
        for measurement in experiment.measurements:
            after = judged_after(measurement, experiment.config)
            if isinstance(experiment.config.data, SinusoidData) or measurement.by_instance:
                assert after is None
            else:
                assert set(measurement.claims) <= set(after) <= set(range(measurement.protocol.steps + 1))
                assert len(after) <= 8


@pytest.mark.long
def test_the_same_command_again_trains_nothing_and_gives_the_same_numbers(tmp_path) -> None:
    run(tmp_path, "tiny-maml")
    before = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]
    run(tmp_path, "tiny-maml")
    after = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]
    assert before["measurements"] == after["measurements"]
    assert before["seconds of training"] == after["seconds of training"]


@pytest.mark.long
def test_a_constant_rate_stops_at_the_budget_and_goes_on_with_a_larger_one(tmp_path, experiments) -> None:
    run(tmp_path, "tiny-maml", "--budget", "0.001s")
    cut = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]
    assert 0 < cut["steps"] < 30
    assert cut["fraction"] == pytest.approx(cut["steps"] / 30, abs=1e-6)
    run(tmp_path, "tiny-maml")
    straight = reproduce(experiments["tiny-maml"], folder=tmp_path / "straight", quiet=True)
    gone_on = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]
    assert gone_on["steps"] == 30
    assert gone_on["measurements"] == json.loads(json.dumps(straight.record["measurements"]))


@pytest.mark.long
def test_a_falling_rate_is_squeezed_into_the_budget_and_a_resume_keeps_its_steps(tmp_path) -> None:
    run(tmp_path, "tiny-reptile", "--budget", "1s")
    once = read_result(tmp_path / "out" / "tiny-reptile.json")["runs"][0]
    assert 10 <= once["steps"] < 4000
    assert once["config"]["training"]["steps"] == once["steps"]
    run(tmp_path, "tiny-reptile", "--budget", "1s")
    again = read_result(tmp_path / "out" / "tiny-reptile.json")["runs"][0]
    assert again["steps"] == once["steps"]
    assert again["measurements"] == once["measurements"]
    trained, start = (AdaptedWave.from_record(again[key][0]) for key in ("waves", "waves before training"))
    assert (trained.family, trained.shots, sorted(trained.curves)) == ("reptile", 10, [0, 2])
    assert (start.points, start.wave) == (trained.points, trained.wave) and start.curves != trained.curves


@pytest.mark.long
@pytest.mark.parametrize(("name", "folder"), [("tiny-maml", "seed-0"), ("tiny-reptile", "seed-0-20steps")])
def test_a_budget_of_steps_cuts_a_constant_rate_and_squeezes_a_falling_one(tmp_path, name, folder) -> None:
    run(tmp_path, name, "--budget", "20steps")
    cut = read_result(tmp_path / "out" / f"{name}.json")["runs"][0]
    assert cut["steps"] == cut["config"]["training"]["steps"] == 20
    assert [path.name for path in (tmp_path / "runs" / name).iterdir()] == [folder]


@pytest.mark.long
def test_checkpoints_answer_together_where_there_are_enough(tmp_path, experiments, monkeypatch, caplog) -> None:
    plain = experiments["tiny-maml"]
    training = replace(plain.config.training, validate_every=10, keep_best=2)
    one = plain.measurements[0]
    pair = replace(one, name="two together", ensemble=2)
    many = replace(one, name="nine together", ensemble=9)
    several = replace(plain, config=replace(plain.config, training=training), measurements=(one, pair, many))
    monkeypatch.setitem(registry.EXPERIMENTS, "tiny-maml", several)
    assert run(tmp_path, "tiny-maml") == 0
    measured = read_result(tmp_path / "out" / "tiny-maml.json")["runs"][0]["measurements"]
    assert [m["name"] for m in measured] == ["K=5", "two together"]
    assert measured[0]["mean"] != measured[1]["mean"]
    assert "not measured, nine together:" in caplog.text and "9 are asked for" in caplog.text


def test_fewer_steps_than_were_trained_are_refused(tmp_path, capsys) -> None:
    run(tmp_path, "tiny-maml", "--budget", "20steps")
    assert run(tmp_path, "tiny-maml", "--budget", "10steps") == 2
    assert "has 20 outer steps already, ask for more than 10" in capsys.readouterr().err


@pytest.mark.long
def test_the_rate_of_fine_tuning_is_chosen_before_the_measurement(tmp_path) -> None:
    run(tmp_path, "tiny-pretrain")
    measured = read_result(tmp_path / "out" / "tiny-pretrain.json")["runs"][0]["measurements"][0]
    tried = {float(rate): value for rate, value in measured["rates tried"].items()}
    assert set(tried) == {1e-9, 0.01}
    assert measured["rate"] == min(tried, key=tried.__getitem__)


def test_show_trains_nothing(tmp_path, capsys) -> None:
    assert run(tmp_path, "tiny-maml", "--show") == 0
    assert "no result" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()
    run(tmp_path, "tiny-maml")
    capsys.readouterr()
    assert run(tmp_path, "tiny-maml", "--show", "--json") == 0
    table = json.loads(capsys.readouterr().out)
    assert [row["step"] for row in table] == [1, 2]
    assert table[1]["verdict"]["inside"] is True


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name at least one published run"),
        (("no-such-run",), "there is no published run 'no-such-run'"),
        (("tiny-maml", "--seeds", "-1"), "at least 0"),
        (("tiny-maml", "--tasks", "1"), "needs at least 2 test tasks, got 1"),
        (("tiny-maml", "--budget", "soon"), "written as 90s, 20m, 1.5h or 8000steps, got 'soon'"),
    ],
)
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path, capsys, words, message) -> None:
    assert run(tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_damaged_result_file_is_named_and_kept(tmp_path, capsys) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "tiny-maml.json"
    path.write_text('{"runs": [')
    assert run(tmp_path, "tiny-maml") == 2
    assert "tiny-maml.json is not a result" in capsys.readouterr().err
    assert path.read_text() == '{"runs": ['


def test_results_of_another_version_are_dropped(tmp_path, experiments) -> None:
    experiment, cpu = experiments["tiny-maml"], torch.device("cpu")
    save_result(tmp_path, experiment, {"seed": 3}, words=[], device=cpu)
    newer = replace(experiment, version=2)
    content = read_result(save_result(tmp_path, newer, {"seed": 4}, words=[], device=cpu))
    assert (content["version"], [r["seed"] for r in content["runs"]]) == (2, [4])


def test_several_seeds_become_one_row_with_their_spread(experiments) -> None:
    def record(seed: int, mean: float, half: float) -> dict:
        measured = {
            "name": "K=5",
            "protocol": {"tasks": 20},
            "metric": "mse",
            "mean": [3.0, mean, mean],
            "ci95": [0.1, half, half],
            "nonfinite": [0, 1, 0],
            "median": [3.0, mean, mean],
            "transductive": False,
            "higher_is_better": False,
        }
        return {"seed": seed, "fraction": 1 - 0.1 * seed, "measurements": [measured]}

    runs = [record(0, 0.6, 0.05), record(1, 0.7, 0.07), record(2, 0.8, 0.06)]
    first, second = rows(experiments["tiny-maml"], runs)
    assert first.ours == pytest.approx(0.7)
    assert first.spread == pytest.approx(0.1)
    assert first.half == pytest.approx(1.959964 * 0.1 / math.sqrt(3))  # wider than 0.06, the mean of the intervals
    assert (first.seeds, first.nonfinite, first.fraction) == (3, 3, pytest.approx(0.8))
    assert first.verdict is not None and first.verdict.inside
    assert first.remark() == f"{first.verdict.text(percent=False)}; 3 tasks diverged"
    assert (first.step, second.step) == (1, 2)


def test_a_run_without_published_numbers_shows_its_headline(experiments) -> None:
    experiment = experiments["tiny-maml"]
    bare = replace(experiment, measurements=(replace(experiment.measurements[0], claims={}),))
    measured = {"name": "K=5", "metric": "mse", "mean": [3.0, 0.6, 0.5], "ci95": [0.1, 0.1, 0.1], "nonfinite": [0] * 3}
    measured["median"] = [3.0, 0.6, 0.5]
    measured |= {"protocol": {"tasks": 20}, "transductive": False, "higher_is_better": False}
    [row] = rows(bare, [{"seed": 0, "fraction": 1, "measurements": [measured]}])
    assert (row.step, row.ours, row.published, row.verdict) == (2, 0.5, None, None)
    assert (row.remark(), row.remark("nothing published")) == ("", "nothing published")
    assert replace(row, nonfinite=1).remark() == "1 task diverged"


def test_missing_data_is_said_before_anything_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="Omniglot not found"):
        reproduce(registry.EXPERIMENTS["maml-omniglot-5w1s"], folder=tmp_path / "runs", budget="1s")
    assert not (tmp_path / "runs").exists()


@pytest.mark.long
def test_a_folder_of_another_run_is_refused(tmp_path, experiments) -> None:
    reproduce(experiments["tiny-maml"], folder=tmp_path / "runs", quiet=True)
    other = small("tiny-maml", "fomaml-sinusoid")
    with pytest.raises(ConfigError, match=r"holds a run with other settings .*meta_gradient"):
        reproduce(other, folder=tmp_path / "runs", quiet=True)


def test_accuracy_by_instance_has_a_row_for_each_published_instance() -> None:
    experiment = registry.EXPERIMENTS["mann-omniglot-5w"]
    measured = experiment.measurements[0]
    assert list(measured.columns(experiment.config)) == list(range(1, 11)) and max(measured.claims) == 10
    torch.manual_seed(0)
    learner = MANN(torch.nn.Flatten(), ways=3, features=784, hidden=6, slots=8, width=3, heads=2)
    images = noisy_classes()
    found = by_instance(learner, images, Protocol(tasks=4))
    facts = instance_facts(measured.name, found)
    claims = {2: Claim(0.8, source=SOURCE)}
    few = replace(measured, protocol=Protocol(tasks=4), data={"shots": 1, "queries": 2}, claims=claims)
    [row] = rows(replace(experiment, measurements=(few,)), [{"fraction": 1.0, "measurements": [facts]}])
    assert (row.step, row.ours, row.published) == (2, found.mean[1], "80") and row.percent and row.verdict is not None
    with pytest.raises(ConfigError, match=r"no step 0 among the measured 1\.\.3"):
        replace(experiment, measurements=(replace(few, claims={0: claims[2]}),))
