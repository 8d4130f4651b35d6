import subprocess
import sys

import pytest

from fastadapt.errors import CheckpointError, MissingExtraError
from fastadapt.report import draw_adaptation, draw_curves, draw_steps
from fastadapt.report.style import add_legend, figure, line_style, panels_with_legend, save_figure


@pytest.mark.parametrize("draw", [draw_curves, draw_adaptation, draw_steps])
def test_without_matplotlib_the_error_names_the_command(monkeypatch, tmp_path, draw):
    for name in [n for n in sys.modules if n.split(".")[0] == "matplotlib"] + ["matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastadapt\[plot\]'"):
        draw({}, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_importing_the_report_imports_no_matplotlib():
    code = "import sys, fastadapt.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.long
def test_drawing_leaves_matplotlib_as_it_was(tmp_path):
    code = (
        "import sys, matplotlib; before = dict(dict.items(matplotlib.rcParams))\n"
        "from fastadapt.report import draw_curves\n"
        f"draw_curves([{{'step': 1, 'loss': 1.0}}], {str(tmp_path / 'x.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules and dict(dict.items(matplotlib.rcParams)) == before"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lines_differ_in_more_than_colour():
    styles = [line_style(i) for i in range(7)]
    for key in ("color", "marker"):
        assert len({str(style[key]) for style in styles}) == 7
    assert len({str(style["linestyle"]) for style in styles}) == 7


def test_a_folder_that_is_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="could not write"):
        save_figure(figure(2, 2), tmp_path / "file" / "x.png")


@pytest.mark.parametrize(("labels", "fits"), [(3, True), (8, True), (40, False)])
def test_a_legend_of_many_labels_is_made_to_fit(labels, fits):
    drawn = figure(12, 4)
    panels, strip = panels_with_legend(drawn, 1, 1)
    for i in range(labels):
        panels.flat[0].plot([0, 1], label=f"a method, K = {i}")
    add_legend(strip, panels)
    [legend] = strip.legends
    assert len(legend.get_texts()) == labels
    assert (legend.get_window_extent().width <= strip.bbox.width) == fits
