"""The command on a user's table: from a CSV to a comparison, a predictor and answers."""

import json
import sys

import numpy as np
import pytest

from fastadapt import load_predictor, load_run
from fastadapt.cli import main
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.evaluation import Protocol, evaluate
from tables import classification, regression, write

FAST = ["--training.steps", "20", "--training.meta-batch", "4", "--hidden", "8", "--draws", "2", "--quiet"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(path, *words, target="y"):
    return main(["train", "--data", str(path), "--task-column", "group", "--target", target, *FAST, *words])


@pytest.mark.long
def test_from_a_table_to_answers(here, capsys):
    path = regression(here / "t.csv")
    assert train(path, "--baselines", "quick", "--shots", "3", "5") == 0
    said = capsys.readouterr().out
    assert "t.csv: 1 number column, 1 of categories: 6 inputs; target y: amounts" in said
    assert "9 tasks train, 2 validate, 3 test" in said
    assert "for new tasks, as chosen on the validation tasks:" in said
    assert "## 3 support rows" in said and "against the best baseline here" in said
    run = here / "runs" / "maml-t"
    names = (
        "config.json",
        "split.json",
        "evaluation.json",
        "comparison.json",
        "report/comparison.md",
        "model/model.json",
    )
    for name in names:
        assert (run / name).stat().st_size > 0

    split = json.loads((run / "split.json").read_text())
    assert sorted(split["train"] + split["val"] + split["test"]) == sorted({f"t{i}" for i in range(14)})
    comparison = json.loads((run / "comparison.json").read_text())
    assert comparison["held out"] == split["test"]
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert evaluation["mean"][-1] == pytest.approx(comparison["results"][0]["methods"][0]["mean"], rel=1e-4)

    # the exported learner adapts as the validation tasks chose, and takes the same kind of file
    loaded = load_run(run)
    chosen = loaded.config.method
    assert f"{chosen.test_steps} inner steps of {chosen.inner_lr:g}" in said
    rows = read_rows(path)
    mine = [row for row in rows.cells if row[0] == split["test"][0]]
    write(here / "new.csv", rows.header, [["someone new", *row[1:]] for row in mine[:5]])
    write(here / "ask.csv", ("colour", "x"), [(row[2], row[1]) for row in mine[5:9]])
    assert main(["adapt", str(run), "new.csv", "--out", "mine", "--steps", "3"]) == 0
    told = capsys.readouterr().out
    assert "adapted maml-t to 5 rows of new.csv in 3 steps" in told and "root mean squared error" in told
    assert main(["predict", "mine", "ask.csv", "--json"]) == 0
    [answer] = json.loads(capsys.readouterr().out)
    preparation = loaded.config.data.preparation
    x = preparation.features(read_rows(here / "ask.csv"))
    wanted = preparation.mean + preparation.std * load_predictor("mine")(x).detach().double()[:, 0]
    assert [row["value"] for row in answer["rows"]] == pytest.approx(wanted.tolist(), rel=1e-6)
    assert [row["line"] for row in answer["rows"]] == [2, 3, 4, 5]
    assert main(["predict", "mine", "ask.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file\tline\tanswer" and lines[1] == f"ask.csv\t2\t{wanted[0]:.6g}"

    assert main(["evaluate", str(run), "--data", str(path)]) == 0
    assert "held-out tasks, K=3, 5 draws each" in capsys.readouterr().out
    assert main(["evaluate", str(run), "--data", str(path), "--tasks", "3"]) == 2
    assert "leave --tasks, --norm and --after out" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert "runs/maml-t" in capsys.readouterr().out
    assert main(["report", str(run)]) == 2
    assert "report/comparison.md" in capsys.readouterr().err


@pytest.mark.long
def test_labels_and_reptile(here, capsys):
    path = classification(here / "c.csv")
    assert train(path, "--method", "reptile", "--shots", "6", "--baselines", "none", target="label") == 0
    said = capsys.readouterr().out
    assert "target label: 3 labels" in said and "accuracy" in said
    run = here / "runs" / "reptile-c"
    assert not (run / "comparison.json").exists()
    write(here / "new.csv", ("a", "b", "label"), [(-2, 0, "low"), (2, 0, "high"), (0, 1, "middle"), (2, 1, "high")])
    assert main(["adapt", str(run), "new.csv", "--out", "mine"]) == 0
    told = capsys.readouterr().out
    assert "of 4 right" in told and "note: the run was trained for 6 rows, these are fewer" in told
    write(here / "ask.csv", ("a", "b"), [(-3, 0), (3, 0)])
    main(["predict", "mine", "ask.csv", "--json"])
    rows = json.loads(capsys.readouterr().out)[0]["rows"]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1) for row in rows)
    assert all(row["label"] == max(row["probabilities"], key=row["probabilities"].get) for row in rows)


@pytest.mark.long
def test_the_same_command_goes_on_and_another_table_is_another_run(here, capsys):
    path = regression(here / "t.csv")
    assert train(path, "--baselines", "none") == 0
    weights = (here / "runs/maml-t/model/learner.safetensors").read_bytes()
    assert train(path, "--baselines", "none") == 0
    assert (here / "runs/maml-t/model/learner.safetensors").read_bytes() == weights
    capsys.readouterr()
    regression(path, seed=1)
    assert train(path, "--baselines", "none") == 2
    err = capsys.readouterr().err
    assert "holds a run with other settings" in err and len(err) < 700


@pytest.mark.long
def test_the_inner_loop_of_training_and_streams_work_with_a_loaded_run(here):
    path = regression(here / "t.csv")
    train(path, "--baselines", "none")
    loaded = load_run(here / "runs/maml-t")
    data = loaded.config.data
    result = evaluate(loaded.learner, data.source("test", data.load(path)), Protocol(tasks=5))
    assert np.isfinite(result.mean).all() and result.metric == "mse"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--shots", "50"], "0 of 14 tasks have the 55 rows that are needed (the largest has 20)"),
        (["--shots", "0"], "shots must be different whole numbers of at least 1"),
        (["--ignore", "z"], "has no column 'z'"),
        (["--classification", "--regression"], "exclude each other"),
        (["--test-tasks", "13"], "and 2 must be left to train on"),
        (["--queries", "0"], "data.queries must be at least 1"),
    ],
)
def test_a_mistake_gets_one_sentence_and_leaves_no_trace(here, capsys, words, says):
    path = regression(here / "t.csv")
    assert train(path, *words) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and says in err and "Traceback" not in err
    assert not (here / "runs").exists()


def test_a_table_without_its_columns_or_file(here, capsys):
    path = regression(here / "t.csv")
    assert train(path, target="price") == 2
    assert "has no column 'price'; it has group, x, colour, y" in capsys.readouterr().err
    assert train(here / "none.csv") == 2
    assert "there is no such file" in capsys.readouterr().err


@pytest.mark.long
def test_what_was_left_out_is_said(here, capsys):
    path = regression(here / "t.csv")
    rows = read_rows(path)
    cells = [[*row, "same"] for row in rows.cells] + [["tiny", "1", "red", "100", "same"]]
    write(path, (*rows.header, "constant"), cells)
    assert train(path, "--baselines", "none") == 0
    said = capsys.readouterr().out
    assert "note: 1 tasks have fewer than 15 rows and are left out: tiny (1)" in said
    assert "note: column constant is left out: every value is the same" in said


@pytest.mark.long
def test_without_scikit_learn_the_comparison_is_made_without_boosting(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    assert train(regression(here / "t.csv"), "--shots", "5") == 0
    said = capsys.readouterr().out
    assert "note: gradient boosting needs scikit-learn: pip install 'fastadapt[tables]'; the comparison will be" in said
    assert "ridge per task" in said and "boosting, told" not in said
