"""Receivers in closed form, against sums written out, and against what is known of their error rates."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fastadapt.data.receiver import PILOTS, SYMBOLS, Receiver, device, imbalance
from fastadapt.methods import GaussianPrior
from fastadapt.showcases.demodulators import Bank, FourNumbers, ScalarMMSE, decided, least_squares
from fastadapt.tasks import draw_batch, task_rngs


def drawn(devices, pilots, symbols=0, seed=0):
    source = Receiver(pilots=pilots, symbols=symbols)
    matrices, sent, heard = source.heard(task_rngs(seed, "test", range(devices)))
    return matrices, sent, heard, SYMBOLS[sent[:, :pilots]], heard[:, :pilots]


def fitted(known):
    [tasks] = draw_batch(known, seed=0, split="train", indices=range(400))
    return GaussianPrior(nn.Identity(), mean=torch.zeros(2, 2), constant=False).fit(tasks)


def test_a_decision_is_the_nearest_image():
    matrices, _, heard, *_ = drawn(4, 8)
    images = torch.stack([torch.stack([m @ s for s in SYMBOLS]) for m in matrices])
    want = torch.cdist(heard, images).argmin(-1)
    assert torch.equal(decided(matrices, heard), want)


@pytest.mark.parametrize("pilots", [1, 4])
def test_the_scalar_receiver_is_the_posterior_mean_of_a_complex_channel(pilots):
    *_, sent, heard = drawn(3, pilots)
    found = ScalarMMSE(0.05)(sent, heard)
    for one, s, y in zip(found, sent, heard, strict=True):
        a = np.concatenate([[[i, -q], [q, i]] for i, q in s.numpy()])  # y = a (h_re, h_im)
        h = np.linalg.solve(a.T @ a + 0.05 / 0.5 * np.eye(2), a.T @ y.numpy().ravel())
        np.testing.assert_allclose(one, [[h[0], -h[1]], [h[1], h[0]]], rtol=1e-4)


def test_the_bank_weighs_distortions_by_their_evidence():
    torch.manual_seed(0)
    shapes = torch.tensor(np.stack([imbalance(a, b) for a, b in ((0, 0), (1, 1), (0.5, 0.9))]), dtype=torch.float64)
    *_, sent, heard = (part.double() for part in drawn(3, 2))
    found = Bank(shapes, 0.05)(sent, heard)
    for one, s, y in zip(found, sent.numpy(), heard.numpy(), strict=True):
        means, evidence = [], []
        for shape in shapes.numpy():
            u = s @ shape.T
            a = np.concatenate([[[i, -q], [q, i]] for i, q in u])
            covariance = 0.5 * a @ a.T + 0.05 * np.eye(len(a))
            h = 0.5 * a.T @ np.linalg.solve(covariance, y.ravel())
            means.append(np.array([[h[0], -h[1]], [h[1], h[0]]]) @ shape)
            _, logdet = np.linalg.slogdet(covariance)
            evidence.append(-0.5 * (logdet + y.ravel() @ np.linalg.solve(covariance, y.ravel())))
        weights = np.exp(np.array(evidence) - max(evidence))
        np.testing.assert_allclose(one, np.tensordot(weights / weights.sum(), means, 1), rtol=1e-9)


def test_without_noise_and_distortion_one_pilot_is_enough_for_the_gaussian():
    rng = np.random.default_rng(0)
    h = rng.standard_normal((300, 2))
    matrices = torch.tensor([[[a, -b], [b, a]] for a, b in h])
    mean, covariance = matrices.flatten(1).mT.mean(1), torch.cov(matrices.mT.flatten(1).T)
    prior = GaussianPrior(
        nn.Identity(), mean=mean.view(2, 2).mT.contiguous(), covariance=covariance, noise=1e-12, constant=False
    )
    sent = SYMBOLS[[PILOTS[0]]].double().expand(300, 1, 2)
    found = FourNumbers(prior)(sent, sent @ matrices.mT)
    everything = SYMBOLS.double() @ matrices.mT
    assert torch.equal(decided(found.float(), everything.float()), torch.arange(16).expand(300, 16))


def test_four_numbers_are_those_of_the_learner_task_by_task():
    learner = fitted(Receiver(pilots=8, known=True))
    *_, sent, heard = drawn(3, 4)
    found = FourNumbers(learner)(sent, heard)
    for one, s, y in zip(found, sent, heard, strict=True):
        torch.testing.assert_close(learner.adapt((s, y)).model.weight, one)


def test_perfect_knowledge_errs_as_seldom_as_fading_lets_it():
    """Within .04 to .07 at 20 dB, and equal for two seeds to .003: 10,000 devices."""
    rates = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        matrices = torch.tensor(np.stack([device(rng) for _ in range(10_000)]), dtype=torch.float32)
        sent = torch.as_tensor(rng.integers(0, 16, (10_000, 64)))
        noise = torch.as_tensor(rng.standard_normal((10_000, 64, 2)), dtype=torch.float32)
        heard = SYMBOLS[sent] @ matrices.mT + math.sqrt(0.05) * noise
        rates.append(float((decided(matrices, heard) != sent).float().mean()))
    assert all(0.04 < rate < 0.07 for rate in rates)
    assert abs(rates[0] - rates[1]) < 0.003


def test_the_gaussian_beats_least_squares_and_that_beats_the_receiver_which_ignores_the_distortion():
    matrices, sent, heard, pilots, seen = drawn(600, 4, 200)
    prior = FourNumbers(fitted(Receiver(pilots=16, known=True)))
    ways = {"prior": prior, "ls": least_squares, "mmse": ScalarMMSE(0.05), "known": lambda s, y: matrices}
    wrong = {n: float((decided(w(pilots, seen), heard[:, 4:]) != sent[:, 4:]).float().mean()) for n, w in ways.items()}
    assert wrong["known"] < wrong["prior"] < wrong["ls"] < wrong["mmse"]
