"""A run on a table as a program of an office wrote it: what is asked later may be written in many ways."""

import json

import numpy as np
import pytest

from fastadapt import load_run
from fastadapt.cli import main

TRAIN = ["--training.steps", "10", "--training.meta-batch", "2", "--hidden", "8", "--draws", "1", "--quiet"]
COLOURS = ("grün", "türkis", "rot")


def office(seed=0, tasks=10, size=16):
    rng, lines = np.random.default_rng(seed), ["Laden;Preis;Farbe;Tag;Umsatz;split"]
    for task in range(tasks):
        side = "train" if task < 6 else "val" if task < 8 else "test"
        for _ in range(size):
            price, colour, day = rng.uniform(0, 3000), COLOURS[rng.integers(3)], rng.integers(1, 29)
            amount = f"{500 + price + 100 * task:,.2f}".translate(str.maketrans(",.", ".,"))
            lines.append(f"L{task};{price:.2f};{colour};{day:02d}.03.2024;{amount} €;{side}".replace(".", ",", 1))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("office")
    (folder / "t.csv").write_bytes(office().encode("cp1252"))
    words = ["--task-column", "Laden", "--target", "Umsatz", "--shots", "5", "--baselines", "none"]
    assert (
        main(
            [
                "train",
                "--data",
                str(folder / "t.csv"),
                *words,
                "--encoding",
                "cp1252",
                "--run",
                str(folder / "run"),
                *TRAIN,
            ]
        )
        == 0
    )
    new = [line.rsplit(";", 1)[0] for line in office(1, tasks=1).splitlines()]
    (folder / "new.csv").write_text("\n".join(new), encoding="utf-8")
    assert main(["adapt", str(folder / "run"), str(folder / "new.csv"), "--out", str(folder / "mine")]) == 0
    return folder


def ask(run, capsys, text, *words, encoding="utf-8"):
    (run / "ask.csv").write_bytes(text.encode(encoding))
    capsys.readouterr()
    code = main(["predict", str(run / "mine"), str(run / "ask.csv"), "--json", *words])
    said = capsys.readouterr()
    return json.loads(said.out)[0] if code == 0 else said.err


@pytest.mark.long
def test_what_was_made_of_it_is_recorded(run):
    config = load_run(run / "run").config
    preparation = config.data.preparation
    assert (preparation.written, preparation.unit) == ("1.234,5", "€")
    written = {column.name: column.written for column in preparation.columns}
    assert written == {"Preis": "1234,5", "Farbe": "1234.5", "Tag": "31/03/2024"}
    assert preparation.columns[1].categories == ("grün", "rot", "türkis")
    split = json.loads((run / "run" / "split.json").read_text())
    assert split["split"] == "column split" and split["test"] == ["L8", "L9"] and split["train"][0] == "L0"
    assert config.data.test_names == ("L8", "L9")


@pytest.mark.long
def test_the_same_row_in_many_notations_has_one_answer(run, capsys):
    plain = ask(run, capsys, "Preis;Farbe;Tag\n1520,40;türkis;05.03.2024\n")
    assert plain["notes"] == [] and plain["rows"][0]["notes"] == []
    value = plain["rows"][0]["value"]
    assert 1000 < value < 6000
    for text, encoding, words in (
        ("Preis;Farbe;Tag\n1520,40;türkis;05.03.2024\n", "utf-8-sig", []),
        ("Preis;Farbe;Tag\n1520,40;türkis;05.03.2024\n", "utf-16", []),
        ("Preis;Farbe;Tag\n1520,40;türkis;05.03.2024\n", "cp1252", ["--encoding", "cp1252"]),
        ("Preis;Farbe;Tag\n1520,40;tu\u0308rkis;05.03.2024\n", "utf-8", []),
        ("sep=;\nTag;Preis;Farbe;\n2024-03-05;1520,40;türkis;\n", "utf-8", []),
        ('# asked\nPreis,Farbe,Tag\n"1520,40",türkis,5 Mar 2024\n', "utf-8", []),
    ):
        assert ask(run, capsys, text, *words, encoding=encoding)["rows"][0]["value"] == value
    told = ask(run, capsys, "Preis;Farbe;Tag\n1520,40;türkis;05.03.2024\n", encoding="cp1252")
    assert told["rows"][0]["value"] == value and "is not UTF-8 and is read as cp1252" in told["notes"][0]
    told = ask(run, capsys, "Preis,Farbe,Tag\n1520.40,türkis,2024-03-05\n")
    assert told["rows"][0]["value"] == value
    assert (
        "numbers in column 'Preis' are read as 1234.5, in the training they were written as 1234,5" in told["notes"][0]
    )


