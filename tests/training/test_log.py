"""What a run shows and keeps."""

import json
from pathlib import Path

import pytest

from fastadapt import Training
from fastadapt.training.log import RunLog, read_metrics


def test_records_of_a_life_that_was_cut_short_are_dropped_on_resume(tmp_path: Path) -> None:
    with RunLog(tmp_path, Training(steps=10), quiet=True) as log:
        for step in (2, 4, 6):
            log.write({"step": step, "loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # killed while writing
    with RunLog(tmp_path, Training(steps=10), start=4, quiet=True) as log:
        log.write({"step": 6, "loss": 0.5})
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path / "metrics.jsonl")] == [(2, 0.5), (4, 0.25), (6, 0.5)]


def test_without_a_terminal_each_record_is_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(None, Training(steps=10)) as log:
        log.write({"step": 5, "loss": 0.123456, "accuracy before": 0.2, "accuracy after": 0.9, "tasks/s": 31.0})
        log.say("a sentence")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 5/10  loss 0.1235  accuracy before 0.2  accuracy after 0.9  tasks/s 31  left 0m")
    assert lines[1] == "a sentence"
    assert "\x1b" not in "".join(lines)


def test_the_time_left_knows_of_the_time_limit(capsys: pytest.CaptureFixture[str]) -> None:
    with RunLog(None, Training(steps=10**9, minutes=2.0), seconds=30.0) as log:
        log.write({"step": 1, "loss": 0.0})
    assert "left 1m" in capsys.readouterr().err


def test_numbers_that_are_not_finite_stay_readable_json(tmp_path: Path) -> None:
    with RunLog(tmp_path, Training(steps=10), quiet=True) as log:
        log.write({"step": 1, "loss": float("nan"), "gradient": float("inf")})
    [line] = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "loss": "nan", "gradient": "inf"}


def test_a_log_that_can_not_be_written_does_not_end_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RunLog(tmp_path, Training(steps=10), quiet=True) as log:
        (tmp_path / "metrics.jsonl").mkdir()
        log.write({"step": 1, "loss": 0.5})
        log.write({"step": 2, "loss": 0.4})
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "training goes on without this log" in caplog.text
    assert len(log.records) == 2
