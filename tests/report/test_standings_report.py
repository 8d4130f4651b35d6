"""The picture and the page of a comparison of methods."""

import base64
import re

import pytest

pytest.importorskip("matplotlib")

from fastadapt.report.standings import draw_standings
from fastadapt.report.standings_page import write_page

COSTS = {"outer steps": 30, "published steps": 300, "seconds of training": 9.0, "seconds to adapt": 0.01}
COSTS |= {"seconds to answer": 0.001, "parameters": 112, "predictor bytes": 450}


def record(*methods):
    tests = {"t": {"words": "signs & <b>letters</b>", "tasks": 3}}
    return {"on": "signs-3w1s", "budget": "20steps", "seed": 0, "tests": tests, "methods": list(methods)}


def row(name, values):
    return {"method": name, "results": {"t": {"per task": values, "transductive": False}}, **COSTS}


FAILED = {"method": "none", "preset": "none-p", "failed": "the images are <too small>"}


@pytest.mark.long
def test_the_same_comparison_gives_the_same_picture_and_another_one_another(tmp_path):
    same = record(row("a", [0.5, 0.7, 0.6]), row("b", ["nan", 0.9, 0.7]), FAILED)
    first, second = (draw_standings(same, tmp_path / f"{n}.png").read_bytes() for n in (1, 2))
    other = draw_standings(record(row("a", [0.1, 0.7, 0.6])), tmp_path / "3.png").read_bytes()
    assert first == second != other


def test_the_page_has_the_picture_the_table_and_every_failure_and_no_markup_of_names(tmp_path):
    content = record(row("a", [0.5, 0.7, 0.6]), row("b", [0.6, 0.9, 0.7]), FAILED)
    picture = draw_standings(content, tmp_path / "p.png")
    text = write_page(content, tmp_path / "p.html", picture).read_text(encoding="utf-8")
    (shown,) = re.findall(r"base64,([^\"]+)\"", text)
    assert base64.b64decode(shown) == picture.read_bytes()
    assert "signs &amp; &lt;b&gt;letters&lt;/b&gt;" in text and "the images are &lt;too small&gt;" in text
    assert re.findall(r"<tr><td>(\w+)</td>", text) == ["b", "a"]
    assert 'src="http' not in text


def test_where_nothing_was_measured_the_picture_says_why(tmp_path):
    assert draw_standings(record(FAILED), tmp_path / "p.png").stat().st_size > 1000
    page = write_page(record(FAILED), tmp_path / "p.html", None).read_text(encoding="utf-8")
    assert "<table>" not in page and "none failed: the images are &lt;too small&gt;" in page
