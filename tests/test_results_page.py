"""Every number of docs/results.md comes from a committed result file, and the figures can be drawn from them."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "benchmarks" / "published"


def load(name: str, monkeypatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(HERE))
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_result_files_say(monkeypatch) -> None:
    report = load("report", monkeypatch)
    found = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert found == report.page(report.results()), "run python benchmarks/published/report.py"


@pytest.mark.long
def test_every_figure_is_drawn_from_the_files(monkeypatch, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    report = load("report", monkeypatch)
    figures = load("figures", monkeypatch)
    monkeypatch.setattr(figures, "OUT", tmp_path)
    found = report.results()
    wanted = {
        figures.steps_figure: "maml-sinusoid",
        figures.waves_figure: "maml-sinusoid",
        figures.reptile_figure: "maml-sinusoid-circle",
        figures.gradients_figure: "gradients-g1",
        figures.overlap_figure: "overlap-steps-2-reptile",
    }
    for draw, name in wanted.items():
        path = draw(found)
        assert (path is not None and path.stat().st_size > 10_000) == (name in found)
        assert draw({}) is None
