"""Weights of which each of two processes keeps a part: the numbers of one process, and checkpoints for any number.

python test_fully_sharded.py RANK WORLD FOLDER JOB [JOB ...]      is one of the processes
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import fastadapt as fa
from fastadapt.training.checkpoint import latest_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1]))
from two_ranks import CASES, Waves

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this torch has no torch.distributed")
KINDS = ("maml", "first order", "reptile", "running", "ragged", "protonet")


def trained(case, steps=4, folder=None, sharding="none", source=None, **more):
    """Return the weights after some outer steps by Adam of five tasks each, and what was logged."""
    learner = CASES[case]()
    before = list(learner.parameters())
    settings = {
        "meta_batch": 5,
        "lr": 0.01,
        "validate_every": 2,
        "log_every": 1,
        "checkpoint_every": 2,
        "clip_norm": 1.0,
    }
    validation = Waves(classes=case == "protonet")
    done = fa.meta_train(
        learner,
        source or Waves(case == "ragged", case == "protonet"),
        fa.Training(steps=steps, **{**settings, **more}),
        validation=validation,
        protocol=fa.Protocol(tasks=5, split="val"),
        folder=folder,
        sharding=sharding,
        quiet=True,
    )
    assert all(a is b for a, b in zip(before, learner.parameters(), strict=True))
    with torch.no_grad():
        learner.trace(fa.draw(validation, seed=1, split="val", indices=range(2)))  # a learner as any other
    records = [{k: v for k, v in r.items() if k not in ("seconds", "tasks/s")} for r in done.records]
    return {"state": {k: v.clone() for k, v in learner.state_dict().items()}, "records": records}


class Broken(Waves):
    """The first process's tasks of the second step are not finite."""

    def sample(self, rng):
        task = super().sample(rng)
        if dist.get_rank() == 0 and 3 < self.drawn <= 6:
            task.support[0][0] = torch.nan
        return task


