"""Predictors on disk: the round trip, what interrupts a save, and every kind of damage."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

import fastadapt
from fastadapt import SGD, Conv4, CrossEntropy, load_predictor, save_predictor
from fastadapt.errors import CheckpointError
from fastadapt.runs.predictor_file import DESCRIPTION, WEIGHTS

NET = {"name": "Conv4", "arguments": {"channels": 1, "width": 4, "ways": 3, "affine": "both"}}
X = torch.linspace(0, 1, 4 * 28 * 28).view(4, 1, 28, 28)


class Tied(nn.Module):
    """Use one matrix twice, and keep a buffer that a `state_dict` leaves out."""

    def __init__(self, width=3):
        super().__init__()
        self.first = nn.Linear(width, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        self.second.weight = self.first.weight
        self.register_buffer("shift", torch.zeros(width), persistent=False)

    def forward(self, x):
        return self.second(self.first(x).tanh()) + self.shift


def adapted(norm="support+query", scale=1.0):
    torch.manual_seed(0)
    learner = fastadapt.MAML(Conv4(1, 4, 3, affine="both"), CrossEntropy(), rule=SGD(0.1), steps=2, norm=norm)
    support = (scale * torch.rand(6, 1, 28, 28), torch.arange(6) % 3)
    learner(fastadapt.Task(support, support))  # feeds the running moments
    predictor = learner.adapt(support)
    predictor.details.update(net=NET, labels=["a", "ß", "\udcff"], note=[1, None, 0.1, {"deep": True}])
    return predictor


def answer(predictor):
    with torch.no_grad():
        return predictor(X)


@pytest.mark.parametrize("norm", ["transductive", "support", "support+query", "running", "per_step"])
def test_round_trip_is_bit_equal(tmp_path, norm):
    predictor = adapted(norm)
    state = torch.get_rng_state()
    again = load_predictor(save_predictor(predictor, tmp_path / "a"))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(answer(again), answer(predictor))
    assert again.norm == norm and again.details == predictor.details and again.labels == predictor.labels
    assert not any(module.training for module in again.modules())
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [DESCRIPTION, WEIGHTS]
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.long
def test_a_fresh_process_loads_it_in_three_lines(tmp_path):
    predictor = adapted()
    save_predictor(predictor, tmp_path / "a")
    torch.save(X, tmp_path / "x.pt")
    code = "\n".join([
        "import torch; x = torch.load('x.pt'); torch.set_num_threads(1)",
        "import fastadapt",
        "predict = fastadapt.load_predictor('a/')",
        "logits = predict(x)",
        "torch.save(logits, 'y.pt')",
    ])  # fmt: skip
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / "y.pt"), predictor(X))


def test_a_module_of_your_own(tmp_path):
    model = Tied().double()
    nn.init.normal_(model.shift)
    predictor = fastadapt.Predictor(model)
    save_predictor(predictor, tmp_path)
    with pytest.raises(CheckpointError, match=r"was made from a Tied, .* pass one, as in .*model=Tied\(\.\.\.\)\)$"):
        load_predictor(tmp_path)
    own = Tied()
    before = own.first.weight.detach().clone()
    again = load_predictor(tmp_path, model=own)
    x = torch.rand(2, 3, dtype=torch.float64)
    assert torch.equal(again(x), predictor(x)) and again.labels is None
    assert again.model.first.weight is again.model.second.weight
    assert torch.equal(own.first.weight, before)  # the module that gave the architecture keeps its weights
    with pytest.raises(
        CheckpointError, match=r"^the given Tied has 'first.weight' of shape \(4, 4\), the weights hold"
    ):
        load_predictor(tmp_path, model=Tied(4))
    with pytest.raises(CheckpointError, match=r"^the given Linear has 'bias' of shape \(3,\), which the weights lack$"):
        load_predictor(tmp_path, model=nn.Linear(3, 3))
    with pytest.raises(
        CheckpointError, match=r"^the given Identity has no 'first.weight', which the weights hold with"
    ):
        load_predictor(tmp_path, model=nn.Identity())


def test_views_of_one_storage_are_saved(tmp_path):
    model = nn.Linear(2, 2)
    whole = torch.rand(6)
    model.weight.data, model.bias.data = whole[:4].view(2, 2).T, whole[4:]
    again = load_predictor(save_predictor(fastadapt.Predictor(model), tmp_path), model=nn.Linear(2, 2))
    assert torch.equal(again.model.weight, model.weight) and torch.equal(again.model.bias, model.bias)


# ---- where it may be written ---------------------------------------------------------------------


def test_what_is_there_is_not_overwritten_unasked(tmp_path):
    old, new = adapted(), adapted(scale=0.5)
    save_predictor(old, tmp_path / "a")
    with pytest.raises(
        CheckpointError, match=r"a already holds a predictor; name another folder, or allow it with --over"
    ):
        save_predictor(new, tmp_path / "a")
    assert torch.equal(answer(load_predictor(tmp_path / "a")), answer(old))
    for predictor in (new, old, old, new):
        save_predictor(predictor, tmp_path / "a", overwrite=True)
        assert torch.equal(answer(load_predictor(tmp_path / "a")), answer(predictor))
        assert len(list((tmp_path / "a").iterdir())) == 2


def test_other_files_survive(tmp_path):
    (tmp_path / "thesis.tex").write_text("irreplaceable")
    with pytest.raises(CheckpointError, match=r"already holds other files \(thesis.tex\); name another folder"):
        save_predictor(adapted(), tmp_path)
    save_predictor(adapted(), tmp_path, overwrite=True)
    load_predictor(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "irreplaceable"


def test_places_that_can_not_be(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for place, sentence in (
        ("file", "it is a file; name a folder$"),
        ("file/a", "could not write|Not a directory"),
        ("loop", "can't write a predictor to|could not write"),
        ("n" * 300, "can't write a predictor to|could not write"),
        ("a\0b", "can't write a predictor to"),
    ):
        with pytest.raises(CheckpointError, match=sentence):
            save_predictor(adapted(), tmp_path / place)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "loop"]


def test_details_must_be_json_and_true(tmp_path):
    predictor = adapted()
    predictor.details["note"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="its details are not all JSON values"):
        save_predictor(predictor, tmp_path / "a")
    predictor.details["note"] = float("nan")
    with pytest.raises(CheckpointError, match="its details are not all JSON values"):
        save_predictor(predictor, tmp_path / "a")
    predictor = adapted()
    predictor.details["net"] = {"name": "Conv4", "arguments": {"channels": 1, "width": 5, "ways": 3}}
    with pytest.raises(CheckpointError, match=r"details\['net'\] of this predictor, .* has 'blocks"):
        save_predictor(predictor, tmp_path / "a")
    for net, sentence in (
        (
            {"name": "ResNet", "arguments": {}},
            "no network 'ResNet' .*, only CategoricalPolicy, Conv4, FaceNet, Features, FourierMLP, "
            "GaussianPolicy, Headed, KochNet, LinearHead, MLP, Nearest, RareEventsEncoder, RecurrentPolicy, "
            "RelationEncoder, ResNet12, Siren, StatisticianEncoder, ViT, WithIdentities$",
        ),
        ({"name": "Conv4", "arguments": {"wide": 1}}, "does not describe a network of fastadapt"),
        ({"name": "Conv4", "arguments": {"channels": 0, "width": 1, "ways": 1}}, "does not describe a network"),
        ({"name": ["os"]}, "does not describe|no network"),
        ("Conv4", "does not describe a network of fastadapt"),
    ):
        predictor.details["net"] = net
        with pytest.raises(CheckpointError, match=sentence):
            save_predictor(predictor, tmp_path / "a")
    assert not (tmp_path / "a").exists()


# ---- interrupted -----------------------------------------------------------------------------------


class Faults:
    """Let the n-th operation on the disk fail."""

    def __init__(self, patch, at, error):
        self.left, self.error = at, error
        for owner, name in (
            (Path, "write_bytes"),
            (Path, "write_text"),
            (Path, "replace"),
            (Path, "rename"),
            (Path, "mkdir"),
            (os, "fsync"),
        ):
            patch.setattr(owner, name, self.around(getattr(owner, name)))

    def around(self, operation):
        def run(*args, **kwargs):
            self.left -= 1
            if self.left == -1:
                if operation.__name__ in ("write_bytes", "write_text"):
                    operation(args[0], args[1][: len(args[1]) // 2], **kwargs)  # half of it had arrived
                raise self.error
            return operation(*args, **kwargs)

        return run


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("existing", [False, True])
def test_a_save_that_fails_anywhere_changes_nothing(tmp_path, existing, error):
    old, new = adapted(), adapted(scale=0.5)
    target = tmp_path / "a"
    if existing:
        save_predictor(old, target)
    for at in range(30):
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, error)
            try:
                save_predictor(new, target, overwrite=True)
            except CheckpointError as raised:
                assert "could not write" in str(raised) and "disk is full" in str(raised)
            except KeyboardInterrupt:
                pass
            else:
                assert faults.left >= 0
                break
        if existing:
            found = answer(load_predictor(target))
            if torch.equal(found, answer(new)):  # the last fsync failed, after the rename
                save_predictor(old, target, overwrite=True)
            else:
                assert torch.equal(found, answer(old))
        elif target.exists():
            assert torch.equal(answer(load_predictor(target)), answer(new))
            (target / DESCRIPTION).unlink()
            (target / WEIGHTS).unlink()
            target.rmdir()
    assert at >= 5
    assert torch.equal(answer(load_predictor(target)), answer(new))
    save_predictor(new, target, overwrite=True)  # what was interrupted leaves nothing behind for long
    assert [p.name for p in tmp_path.iterdir()] == ["a"] and len(list(target.iterdir())) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.long
def test_killed_while_replacing(tmp_path):
    versions = [adapted(), adapted(scale=0.5)]
    answers = [answer(predictor) for predictor in versions]
    target = save_predictor(versions[0], tmp_path / "a")
    for i in range(20):
        child = os.fork()
        if child == 0:
            while True:
                for predictor in versions:
                    save_predictor(predictor, target, overwrite=True)
        time.sleep(0.01 + 0.003 * i)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        found = answer(load_predictor(target))
        assert any(torch.equal(found, known) for known in answers)
    save_predictor(versions[0], target, overwrite=True)
    assert len(list(target.iterdir())) == 2


# ---- damaged -------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    return save_predictor(adapted(), tmp_path / "a")


def forge(folder, **changes):
    """Change the description and its checksum with it, as an attacker would."""
    from fastadapt.runs.predictor_file import _checksum

    description = {**json.loads((folder / DESCRIPTION).read_text()), **changes}
    (folder / DESCRIPTION).write_text(json.dumps({**description, "checksum": _checksum(description)}))


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            lambda f: (f / DESCRIPTION).unlink(),
            r"a is not a predictor: there is no predictor.json in it; give a folder",
        ),
        (lambda f: (f / WEIGHTS).unlink(), "a is not a predictor: there is no weights.safetensors in it"),
        (lambda f: f.rename(f.with_name("b")), "a is not a predictor: there is no such folder; check the path$"),
        (
            lambda f: (f.rename(f.with_name("b")), f.touch()),
            "a is not a predictor: it is not a folder; give the folder that 'fastadapt adapt' wrote$",
        ),
        (
            lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).mkdir()),
            "weights.safetensors can't be read: Is a directory",
        ),
        (
            lambda f: cut(f / DESCRIPTION, 300),
            r"predictor.json is damaged: it is no complete JSON \(.*\); adapt again, or",
        ),
        (lambda f: cut(f / DESCRIPTION, 0), "it is no complete JSON"),
        (lambda f: (f / DESCRIPTION).write_bytes(b"\xff" * 50), "it is no complete JSON"),
        (lambda f: (f / DESCRIPTION).write_text("[" * 200_000), "it is no complete JSON"),
        (lambda f: (f / DESCRIPTION).write_text(" " * 2_000_000), "has 2000000 bytes, which is no description"),
        (lambda f: (f / DESCRIPTION).write_text("[]"), "is not a description of a predictor; give a folder that"),
        (lambda f: (f / DESCRIPTION).write_text("{}"), "is not a description of a predictor"),
        (
            lambda f: forge(f, version=2, fastadapt="9.0"),
            "has version 2, this fastadapt reads version 1; it was written by fastadapt 9.0: use that one, or ad",
        ),
        (
            lambda f: (f / DESCRIPTION).write_text((f / DESCRIPTION).read_text().replace('"a"', '"b"')),
            "damaged or was edited: its checksum differs; adapt again, or restore it$",
        ),
        (
            lambda f: cut(f / WEIGHTS, 500),
            r"is damaged: its SHA-256 is not .* \(500 bytes, \d+ were written\); adapt again",
        ),
        (lambda f: (f / WEIGHTS).write_bytes(b""), "is damaged: its SHA-256"),
        (
            lambda f: forge(f, weights={"file": "../../secret.safetensors", "sha256": ""}),
            "names no file of weights, but",
        ),
        (lambda f: forge(f, weights="x"), "names no file of weights"),
        (lambda f: forge(f, norm="best"), r"is not a description of a predictor \(norm must be one of"),
        (lambda f: forge(f, calls=99), "is not a description of a predictor"),
        (lambda f: forge(f, details=3), "is not a description of a predictor"),
        (
            lambda f: forge(f, details={"net": {"name": "Conv4", "arguments": {"channels": 1, "width": 9, "ways": 3}}}),
            r"the network that \S+ names has 'blocks.0.0.bias' of shape \(9,\), the weights hold shape \(4,\)",
        ),
        (
            lambda f: forge(
                f, details={"net": {"name": "MLP", "arguments": {"inputs": 10**7, "hidden": [10**7], "outputs": 1}}}
            ),
            "which the weights hold with shape|which the weights lack",
        ),
        (lambda f: forge(f, details={"net": {"name": "nn", "arguments": {}}}), "there is no network 'nn' in fastadapt"),
    ],
)
def test_every_harm_has_a_sentence(saved, harm, sentence):
    harm(saved)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        load_predictor(saved)
    assert "\n" not in str(caught.value)


def test_weights_of_another_format(saved):
    import hashlib

    for content in (b"\x80\x04\x95 a pickle", b"\xff" * 100):
        (saved / WEIGHTS).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        forge(saved, weights={"file": WEIGHTS, "bytes": len(content), "sha256": digest})
        with pytest.raises(CheckpointError, match="is not a safetensors file"):
            load_predictor(saved)


def test_every_flipped_bit_is_noticed(saved):
    generator = torch.Generator().manual_seed(0)
    described = json.loads((saved / DESCRIPTION).read_text())
    for name in (DESCRIPTION, WEIGHTS):
        intact = (saved / name).read_bytes()
        for _ in range(60):
            content = bytearray(intact)
            position = int(torch.randint(len(intact), (1,), generator=generator))
            content[position] ^= 1 << int(torch.randint(8, (1,), generator=generator))
            (saved / name).write_bytes(content)
            try:
                load_predictor(saved)
            except CheckpointError:
                continue
            assert name == DESCRIPTION and json.loads(content) == described  # a space that became another one
        (saved / name).write_bytes(intact)
    load_predictor(saved)
