import dataclasses
import re
import sys

import numpy as np
import pytest
import torch

from fastadapt.data.images.classes import ClassImages
from fastadapt.errors import MissingExtraError
from fastadapt.evaluation import Protocol, evaluate
from fastadapt.report import comparison_table, evaluation_table, write_report
from fastadapt.report.steps import draw_steps
from fastadapt.runs.config import Conv4Net, MAMLMethod, OmniglotData, PretrainMethod, RunConfig, SinusoidData
from fastadapt.runs.run_files import LoadedRun

PROTOCOL = Protocol("small-v1", tasks=8, steps=3, ddof=0)
RECORDS = [{"step": i, "loss": 3.0 / i, "mse before": 4.0, "mse after": 3.0 / i, "gradient": 1.0} for i in range(1, 9)]


def _run(name="run", **changes):
    config = RunConfig(protocol=PROTOCOL, **changes)
    return LoadedRun(config.build().eval(), config, name, 8)


def _parsed(table):
    """Return `[(steps, mean, ci95, median, non-finite)]` of a table."""
    number = r"([-\d.e+]+|nan|inf)"
    pattern = re.compile(rf"^\| (?:→ )?(\d+) \| {number} ± {number}.*\| {number} \| (\d+) of \d+ \|$", re.MULTILINE)
    return [tuple(map(float, match)) for match in pattern.findall(table)]


def test_the_table_is_the_evaluation():
    run = _run()
    result = evaluate(run.learner, run.config.data.source("test"), PROTOCOL)
    rows = _parsed(evaluation_table(result))
    assert len(rows) == 4
    for j, (steps, mean, ci95, median, bad) in enumerate(rows):
        assert steps == j and bad == 0
        assert (mean, ci95, median) == pytest.approx((result.mean[j], result.ci95[j], result.median[j]), abs=1e-4)
    assert "→ 3" in evaluation_table(result)


def test_what_was_judged_after_some_steps_only_is_shown_so(tmp_path):
    run = _run()
    whole, some = (evaluate(run.learner, run.config.data.source("test"), PROTOCOL, after=a) for a in (None, [1]))
    rows = _parsed(evaluation_table(some))
    assert [row[0] for row in rows] == [1, 3]
    assert [row[1] for row in rows] == pytest.approx([whole.mean[1], whole.mean[3]], abs=1e-4)
    cells = [cell.strip() for cell in comparison_table({"MAML": some}, steps=(0, 1, 3)).splitlines()[2].split("|")]
    assert (
        cells[2] == "-" and cells[3].startswith(f"{whole.mean[1]:.4f}") and cells[4].startswith(f"{whole.mean[3]:.4f}")
    )
    assert draw_steps({"MAML": {5: some}}, tmp_path / "a.png").stat().st_size > 0


def test_tasks_that_are_not_finite_stay_in_the_tables():
    run = _run()
    result = evaluate(run.learner, run.config.data.source("test"), PROTOCOL)
    nan = float("nan")
    broken = dataclasses.replace(
        result,
        mean=[*result.mean[:-1], nan],
        ci95=[*result.ci95[:-1], nan],
        nonfinite=[0, 0, 0, 2],
        finite_mean=[*result.mean[:-1], 1.25],
    )
    assert "nan ± nan (mean of the other 6: 1.2500)" in evaluation_table(broken)
    assert "2 of 8" in evaluation_table(broken)
    assert "nan ± nan (2 of 8 not finite, the rest 1.2500)" in comparison_table({"a": broken}, steps=(0, 3))


def test_methods_side_by_side():
    run = _run()
    source = run.config.data.source("test")
    three, none = (evaluate(run.learner, source, dataclasses.replace(PROTOCOL, steps=k)) for k in (3, 0))
    lines = comparison_table({"MAML": three, "oracle": none}, steps=(0, 3, 9)).splitlines()
    assert f"{three.mean[3]:.4f} ± {three.ci95[3]:.4f}" in lines[2]
    assert lines[2].rstrip(" |").endswith("-")
    assert lines[3].count(f"{none.mean[0]:.4f} ± {none.ci95[0]:.4f}") == 3
    assert len({len(line) for line in lines}) == 1
    assert comparison_table({}) == ""


def test_accuracies_are_in_percent():
    run = _run()
    result = evaluate(run.learner, run.config.data.source("test"), PROTOCOL)
    shares = dataclasses.replace(result, metric="accuracy", mean=[0.1234] * 4, ci95=[0.01] * 4)
    assert "12.34 ± 1.00" in evaluation_table(shares)


@pytest.mark.long
def test_the_report_of_a_sinusoid_run(tmp_path):
    run = _run()
    source = run.config.data.source("test")
    result = evaluate(run.learner, source, PROTOCOL)
    against = {
        "oracle": _run(data=SinusoidData(oracle=True), method=PretrainMethod(test_steps=0)),
        "run": _run(method=PretrainMethod()),
    }
    files = write_report(tmp_path, run, RECORDS, result, source, against)
    assert sorted(path.name for path in files) == ["adaptation.png", "curves.png", "steps.png", "table.md", "worst.png"]
    assert all(path.parent == tmp_path / "report" and path.stat().st_size > 500 for path in files)
    table = (tmp_path / "report" / "table.md").read_text()
    assert _parsed(table)[0][1] == pytest.approx(result.mean[0], abs=1e-4)
    assert all(f"## {name}, K = {k}" in table for name in ("run", "oracle", "run (other)") for k in (5, 10, 20))
    assert not [path for path in (tmp_path / "report").iterdir() if path.suffix == ".tmp"]


@pytest.mark.long
@pytest.mark.parametrize("told", [False, True])
def test_the_report_of_a_run_without_steps_or_records(tmp_path, told):
    run = _run(data=SinusoidData(oracle=told), method=PretrainMethod(test_steps=0))
    source = run.config.data.source("test")
    result = evaluate(run.learner, source, dataclasses.replace(PROTOCOL, steps=0))
    assert len(write_report(tmp_path, run, [], result, source)) == (4 if told else 5)


@pytest.mark.long
def test_the_report_of_an_image_run(tmp_path):
    data, net = OmniglotData(ways=5), Conv4Net(width=4)
    run = _run(data=data, net=net, method=MAMLMethod(inner_lr=0.1, test_steps=3))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (40, 28, 28), dtype=np.uint8))
    source = ClassImages(images, np.arange(40) // 5, tuple("abcdefgh"), ways=5, shots=1, queries=2, invert=True)
    result = evaluate(run.learner, source, dataclasses.replace(PROTOCOL, report=2))
    files = write_report(tmp_path, run, RECORDS, result, source)
    assert [path.name for path in files] == ["table.md", "curves.png", "task.png", "worst.png"]
    assert "transductive (a task's queries share batch statistics)" in files[0].read_text()


def test_without_matplotlib_the_table_is_written(tmp_path, monkeypatch):
    run = _run()
    source = run.config.data.source("test")
    result = evaluate(run.learner, source, PROTOCOL)
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match="fastadapt"):
        write_report(tmp_path, run, RECORDS, result, source)
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["table.md"]