def adapters(folder, steps, sharding="full"):
    """Return the adapters of a transformer of 124 million parameters after some outer steps, and its size."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from benchmarks.gpt2 import GPT2, next_token

    torch.manual_seed(0)
    learner = fa.MAML(GPT2(length=32), next_token, rule=fa.SGD(0.1), meta_gradient="first_order", route="loop")

    def sample(rng):
        return fa.Task(*((torch.as_tensor(rng.integers(0, 50257, (2, 17))),) for _ in range(2)))

    training = fa.Training(steps=steps, meta_batch=2, checkpoint_every=1, log_every=1, keep=5)
    fa.meta_train(learner, sample, training, folder=folder, sharding=sharding, quiet=True)
    state = {name: p.detach().clone() for name, p in learner.named_parameters() if p.requires_grad}
    return {"state": state, "size": sum(p.numel() for p in learner.parameters())}


JOBS = {
    "adapters": lambda folder: adapters(folder / "adapters", 2),
    "adapters resumed": lambda folder: adapters(folder / "adapters resumed", 2),
    "all": lambda folder: {case: trained(case, folder=folder / case, sharding="full") for case in KINDS},
    "broken": lambda folder: trained("maml", sharding="full", source=Broken()),
    "half": lambda folder: trained("maml", 2, folder / "half", "full"),
    "sharded": lambda folder: trained("maml", 4, folder / "sharded", "full"),
    "whole": lambda folder: trained("maml", 4, folder / "whole"),
    "from whole": lambda folder: trained("maml", 4, folder / "from whole", "full"),
}


def process(rank, world, folder, jobs):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / jobs[0]}-meets", rank=rank, world_size=world)
    torch.save({job: JOBS[job](folder) for job in jobs}, folder / f"{jobs[0]}-{rank}.pt")
    dist.destroy_process_group()


def run(folder, *jobs, seconds=250):
    command = [sys.executable, __file__]
    running = [subprocess.Popen([*command, str(rank), "2", str(folder), *jobs]) for rank in (0, 1)]
    assert [each.wait(timeout=seconds) for each in running] == [0, 0]
    return [torch.load(folder / f"{jobs[0]}-{rank}.pt", weights_only=False) for rank in (0, 1)]


def same(one, other, rtol=0.0):
    for name, value in one["state"].items():
        torch.testing.assert_close(value, other["state"][name], rtol=rtol, atol=rtol)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture(scope="module")
def both(place):
    return run(place, "all", "broken", "half")


@pytest.mark.long
@pytest.mark.parametrize("case", KINDS)
def test_two_processes_with_a_part_each_train_as_one_does(both, case):
    alone = trained(case)
    first, second = (ranks["all"][case] for ranks in both)
    same(first, alone, 1e-12)
    same(first, second)
    for ours, one in zip(first["records"], alone["records"], strict=True):
        assert list(ours.values()) == pytest.approx(list(one.values()), rel=1e-9)


@pytest.mark.long
def test_a_step_that_is_not_finite_in_one_process_moves_none(both):
    first, second = (ranks["broken"] for ranks in both)
    same(first, second)
    assert all(value.isfinite().all() for value in first["state"].values())
    assert [r["skipped"] for r in first["records"] if "skipped" in r][-1] == 1


@pytest.mark.long
def test_a_checkpoint_is_read_by_two_processes_and_by_one(both, place):
    import shutil

    for name in ("sharded", "whole", "one"):
        shutil.copytree(place / "half", place / name)
    trained("maml", 2, place / "from whole")
    found = run(place, "sharded", "whole", "from whole")
    straight = both[0]["all"]["maml"]
    same(found[0]["sharded"], straight)  # bit for bit
    same(found[0]["whole"], straight, 1e-12)
    same(found[0]["from whole"], straight, 1e-12)
    same(trained("maml", 4, place / "one"), straight, 1e-12)


@pytest.mark.long
def test_a_checkpoint_is_whole_or_it_does_not_count(both, place):
    newest = latest_checkpoint(place / "half" / "checkpoints")
    assert newest.step == 2
    folder = place / "half" / "checkpoints" / "step-00000002"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sharded"] == 2
    parts = sorted(folder.glob("shard-*"))
    assert len(parts) == 2 and sorted(manifest["files"]) == [*(p.name for p in parts), "state.json"]
    for part in parts:
        kept = part.read_bytes()
        for damage in (None, kept[:-1], kept[:-1] + bytes([kept[-1] ^ 1])):
            part.unlink() if damage is None else part.write_bytes(damage)
            with pytest.raises(fa.FastadaptError, match="none of the 1 checkpoints"):
                latest_checkpoint(place / "half" / "checkpoints")
        part.write_bytes(kept)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_transformer_with_adapters_runs_saves_and_resumes_on_one_and_two(tmp_path):
    import shutil

    whole = run(tmp_path, "adapters", seconds=900)
    assert whole[0]["adapters"]["size"] > 100e6
    for name in ("adapters resumed", "one"):
        shutil.copytree(tmp_path / "adapters", tmp_path / name)
        shutil.rmtree(tmp_path / name / "checkpoints" / "step-00000002")
    resumed = run(tmp_path, "adapters resumed", seconds=900)
    same(resumed[0]["adapters resumed"], whole[0]["adapters"])
    same(adapters(tmp_path / "one", 2), whole[0]["adapters"], 1e-4)


@pytest.mark.parametrize(
    ("more", "optimizer", "words"),
    [
        ({"local_steps": 2, "optimizer": "sgd"}, False, "exclude each other"),
        ({}, True, "replaces the parameters that an optimizer= was made for"),
    ],
)
def test_what_needs_whole_weights_is_refused(more, optimizer, words):
    learner = CASES["maml"]()
    made = torch.optim.Adam(learner.parameters()) if optimizer else None
    training = fa.Training(steps=2, log_every=2, checkpoint_every=2, **more)
    with pytest.raises(fa.FastadaptError, match=words):
        fa.meta_train(learner, Waves(), training, optimizer=made, sharding="full", quiet=True)


def test_one_process_keeps_all():
    same(trained("maml", 2, sharding="full"), trained("maml", 2))
    with pytest.raises(fa.FastadaptError, match="must be 'none' or 'full', got 'half'"):
        trained("maml", 2, sharding="half")


if __name__ == "__main__":
    process(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
