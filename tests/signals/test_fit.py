"""Both fits, step by step: equal to plain autograd and torch's own Adam in float64, and ahead where they should be."""

import copy
import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from fastadapt.errors import CheckpointError, ConfigError
from fastadapt.signals import starts
from fastadapt.signals.example import example
from fastadapt.signals.fit import HEADLINES, USUAL_STEPS, fits
from fastadapt.signals.signal import Photo
from fastadapt.signals.starts import FOLDER, KINDS, load_pair
from fastadapt.signals.told import sentence


@dataclasses.dataclass(frozen=True, eq=False)
class Double(Photo):
    """A photograph whose numbers are float64."""

    def tasks(self):
        return [tuple(leaf.double() for leaf in task) for task in super().tasks()]


def by_hand(net, x, y, rule, steps, order=None):
    """Return the values after each step of torch's own Adam, on all points or on 64 after another of an order."""
    net = copy.deepcopy(net)
    adam = torch.optim.Adam(net.parameters(), rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps)
    seen = [net(x).detach()]
    for k in range(steps):
        rows = slice(None) if order is None else order[64 * k : 64 * (k + 1)]
        adam.zero_grad()
        ((net(x[rows]) - y[rows]) ** 2).mean().backward()
        adam.step()
        seen.append(net(x).detach())
    return seen


@pytest.mark.parametrize("side, batch", [(16, None), (16, 4096), (16, 64)])
def test_a_fit_is_plain_gradient_descent(side, batch):
    pair = load_pair("photo")
    starts = {name: dataclasses.replace(getattr(pair, name), batch=batch) for name in ("learned", "random")}
    photo = Double(example("photo", side).target)
    [(x, y)] = photo.tasks()
    found = list(fits(photo, dataclasses.replace(pair, **starts), 5))
    order = torch.cat([torch.randperm(side**2, generator=g) for g in [torch.Generator().manual_seed(0)] for _ in "ab"])
    for name, start in starts.items():
        want = by_hand(start.net.double(), x, y, start.rule, 5, order if batch == 64 else None)
        start.net.float()
        for both, values in zip(found, want, strict=True):
            there = getattr(both, name)
            np.testing.assert_allclose(there.values.reshape(-1, 3), values.numpy(), atol=1e-9)
            assert there.decibels == pytest.approx(-10 * np.log10(float(((values - y) ** 2).mean())), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_learned_start_is_ahead_after_its_steps_and_the_same_each_time(kind):
    signal, steps = example(kind, seconds=0.4), HEADLINES[kind]
    first, again = (list(fits(signal, load_pair(kind), steps)) for _ in range(2))
    assert [both.step for both in first] == list(range(steps + 1))
    assert first[-1].learned.decibels > first[-1].random.decibels
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a.learned.values, b.learned.values) and np.array_equal(a.random.values, b.random.values)


def test_a_sound_is_fitted_by_a_network_for_each_window():
    sound = example("sound", seconds=0.25)
    *_, both = fits(sound, load_pair("sound"), 1)
    head = dataclasses.replace(sound, target=sound.target[:1024])
    *_, alone = fits(head, load_pair("sound"), 1)
    np.testing.assert_allclose(both.learned.values[:1024], alone.learned.values, atol=1e-6)


def test_it_is_stopped_between_two_steps():
    def check():
        calls.append(1)
        if len(calls) > 3:
            raise InterruptedError

    calls = []
    with pytest.raises(InterruptedError):
        list(fits(example("photo", 16), load_pair("photo"), 20, check))
    with pytest.raises(ConfigError, match="takes 0 to 1000 steps, got -1"):
        list(fits(example("photo", 16), load_pair("photo"), -1))


def test_another_seed_is_another_random_start_and_the_generator_is_left_alone():
    torch.manual_seed(7)
    want = torch.rand(1)
    torch.manual_seed(7)
    load_pair.cache_clear()
    one, other = load_pair("photo", 0), load_pair("photo", 1)
    assert torch.equal(torch.rand(1), want)
    a, b = (dict(pair.random.net.named_parameters())["head.weight"] for pair in (one, other))
    assert not torch.equal(a, b)
    for x, y in zip(one.learned.net.parameters(), other.learned.net.parameters(), strict=True):
        assert torch.equal(x, y)


def test_what_is_shipped_is_what_the_records_say():
    files = sorted(path.name for path in FOLDER.iterdir())
    assert files == ["photo.json", "photo.safetensors", "sound.json", "sound.safetensors"]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 500_000
    for kind in KINDS:
        record = json.loads((FOLDER / f"{kind}.json").read_text())
        content = (FOLDER / f"{kind}.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == record["sha256"]
        assert record["command"] == f"python benchmarks/starts.py {kind}"
        found = record["measured"]
        assert found["signals"] >= 100 and len(found["learned"]) == len(found["random"]) > USUAL_STEPS[kind]
        assert min(found["gain"][1:]) > 0  # its lead is on the whole curve
        assert found["gain"][HEADLINES[kind]] > found["gain ci95"][HEADLINES[kind]]
        for gain, learned, random in zip(found["gain"], found["learned"], found["random"], strict=True):
            assert gain == pytest.approx(learned - random, abs=0.011)


def test_missing_files_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(starts, "FOLDER", tmp_path)
    load_pair.cache_clear()
    with pytest.raises(CheckpointError, match=r"can't read the learned start .*install fastadapt again"):
        load_pair("photo")


SAID = (
    ([9, 9, 20, 30], [9, 9, 15, 21], "20.0 dB from the learned start, 15.0 dB from a random one (+5.0 dB). The random"),
    ([9, 9, 20, 30], [9, 9, 15, 21], "needs 3 steps for that. After 3 steps: 30.0 and 21.0 dB."),
    ([9, 9, 20, 30], [9, 9, 15, 16], "The random start has not got there after 3."),
    ([9, 9, 20, 30], [9, 9, 25, 31], "(-5.0 dB). After 3 steps: 30.0 and 31.0 dB."),
    ([9], [8], "After 0 steps: 9.0 dB from the learned start, 8.0 dB from a random one (+1.0 dB)."),
)


@pytest.mark.parametrize("learned, random, said", SAID)
def test_the_sentence_is_true_whoever_is_ahead(learned, random, said):
    assert said in sentence("photo", learned, random)
