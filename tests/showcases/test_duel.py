"""The duel at its smallest: what is drawn and said follows from the numbers, and in which direction it goes."""

import json

import numpy as np
import pytest
import torch

from fastadapt.data.phantoms import SIZE, phantom, phantoms, projections
from fastadapt.errors import ConfigError, DataError
from fastadapt.showcases.duel import run, sentence
from fastadapt.showcases.duel_figure import duel_figure
from fastadapt.showcases.panel import Line, Panel
from fastadapt.showcases.phantom_duel import psnr
from fastadapt.showcases.school_duel import table_in
from fastadapt.showcases.showcase import ShowSettings


def panel(gaussian, learned, higher=False, sizes=(1, 2)):
    lines = [Line("Gaussian", "gaussian", np.array(gaussian)), Line("MAML", "learned", np.array(learned), ("a", "b"))]
    return Panel("Some problem", sizes, "pilots", "error", higher, lines, {"outer steps": {"MAML": 3}})


@pytest.mark.parametrize("higher, verdicts", [(False, ["worse", "better"]), (True, ["better", "worse"])])
def test_a_gain_is_paired_and_has_the_direction_of_the_metric(higher, verdicts):
    gaussian = np.array([[0.1, 0.5], [0.5, 0.9], [0.9, 1.3]])
    made = panel(gaussian, gaussian + np.array([[0.1, -0.1], [0.11, -0.11], [0.1, -0.1]]), higher).record()
    [first, other] = made["methods"]
    assert other["verdict"] == verdicts and "verdict" not in first
    sign = 1 if higher else -1
    np.testing.assert_allclose(other["gain over the Gaussian"], np.array([0.31, -0.31]) / 3 * sign)
    assert other["gain ci95"][0] < 0.02 < first["ci95"][0]
    assert made["pilots"] == [1, 2] and made["test tasks"] == 3 and made["outer steps"] == {"MAML": 3}


def test_the_sentence_counts_settings_in_which_the_best_learned_one_is_told_apart():
    gaussian = np.array([[0.1, 0.5], [0.5, 0.9], [0.9, 1.3]])
    clear = panel(gaussian, gaussian + np.array([[0.1, 0.1], [0.11, 0.11], [0.1, 0.1]])).record()
    mixed = panel(gaussian, gaussian + np.array([[0.1, -0.1], [-0.1, -0.11], [0.01, -0.1]])).record()
    told = sentence([clear, mixed])
    assert "in 2 of 4 settings of 2 problems" in told and "in 1 no difference" in told and "in 1 it is beaten" in told
    assert "in none it is beaten" in sentence([clear])


def test_the_figure_has_a_panel_for_each_problem_and_the_gaussian_in_black(tmp_path):
    gaussian = np.random.default_rng(0).random((5, 2))
    records = [panel(gaussian, gaussian + 0.1).record(), panel(gaussian, gaussian - 0.1, higher=True).record()]
    drawn = duel_figure({"title": "Try the straight line first", "panels": records}, "A sentence. " * 20)
    axes = drawn.get_axes()
    assert len(axes) == 2
    for one in axes:
        assert {line.get_label() for line in one.containers} == {"Gaussian", "MAML"}
        [black] = [c for c in one.containers if c.get_label() == "Gaussian"]
        assert black.lines[0].get_color() == "#000000"
    assert "higher is better" in axes[1].get_ylabel()


def test_a_head_repeats_by_its_seed_and_one_view_sums_its_columns():
    images = phantoms(3, seed=5)
    assert np.array_equal(images[:2], phantoms(2, seed=5)) and not np.array_equal(images[0], images[1])
    image = phantom(np.random.default_rng(1))
    np.testing.assert_allclose(projections(1) @ image.ravel(), image.sum(0), atol=1e-9)
    two = projections(2)[SIZE:] @ image.ravel()
    np.testing.assert_allclose(np.sort(two), np.sort(image.sum(1)), atol=1e-9)


def test_a_projection_at_any_angle_keeps_the_mass_of_what_lies_in_the_middle():
    image = np.zeros((SIZE, SIZE))
    image[12:20, 13:19] = 0.7
    sums = (projections(8) @ image.ravel()).reshape(8, SIZE).sum(1)
    np.testing.assert_allclose(sums, image.sum(), rtol=0.02)


def test_decibels():
    assert float(psnr(torch.full((1, 9), 0.5), torch.full((1, 9), 0.6))) == pytest.approx(20.0, abs=1e-4)


def test_what_can_not_be_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="minutes must be a finite number above 0, got 0"):
        run(ShowSettings(minutes=0, out=tmp_path))
    with pytest.raises(ConfigError, match="runs on the CPU"):
        run(ShowSettings(minutes=1, out=tmp_path, device=torch.device("meta")))
    with pytest.raises(DataError, match=r"there is no tabular/school\.csv in .*give the folder"):
        run(ShowSettings(minutes=1, out=tmp_path, data=tmp_path))
    (tmp_path / "panels").mkdir()
    (tmp_path / "panels" / "receiver.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        run(ShowSettings(minutes=1, out=tmp_path))


def test_the_table_is_found_as_a_file_or_in_a_folder(tmp_path):
    path = tmp_path / "tabular" / "school.csv"
    path.parent.mkdir()
    path.write_text("school,score\n")
    assert table_in(tmp_path) == table_in(path.parent) == table_in(path) == path


@pytest.mark.long
def test_the_gaussian_is_ahead_at_the_smallest_size(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTADAPT_DATA", raising=False)
    monkeypatch.setenv("FASTADAPT_CACHE", str(tmp_path / "cache"))
    settings = ShowSettings(minutes=1, out=tmp_path, small=True)
    shown = run(settings)
    for record in shown.result["panels"]:
        rows = {row["role"]: row for row in record["methods"]}  # the last of each
        assert rows["learned"]["verdict"] == ["worse"]  # after five outer steps
        assert len(rows["learned"]["chosen"]) == 1
    assert shown.sentence.startswith("Try the straight line first") and "School" in str(shown.result["not measured"])
    kept = {path: path.read_bytes() for path in (tmp_path / "panels").iterdir()}
    assert len(kept) == 2
    assert run(settings).result == json.loads(json.dumps(shown.result))  # nothing is measured again
    assert kept == {path: path.read_bytes() for path in (tmp_path / "panels").iterdir()}
