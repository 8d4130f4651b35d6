"""Tables whose rows belong to tasks: the split, the draws, and that held-out tasks leave no trace."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from fastadapt import MAML, MLP, Task, Training, draw, meta_train
from fastadapt.data.tables.csv_rows import read_rows
from fastadapt.data.tables.table import TableTasks, read_support, split_tasks
from fastadapt.data.tables.table_settings import prepare_table
from fastadapt.errors import ConfigError, DataError
from fastadapt.runs.config import MLPNet, RunConfig
from tables import classification, regression, write


@pytest.fixture
def prepared(tmp_path):
    return prepare_table(regression(tmp_path / "t.csv"), task="group", target="y", shots=(3, 5))


def test_a_split_is_disjoint_complete_and_depends_on_names_and_seed_alone():
    sizes = {f"s{i}": 20 + i for i in range(40)}
    split = split_tasks(sizes, fewest=15)
    parts = [set(split.names(part)) for part in ("train", "val", "test")]
    assert [len(part) for part in parts] == [26, 6, 8]
    assert set.union(*parts) == set(sizes) and sum(map(len, parts)) == 40
    assert split_tasks(dict(reversed(sizes.items())), fewest=15) == split
    assert split_tasks(sizes, fewest=15, seed=1).test != split.test
    assert len(split_tasks(sizes, fewest=15, val=3, test=30).train) == 7


def test_small_tasks_are_left_out_and_listed():
    split = split_tasks({**{f"s{i}": 20 for i in range(10)}, "tiny": 4}, fewest=15)
    assert split.too_small == {"tiny": 4}
    assert "tiny" not in split.train + split.val + split.test


def test_too_few_tasks_are_refused_with_numbers():
    with pytest.raises(DataError, match=r"^2 of 7 tasks have the 15 rows that are needed \(the largest has 20\), and"):
        split_tasks({**{f"s{i}": 4 for i in range(5)}, "a": 20, "b": 20}, fewest=15)
    with pytest.raises(ConfigError, match="of 10 tasks 2 validate and 7 test, which leaves 1"):
        split_tasks({f"s{i}": 20 for i in range(10)}, fewest=15, val=2, test=7)


def test_a_task_is_of_one_group_and_shares_no_row():
    groups = [np.arange(0, 9), np.arange(9, 30)]
    x = torch.arange(30.0).unsqueeze(1)
    source = TableTasks(x, x, groups, shots=(4,), queries=5)
    seen = set()
    for task in draw(source, seed=0, split="train", indices=range(50)):
        assert isinstance(task, Task)
        support, query = set(task.support[0][:, 0].tolist()), set(task.query[0][:, 0].tolist())
        assert len(support) == 4 and len(query) == 5 and not support & query
        assert len({value < 9 for value in support | query}) == 1
        assert torch.equal(*task.support)
        seen |= support | query
    assert seen == set(range(30))


def test_several_shots_are_mixed_and_one_is_the_beginning_of_the_other():
    x = torch.arange(20.0).unsqueeze(1)
    mixed = TableTasks(x, x, [np.arange(20)], shots=(3, 6), queries=5)
    assert {len(t.support[0]) for t in draw(mixed, seed=0, split="train", indices=range(30))} == {3, 6}
    few, many = (TableTasks(x, x, [np.arange(20)], shots=(k,), queries=5) for k in (3, 6))
    a, b = draw(few, seed=0, split="t", indices=[7])[0], draw(many, seed=0, split="t", indices=[7])[0]
    assert torch.equal(a.support[0], b.support[0][:3])


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"shots": ()}, ConfigError, "shots must be different whole numbers of at least 1"),
        ({"shots": (0,)}, ConfigError, "at least 1, got"),
        ({"queries": -1}, ConfigError, "queries must be at least 0, got -1"),
        ({"shots": (19,)}, DataError, "every task needs 24 rows for support and query; 1 of 1 have fewer"),
        ({"groups": []}, DataError, "every task needs"),
    ],
)
def test_settings_of_a_source(change, kind, sentence):
    x = torch.zeros(20, 1)
    settings = {"groups": [np.arange(20)], "shots": (3,), "queries": 5, **change}
    with pytest.raises(kind, match=sentence):
        TableTasks(x, x, **settings)


def test_a_prepared_table(prepared):
    data, table = prepared.data, prepared.loaded
    assert (data.val_tasks, data.test_tasks, len(table.split.train)) == (2, 3, 9)
    train, test = data.source("train", table), data.source("test", table)
    assert train.sample(np.random.default_rng(0)).query[1].shape == (15, 1)
    held_out = set(table.all_rows("test").tolist()) | set(table.all_rows("val").tolist())
    assert not held_out & set(np.concatenate(train.groups).tolist())
    assert set(np.concatenate(test.groups).tolist()) == set(table.all_rows("test").tolist())
    y = table.y[table.all_rows("train")]
    assert float(y.mean()) == pytest.approx(0, abs=1e-5) and float(y.std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_a_method_without_queries_gets_larger_supports(tmp_path):
    path = regression(tmp_path / "t.csv")
    prepared = prepare_table(path, task="group", target="y", shots=(5,), with_queries=False)
    task = prepared.data.source("train", prepared.loaded).sample(np.random.default_rng(0))
    assert len(task.support[0]) == 20 and len(task.query[0]) == 0
    assert len(prepared.data.source("val", prepared.loaded).sample(np.random.default_rng(0)).support[0]) == 5


def test_poisoned_held_out_tasks_change_nothing_that_is_learned(tmp_path):
    path = regression(tmp_path / "t.csv")
    clean = prepare_table(path, task="group", target="y", shots=(5,))
    rows = read_rows(path)
    held_out = set(clean.loaded.split.test)
    poisoned = [[name, "1e6", "POISON", "-1e6"] if name in held_out else [name, *rest] for name, *rest in rows.cells]
    other = prepare_table(write(tmp_path / "p.csv", rows.header, poisoned), task="group", target="y", shots=(5,))
    assert other.data.preparation == clean.data.preparation and other.loaded.split == clean.loaded.split
    kept = torch.from_numpy(np.concatenate([clean.loaded.all_rows(part) for part in ("train", "val")]))
    assert torch.equal(other.loaded.x[kept], clean.loaded.x[kept])
    weights = []
    for prepared in (clean, other):
        torch.manual_seed(0)
        learner = MAML(MLP(prepared.data.preparation.inputs, (8,), 1, init_std=None), prepared.data.loss)
        meta_train(
            learner,
            prepared.data.source("train", prepared.loaded),
            Training(steps=3, meta_batch=4, validate_every=2),
            validation=prepared.data.source("val", prepared.loaded),
            quiet=True,
        )
        weights.append(torch.cat([p.detach().flatten() for p in learner.parameters()]))
    assert torch.equal(*weights)


def test_the_settings_survive_json_and_load_the_same_table(prepared, tmp_path):
    config = RunConfig(data=prepared.data, net=MLPNet(hidden=(8,), init_std=None))
    again = RunConfig.from_json(config.to_json())
    assert again == config
    loaded = again.data.load(tmp_path / "t.csv")
    assert torch.equal(loaded.x, prepared.loaded.x) and torch.equal(loaded.y, prepared.loaded.y)
    assert loaded.split == prepared.loaded.split
    assert torch.equal(again.data.load(tmp_path).x, loaded.x)  # the folder that it is in
    assert again.build().model.head.out_features == 1


def test_another_file_is_refused(prepared, tmp_path):
    regression(tmp_path / "other.csv", seed=1)
    with pytest.raises(DataError, match=r"other.csv is not the t.csv that this run was trained on"):
        prepared.data.load(tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"this run was trained on t.csv; give that file with --data"):
        prepared.data.load()


def test_labels_are_global(tmp_path):
    prepared = prepare_table(classification(tmp_path / "c.csv"), task="group", target="label", shots=(6,))
    assert prepared.data.preparation.labels == ("high", "low", "middle") and prepared.data.ways == 3
    task = prepared.data.source("train", prepared.loaded).sample(np.random.default_rng(0))
    assert task.support[1].dtype == torch.int64
    net = RunConfig(data=prepared.data, net=MLPNet(hidden=(8,))).net.describe(prepared.data)
    assert net["arguments"]["inputs"] == 2 and net["arguments"]["outputs"] == 3


def test_missing_columns_and_tasks_come_at_once(tmp_path):
    path = write(tmp_path / "t.csv", ("a", "b"), [(1, 2)])
    with pytest.raises(DataError, match=r"has 2 problems:\n.*no column 'group'.*\n.*no column 'y'"):
        prepare_table(path, task="group", target="y")
    path = write(tmp_path / "u.csv", ("g", "a", "y"), [("", 1, 2), ("s", 1, 2), ("NA", 1, 2)])
    with pytest.raises(DataError, match=r"has 2 problems:\n.*line 2: the task 'g' is missing.*\n.*line 4"):
        prepare_table(path, task="g", target="y")


def test_a_support_set_is_of_one_task(prepared, tmp_path):
    preparation = prepared.data.preparation
    header = ("group", "x", "colour", "y")
    one = read_rows(write(tmp_path / "one.csv", header, [("new", 4, "red", 110), ("new", 5, "blue", 112)]))
    x, y = read_support(one, preparation)
    assert x.shape == (2, preparation.inputs)
    torch.testing.assert_close(
        y[:, 0].double() * preparation.std + preparation.mean, torch.tensor([110.0, 112.0]).double(), rtol=1e-5, atol=0
    )
    assert len(read_support(one, preparation, shots=1)[0]) == 1
    with pytest.raises(DataError, match="has 2 of the 3 rows asked for; add 1"):
        read_support(one, preparation, shots=3)
    two = read_rows(write(tmp_path / "two.csv", header, [("a", 4, "red", 110), ("b", 5, "blue", 112)]))
    with pytest.raises(DataError, match=r"has rows of 2 tasks in column 'group' \(a, b, \.\.\.\); adapt to one"):
        read_support(two, preparation)
    without = read_rows(write(tmp_path / "w.csv", ("y", "colour", "x"), [(110, "red", 4), (112, "blue", 5)]))
    assert torch.equal(read_support(without, preparation)[0], x)  # in any order, without the task


def test_an_index_is_spoken_of(tmp_path):
    rows = read_rows(regression(tmp_path / "t.csv"))
    cells = [[i, 280 - i, i + 7, *row] for i, row in enumerate(rows.cells)]
    path = write(tmp_path / "t.csv", ("Unnamed: 0", "down", "rownames", *rows.header), cells)
    prepared = prepare_table(path, task="group", target="y", shots=(5,))
    assert prepared.left_out == {"Unnamed: 0": "it has no name in the header; name it if it is to be used"}
    [note] = [note for note in prepared.notes if "counts the rows" in note]
    assert note.startswith("column 'rownames' counts the rows (7, 8, ...) and is used as a number; give")
    ignored = prepare_table(path, task="group", target="y", shots=(5,), ignore=["rownames"])
    assert not any("counts the rows" in note for note in ignored.notes)


def test_a_run_of_before_is_the_same_run(prepared):
    from fastadapt.runs.config import differences

    config = RunConfig(data=prepared.data)
    plain = json.loads(config.to_json())
    for column in plain["data"]["preparation"]["columns"]:
        column.pop("low", None), column.pop("high", None)
        assert set(column) == {"kind", "name", "holds", "mean", "std", "categories", "missing"}
    plain["data"]["preparation"].pop("low"), plain["data"]["preparation"].pop("high")
    assert set(plain["data"]["preparation"]) == {"kind", "task", "target", "columns", "labels", "mean", "std"}
    assert "split" not in plain["data"]
    old = RunConfig.from_json(json.dumps(plain))
    assert json.loads(old.to_json()) == plain and differences(old, config) == [] == differences(config, old)


def test_a_changed_preparation_is_another_run(prepared):
    from fastadapt.runs.config import differences

    config = RunConfig(data=prepared.data)
    column = dataclasses.replace(prepared.data.preparation.columns[0], mean=0.0)
    rest = prepared.data.preparation.columns[1:]
    other = dataclasses.replace(prepared.data.preparation, columns=(column, *rest))
    changed = differences(
        config, dataclasses.replace(config, data=dataclasses.replace(prepared.data, preparation=other))
    )
    assert len(changed) == 1 and changed[0].startswith("data.preparation.columns: ") and len(changed[0]) < 200
    assert json.loads(config.to_json())["data"]["preparation"]["columns"][0]["kind"] == "Column"
