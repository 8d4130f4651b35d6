"""Several processes that share each meta-batch: the numbers of one process, one that writes, and an end for all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastadapt as fa
from fastadapt.ranks import Ranks
from fastadapt.training.outer_step import outer_step
from fastadapt.training.sharded import interleaved
from fastadapt.training.shared_steps import together
from two_ranks import CASES, Waves, train

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]
SCRIPT = Path(__file__).parents[1] / "two_ranks.py"


def run(folder, *cases, world=2):
    command = [sys.executable, str(SCRIPT)]
    return [subprocess.Popen([*command, str(r), str(world), str(folder), *cases]) for r in range(world)]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    assert [process.wait(timeout=250) for process in run(folder, *CASES)] == [0, 0]
    return folder, [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_does(both, case):
    """Five tasks a step: three for one and two for the other."""
    alone = train(case, None, Ranks())
    for found in (ranks[case] for ranks in both[1]):
        for name, value in alone["state"].items():
            torch.testing.assert_close(found["state"][name], value, rtol=1e-12, atol=1e-13)
    first, second = (ranks[case] for ranks in both[1])
    assert all(torch.equal(value, second["state"][name]) for name, value in first["state"].items())
    for ours, one in zip(first["records"], alone["records"], strict=True):
        assert ours.keys() == one.keys()
        assert list(ours.values()) == pytest.approx(list(one.values()), rel=1e-9)


@pytest.mark.parametrize("case", ["maml", "protonet"])
def test_an_evaluation_has_the_digits_of_one_process(both, case):
    learner = CASES[case]()
    learner.load_state_dict(both[1][0][case]["state"])
    alone = fa.evaluate(learner, Waves(classes=case == "protonet"), fa.Protocol(tasks=60), meta_batch=7)
    assert [ranks[case]["tested"] for ranks in both[1]] == [alone.per_task] * 2


def test_one_process_writes(both):
    folder = both[0] / "maml"
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoints", "metrics.jsonl"]
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 2, 3, 4, 4]


def test_an_error_of_one_process_ends_all_with_its_sentence(tmp_path):
    first, second = run(tmp_path, "broken")
    assert second.wait(timeout=250) == 3
    assert first.wait(timeout=60) == 3
    (kind, told), (own, sentence) = (json.loads((tmp_path / f"{r}.json").read_text(encoding="utf-8")) for r in (0, 1))
    assert (own, sentence) == ("FastadaptError", "the tasks are used up; make more")
    assert (kind, told) == ("RankError", f"process 1 of 2 ended: {sentence}")


def test_the_others_end_when_one_is_killed(tmp_path):
    first, second = run(tmp_path, "killed")
    assert second.wait(timeout=250) == -9
    assert first.wait(timeout=60) == 3
    kind, told = json.loads((tmp_path / "0.json").read_text(encoding="utf-8"))
    assert kind == "RankError" and told.startswith("another process of the training is gone")


def test_a_meta_batch_has_a_task_for_every_process():
    learner, training = CASES["maml"](), fa.Training(meta_batch=3)
    with pytest.raises(fa.FastadaptError, match="meta_batch is 3 and there are 4 processes"):
        together(outer_step, learner, Ranks(0, 4), training, training.build_optimizer(learner))


@pytest.mark.parametrize(
    ("training", "shards", "words"),
    [
        ({}, object(), "training.overlap=2 and sharding='full' exclude each other"),
        (
            {"local_steps": 2, "optimizer": "sgd"},
            None,
            "training.overlap=2 and training.local_steps=2 exclude each other",
        ),
    ],
)
def test_gradients_are_sent_in_one_way(training, shards, words):
    learner, settings = (
        CASES["reptile"](),
        fa.Training(steps=4, meta_batch=4, overlap=2, checkpoint_every=2, log_every=2, validate_every=2, **training),
    )
    with pytest.raises(fa.FastadaptError, match=words):
        together(outer_step, learner, Ranks(0, 2), settings, settings.build_optimizer(learner), shards)


def test_parts_come_together_in_the_order_of_the_tasks():
    for world in (1, 2, 3):
        parts = [torch.tensor(Ranks(rank, world).part(range(7))) for rank in range(world)]
        assert interleaved(parts).tolist() == list(range(7))
