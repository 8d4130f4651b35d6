"""Runs that `meta_train(folder=...)` wrote from Python are opened with a learner built as they were."""

import pytest
import torch

from fastadapt import MAML, MLP, SGD, Protocol, Reptile, Sinusoid, Training, load_run, meta_train
from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.learner import Learner


def learner(width=8):
    return MAML(MLP(1, (width,), 1), rule=SGD(0.01), test_steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("runs") / "waves"
    settings = Training(steps=6, meta_batch=2, checkpoint_every=2, validate_every=3)
    trained = learner()
    protocol = Protocol("validation-v1", tasks=5, split="val")
    meta_train(trained, Sinusoid(), settings, validation=Sinusoid(), protocol=protocol, folder=where, quiet=True)
    return where, trained


def test_it_takes_the_weights_of_the_best_checkpoint(folder):
    where, _ = folder
    fresh = learner()
    loaded = load_run(where, model=fresh)
    assert loaded.learner is fresh and not fresh.training and loaded.name == "waves"
    assert loaded.step in (3, 6) and loaded.score is not None
    again = load_run(str(where), learner())
    for ours, theirs in zip(fresh.parameters(), again.learner.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_it_takes_the_newest_where_nothing_was_validated(tmp_path):
    trained = learner()
    meta_train(trained, Sinusoid(), Training(steps=3, meta_batch=2, checkpoint_every=2), folder=tmp_path, quiet=True)
    loaded = load_run(tmp_path, model=learner())
    assert loaded.step == 3 and loaded.score is None
    for ours, theirs in zip(loaded.learner.parameters(), trained.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    x = torch.zeros(2, 1)
    assert loaded.learner.adapt((x, x))(x).shape == (2, 1)


def test_without_a_learner_it_says_what_is_needed(folder):
    with pytest.raises(
        CheckpointError, match=r"weights and no network; write load_run\(folder, model=learner\) with a MAML"
    ):
        load_run(folder[0])


def test_a_network_alone_is_not_enough(folder):
    with pytest.raises(ConfigError, match=r"model is a MLP, .* write model=fastadapt.MAML\(network, \.\.\.\)"):
        load_run(folder[0], model=MLP(1, (8,), 1))  # type: ignore[call-overload]


@pytest.mark.parametrize("other", [lambda: learner(9), lambda: Reptile(MLP(1, (8, 8), 1))])
def test_a_learner_that_does_not_fit_is_told(folder, other):
    with pytest.raises(CheckpointError, match=r"of a MAML, does not fit this (MAML|Reptile): "):
        load_run(folder[0], model=other())


def test_a_folder_without_checkpoints_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        load_run(tmp_path, model=learner())
    with pytest.raises(CheckpointError, match="not a run"):
        load_run(tmp_path)


def test_damaged_checkpoints_are_told(folder, tmp_path, caplog):
    meta_train(learner(), Sinusoid(), Training(steps=1, meta_batch=2), folder=tmp_path, quiet=True)
    [path] = (tmp_path / "checkpoints").iterdir()
    (path / "learner.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="no valid checkpoint"):
        load_run(tmp_path, model=learner())
    assert isinstance(load_run(folder[0], model=learner()).learner, Learner)
