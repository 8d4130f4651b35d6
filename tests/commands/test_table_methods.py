"""`fastadapt train --data TABLE --method`: every method that works on rows, from the table to an answer."""

import json

import numpy as np
import pytest
import torch

from fastadapt import load_run
from fastadapt.cli import main
from fastadapt.commands.table_methods import UNFIT, WAYS
from fastadapt.compare.held_out import Draw, judge, learner_scores
from fastadapt.data import prepare_table
from fastadapt.data.tables.table import TableTasks
from fastadapt.errors import DataError
from fastadapt.methods import ProtoNet
from tables import classification, regression, write

FAST = ["--training.steps", "2", "--training.meta-batch", "2", "--hidden", "6", "--draws", "1", "--quiet"]
COMPARING = [name for name, way in WAYS.items() if way.compares]


STEPPING = [n for n, way in WAYS.items() if not way.labels and n not in ("maml", "reptile", "gaussian")]


OFTEN = ("protonet", "protomaml", "snail", "metasgd", "cavia")


def each(names):
    """Return a case for each method; those that differ little from another are slow tests."""
    return [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in names]


def train(path, method, *words, target):
    table = ["--data", str(path), "--task-column", "group", "--target", target, "--method", method]
    return main(["train", *table, *FAST, "--shots", "5", "--baselines", "none", *words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
@pytest.mark.parametrize("method", each(COMPARING))
def test_labels_are_learned_by_comparing_and_answered_for_new_rows(here, capsys, method):
    assert train(classification(here / "c.csv"), method, target="label") == 0
    assert "accuracy" in capsys.readouterr().out
    run = here / "runs" / f"{method}-c"
    loaded = load_run(run)
    assert loaded.config.data.known and loaded.config.embeds
    write(here / "new.csv", ("a", "b", "label"), [(-2, 0, "low"), (2, 0, "middle"), (-2, 1, "low"), (2, 1, "middle")])
    assert main(["adapt", str(run), "new.csv", "--out", "mine"]) == 0
    assert "note: no row has the label high, which is never the answer then" in capsys.readouterr().out
    write(here / "ask.csv", ("a", "b"), [(-3, 0), (3, 0)])
    assert main(["predict", "mine", "ask.csv", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)[0]["rows"]
    assert all(sorted(row["probabilities"]) == ["low", "middle"] for row in rows)
    write(here / "one.csv", ("a", "b", "label"), [(-2, 0, "low"), (2, 0, "low")])
    assert main(["adapt", str(run), "one.csv", "--out", "other"]) == 2
    assert "one.csv has rows of the label low alone" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize("method", each(STEPPING))
def test_amounts_are_predicted_by_steps(here, capsys, method):
    assert train(regression(here / "t.csv"), method, target="y") == 0
    said = capsys.readouterr().out
    config = load_run(here / "runs" / f"{method}-t").config
    words = "as learned" if not WAYS[method].tunes else f"of {config.method.inner_lr:g}"
    assert f"{config.method.test_steps} inner steps {words}" in said and "mse" in said


@pytest.mark.parametrize(
    ("method", "words", "says"),
    [
        *((method, [], "tells classes apart, and the values of y are amounts; choose one of maml") for method in
          [name for name, way in WAYS.items() if way.labels]),
        *((method, [], f"--method {method} is not for tables: ") for method in UNFIT),
    ],
)  # fmt: skip
def test_what_a_method_can_not_do_is_said_before_anything_is_written(here, capsys, method, words, says):
    assert train(regression(here / "t.csv"), method, *words, target="y") == 2
    err = capsys.readouterr().err
    assert says in err and len(err.strip().splitlines()) == 1
    assert not (here / "runs").exists()


def test_a_gaussian_prior_is_fitted_without_steps_and_answers_for_new_rows(here, capsys):
    assert train(regression(here / "t.csv"), "gaussian", target="y") == 0
    said = capsys.readouterr().out
    assert "fitted in closed form to" in said and "covariance" in said and "mse" in said and "step 0" not in said
    run = here / "runs" / "gaussian-t"
    learner = load_run(run).learner
    assert float(learner.covariance.diagonal().min()) > 0 and float(learner.noise) > 0
    header = (here / "t.csv").read_text().splitlines()
    (here / "new.csv").write_text("\n".join(header[:7]))
    assert main(["adapt", str(run), "new.csv", "--out", "mine"]) == 0
    assert main(["predict", "mine", "new.csv", "--json"]) == 0
    assert train(classification(here / "c.csv"), "gaussian", target="label") == 2
    assert "--method gaussian predicts amounts, and the values of label are labels" in capsys.readouterr().err


def test_inner_steps_of_a_method_without_any_are_refused(here, capsys):
    path = classification(here / "c.csv")
    assert train(path, "protonet", "--inner-steps", "3", target="label") == 2
    assert "--method protonet takes no inner steps; leave --inner-lr and --inner-steps out" in capsys.readouterr().err


def test_queries_of_a_label_without_a_support_row_do_not_count():
    x, y = torch.arange(12.0).unsqueeze(1), torch.tensor([0, 1, 2, 3, 4, 4, 0, 1, 2, 3, 5, 6])
    source = TableTasks(x, y, [np.arange(6), np.arange(12)], shots=(1, 2), queries=3, known=True)
    kept = 0
    for seed in range(60):
        task = source.sample(np.random.default_rng(seed))
        (known, labels), (asked, truth) = task.support, task.query
        assert len({*known[:, 0].tolist(), *asked[:, 0].tolist()}) == len(labels) + 3  # no row twice
        assert bool((truth >= 0).any()) and all(int(t) in labels.tolist() for t in truth if t >= 0)
        own = y[asked[:, 0].long()]
        assert all(t == -100 or t == o for t, o in zip(truth.tolist(), own.tolist(), strict=True))
        assert all(t == -100 for t, o in zip(truth.tolist(), own.tolist(), strict=True) if o not in labels)
        kept += int((truth >= 0).sum())
    assert kept > 60
    with pytest.raises(DataError, match="1 of 2 tasks have no two rows of one label"):
        TableTasks(x, y, [np.arange(12), np.arange(4)], shots=(1,), queries=2, known=True)


def test_a_held_out_row_of_a_label_without_support_is_an_error_and_not_left_out(tmp_path):
    prepared = prepare_table(classification(tmp_path / "c.csv"), task="group", target="label", shots=(2,))
    data, table = prepared.data, prepared.loaded
    rows = table.tasks("test")[next(iter(table.tasks("test")))]
    by_label = {label: [row for row in rows if int(table.y[row]) == label] for label in range(3)}
    two, asked = [by_label[0][0], by_label[1][0]], [by_label[2][0], by_label[0][0]]
    drawn = [Draw(0, np.array(two), np.array(asked))]
    learner = ProtoNet(torch.nn.Identity()).eval()
    learner.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
    [score] = learner_scores(learner, table, drawn, ways=3)
    assert score.shape == (1, 2, 3) and np.isfinite(score).all() and (score.argmax(-1)[0] != 2).all()
    assert judge([score[0]], table, data, drawn).per_task[0] == pytest.approx(0.5)