def test_every_row_has_an_answer_and_what_is_unusual_a_note(run, capsys):
    rows = ["900,5;grün;05.03.2024", "99999;rot;05.03.2024", "900,5;lila;05.03.2024", ";;", "900,5;Rot;05.03.2030"]
    found = ask(run, capsys, "\n".join(["Preis;Farbe;Tag", *rows, ""]))
    assert [row["line"] for row in found["rows"]] == [2, 3, 4, 5, 6]
    notes = [row["notes"] for row in found["rows"]]
    assert notes[0] == [] and "Preis 99999 is outside the range of the training" in notes[1][0]
    assert "'lila' is not known from the training (grün, rot, türkis) and counts as unknown" in notes[2][0]
    assert "every value is missing" in notes[3][0]
    assert len(notes[4]) == 2 and "is 'rot' meant?" in notes[4][0] and "outside the range" in notes[4][1]
    assert main(["predict", str(run / "mine"), str(run / "ask.csv")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file\tline\tanswer\tnote" and len(lines) == 6 and lines[1].endswith("\t")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Preis;Farbe;Tag\n1.520;rot;05.03.2024\n", "'1.520' in column 'Preis' may be 1.52 or 1520"),
        ("Preis;Farbe;Tag\n$5;rot;05.03.2024\n", "'$5' in column 'Preis' is not a number"),
        ("Preis;Farbe;Tag\n5;rot;03/31/2024\n", "'03/31/2024' in column 'Tag' is no date such as 31/03/2024"),
        ("preis;Farbe;Tag\n5;rot;05.03.2024\n", "has no column 'Preis'; it has preis, Farbe, Tag; is 'preis' meant?"),
        ("Farbe;Preis;Tag\n" + "5;rot;05.03.2024\n" * 30, "in 29 further rows; is the header right?"),
    ],
)
def test_what_can_not_be_answered_is_told_once(run, capsys, text, says):
    said = ask(run, capsys, text)
    assert isinstance(said, str) and says in said and said.count("\n") == 1


def test_the_decimal_mark_may_be_said(run, capsys):
    text = "Preis;Farbe;Tag\n1.520;rot;05.03.2024\n"
    comma, point = (ask(run, capsys, text, "--decimal", mark)["rows"][0] for mark in ("comma", "point"))
    plain = ask(run, capsys, "Preis;Farbe;Tag\n1520;rot;05.03.2024\n")["rows"][0]
    assert comma["value"] == plain["value"] != point["value"]


def test_adapting_has_the_same_notes_and_options(run, capsys):
    lines = [line.rsplit(";", 1)[0] for line in office(2, tasks=1).splitlines()]
    lines[1] = lines[1].replace(lines[1].split(";")[2], "lila")
    (run / "other.csv").write_bytes("\n".join([*lines, ";;;;"]).encode("cp1252"))
    capsys.readouterr()
    assert main(["adapt", str(run / "run"), str(run / "other.csv"), "--out", str(run / "other")]) == 0
    said = capsys.readouterr().out
    assert "is not UTF-8 and is read as cp1252, in which the training table was written" in said
    assert "note: Farbe 'lila' is not known from the training" in said
    assert "1 row without any value" in said and "to 16 rows of" in said
    words = ["--encoding", "cp1252", "--decimal", "comma", "--overwrite"]
    assert main(["adapt", str(run / "run"), str(run / "other.csv"), "--out", str(run / "other"), *words]) == 0
    assert "is not UTF-8" not in capsys.readouterr().out
