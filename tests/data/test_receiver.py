"""The receiver's tasks: what is drawn, against its formula written out with complex numbers."""

import math

import numpy as np
import pytest
import torch

from fastadapt import check_tasks
from fastadapt.data.receiver import PILOTS, SYMBOLS, Receiver, device, imbalance
from fastadapt.errors import ConfigError
from fastadapt.losses import SymbolErrors
from fastadapt.tasks import draw_batch, task_rngs


def test_a_device_is_its_distortion_and_then_its_channel():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        b, b2 = rng.beta(5, 2, 2)
        eps, d = 0.15 * b, math.radians(15) * b2
        h = complex(*(rng.standard_normal(2) / math.sqrt(2)))
        s = SYMBOLS.double().numpy()
        i = (1 + eps) * (math.cos(d) * s[:, 0] - math.sin(d) * s[:, 1])
        q = (1 - eps) * (math.cos(d) * s[:, 1] - math.sin(d) * s[:, 0])
        sent = i + 1j * q
        sent *= math.sqrt(10 / (abs(sent) ** 2).mean())
        want = h * sent
        found = s @ device(np.random.default_rng(seed)).T
        np.testing.assert_allclose(found[:, 0] + 1j * found[:, 1], want, rtol=1e-12)


@pytest.mark.parametrize("shares", [(0.0, 0.0), (1.0, 0.3), (0.5, 1.0)])
def test_the_energy_of_a_distorted_symbol_is_ten(shares):
    sent = SYMBOLS.double().numpy() @ imbalance(*shares).T
    assert (sent**2).sum(1).mean() == pytest.approx(10, abs=1e-6)


def test_channels_and_noise_have_the_spread_that_they_should():
    matrices, sent, heard = Receiver(pilots=16, symbols=16).heard(task_rngs(0, "train", range(2000)))
    assert float(matrices.square().sum((1, 2)).mean()) == pytest.approx(2.0, rel=0.06)
    noise = heard - SYMBOLS[sent] @ matrices.mT
    assert float(noise.var()) == pytest.approx(0.05, rel=0.02)
    assert sent[:, 16:].float().mean() == pytest.approx(7.5, abs=0.1)


def test_pilots_send_each_symbol_once_in_sixteen_and_fewer_are_the_beginning_of_more():
    assert sorted(PILOTS) == list(range(16))
    assert abs(float(torch.linalg.det(SYMBOLS[list(PILOTS[:2])]))) > 0.5
    few, many = (Receiver(pilots=p).sample(np.random.default_rng(3)) for p in (4, 20))
    for one, other in zip(few.support, many.support, strict=True):
        assert torch.equal(one, other[:4])


def test_a_task_follows_from_seed_split_and_number_alone_and_both_forms_are_one_device():
    [a] = draw_batch(Receiver(), seed=1, split="test", indices=range(6))
    [b] = draw_batch(Receiver(), seed=1, split="test", indices=[4, 5])
    assert torch.equal(a.query[0][4:], b.query[0])
    [known] = draw_batch(Receiver(known=True), seed=1, split="test", indices=range(6))
    assert torch.equal(known.support[1], a.support[0])
    assert torch.equal(known.query[0], SYMBOLS[a.query[1]])


@pytest.mark.parametrize("settings", [{"pilots": 0}, {"symbols": -1}, {"pilots": 2.5}, {"snr": math.nan}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"{next(iter(settings))} must be a"):
        Receiver(**settings)


def test_symbol_errors_count_what_accuracy_does_not():
    logits, y = torch.randn(50, 16), torch.arange(50) % 16
    loss = SymbolErrors()
    wrong = sum(int(row.argmax()) != int(label) for row, label in zip(logits, y, strict=True)) / 50
    assert float(loss.metrics(logits, (None, y))["symbol error rate"]) == pytest.approx(wrong)
    assert loss.higher_is_better is False


@pytest.mark.parametrize("pilots", [1, 4])
def test_a_symbol_that_no_pilot_has_sent_is_no_fault_of_the_tasks(pilots):
    assert check_tasks(Receiver(pilots=pilots)) == []
