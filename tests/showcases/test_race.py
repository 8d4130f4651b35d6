"""What is said of a race: leads task by task, the crossing, and the steps that a rival needs."""

import json

import numpy as np
import pytest

from fastadapt.cli import main
from fastadapt.data.udhr import ARCHIVE
from fastadapt.errors import ConfigError, DataError
from fastadapt.showcases import voices
from fastadapt.showcases.photos import own_picture
from fastadapt.showcases.race import crossing, leads, steps_to
from fastadapt.showcases.scene import scene
from fastadapt.showcases.showcase import SHOWCASES, ShowSettings, show
from fastadapt.showcases.stages import Stages


def row(name, learned, values):
    means = [sum(column) / len(column) for column in zip(*values, strict=True)]
    return {"name": name, "learned": learned, "values": values, "mean": means}


RECORD = {
    "steps": [0, 1, 2, 4],
    "starts": [
        row("ours", True, [[0, 9, 9, 10], [0, 7, 9, 11]]),
        row("slow", False, [[0, 1, 2, 12], [0, 1, 2, 13]]),
        row("early", False, [[0, 5, 5, 5], [0, 4, 5, 5]]),
    ],
}


def test_a_lead_is_over_the_best_rival_of_its_step_task_by_task():
    found = leads(RECORD, "ours")
    assert [(lead.rival, lead.gain) for lead in found] == [("slow", 0), ("early", 3.5), ("early", 4), ("slow", -2)]
    assert found[2].ci95 == 0


def test_the_crossing_is_where_a_rival_is_ahead_and_no_step_at_all_does_not_count():
    assert crossing(RECORD, "ours") == 4
    never = {"steps": [0, 1], "starts": [row("a", True, [[0, 2], [0, 3]]), row("b", False, [[1, 1], [1, 1]])]}
    assert crossing(never, "a") is None
    assert steps_to(RECORD, 9.0) == ("slow", 4) and steps_to(RECORD, 99.0) is None


def test_where_lower_is_better_signs_turn():
    turned = {
        "steps": RECORD["steps"],
        "lower is better": True,
        "starts": [
            row(r["name"], r["learned"], [[-v for v in values] for values in r["values"]]) for r in RECORD["starts"]
        ],
    }
    assert leads(turned, "ours") == leads(RECORD, "ours") and crossing(turned, "ours") == 4
    assert steps_to(turned, -9.0) == ("slow", 4) and steps_to(turned, -99.0) is None


def test_a_showcase_is_known_by_its_name_and_keeps_its_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"no showcase 'fotos'; there are photo"):
        show("fotos", ShowSettings(1, tmp_path / "a"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no showcase"):
        show("photo", ShowSettings(1, tmp_path / "b"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "showcase.json").write_text(json.dumps({"showcase": "photo", "minutes": 2}))
    with pytest.raises(ConfigError, match="minutes: 2 -> 1"):
        show("photo", ShowSettings(1, tmp_path / "c"))
    for minutes in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--minutes"):
            ShowSettings(minutes, tmp_path)


def test_the_command_lists_the_showcases(capsys):
    assert main(["show"]) == 0
    told = capsys.readouterr().out
    assert all(f"{name} " in told and showcase.what in told for name, showcase in SHOWCASES.items())
    assert main(["show", "fotos"]) == 2
    assert "there are photo, speech" in capsys.readouterr().err
    assert main(["show", "photo", "--minutes", "0"]) == 2
    assert "--minutes must be" in capsys.readouterr().err


def test_a_finished_part_is_not_computed_again(tmp_path):
    assert Stages(tmp_path).kept("one part", lambda: {"a": [1.5]}) == {"a": [1.5]}
    assert Stages(tmp_path).kept("one part", lambda: 1 / 0) == {"a": [1.5]}


def test_missing_voices_and_texts_are_said(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"udhr2.zip, are not in .*nltk_data"):
        voices.recordings("test", tmp_path)
    (tmp_path / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(DataError, match="get it again"):
        voices.recordings("test", tmp_path)
    monkeypatch.setattr(voices.shutil, "which", lambda program: None)
    with pytest.raises(DataError, match="espeak-ng, which reads the texts, is not installed"):
        voices.spoken("is", "Hvað?", "m3")


def test_no_language_is_heard_in_two_parts():
    parts = [set(codes) for codes in voices.LANGUAGES.values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    files = [code for codes in voices.LANGUAGES.values() for code in codes.values()]
    assert len(files) == len(set(files))


def test_a_picture_of_any_depth_is_read_as_it_looks(tmp_path):
    """Pillow's own conversion clips 16 bits at 255, and takes the colour under what is transparent."""
    from PIL import Image

    Image.fromarray(np.full((40, 40), 128 * 257, np.uint16)).save(tmp_path / "deep.png")
    Image.new("RGBA", (40, 40), (9, 9, 9, 0)).save(tmp_path / "clear.png")
    assert (own_picture(tmp_path / "deep.png", (16,))[0] == 128).all()
    assert (own_picture(tmp_path / "clear.png", (16,))[0] == 255).all()


def test_a_picture_of_ones_own_is_cut_to_its_middle(tmp_path):
    from PIL import Image

    wide = Image.new("RGB", (200, 80), (10, 20, 30))
    wide.save(tmp_path / "wide.png")
    small, fine = own_picture(tmp_path / "wide.png", (16, 32))
    assert small.shape == (16, 16, 3) and fine.shape == (32, 32, 3) and (small == (10, 20, 30)).all()
    Image.new("RGB", (40, 20)).save(tmp_path / "tiny.png")
    with pytest.raises(DataError, match="40x20 pixels; give one of at least 32"):
        own_picture(tmp_path / "tiny.png", (16,))
    with pytest.raises(DataError):
        own_picture(tmp_path / "none.png", (16,))


def test_the_scene_is_the_same_picture_at_any_size():
    import numpy as np

    small, large = scene(16).astype(float), scene(64).astype(float)
    means = large.reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.abs(means - small).mean() < 6
