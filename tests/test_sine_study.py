"""The sine-wave study of Nichol et al. 2018: what joint training can't do and Reptile can."""

import pytest
import torch

import fastadapt as fa


def network() -> fa.MLP:
    torch.manual_seed(0)
    return fa.MLP(1, (64, 64), 1, activation="tanh", init_std=None)


@pytest.mark.slow
def test_joint_training_learns_the_zero_function() -> None:
    learner = fa.Pretrain(network())
    settings = fa.Training(steps=1500, meta_batch=25, lr=2e-3, schedule="cosine")
    fa.meta_train(learner, fa.Sinusoid("reptile", shots=10, queries=0), settings, quiet=True)
    x = torch.linspace(-5, 5, 200).unsqueeze(1)
    assert float(learner.model(x).detach().square().mean()) < 0.02  # a wave of height 1 has 0.5


@pytest.mark.slow
def test_reptile_fits_a_wave_in_32_steps_where_a_random_start_does_not() -> None:
    def reptile() -> fa.Reptile:
        return fa.Reptile(network(), rule=fa.SGD(0.02), steps=5, batch=10, test_steps=32)

    waves = fa.Sinusoid("reptile", shots=10, queries=100, grid=True)
    protocol = fa.Protocol(tasks=200, steps=32)
    start = fa.evaluate(reptile(), waves, protocol)
    trained = reptile()
    settings = fa.Training(steps=3000, meta_batch=1, optimizer="sgd", lr=0.3, schedule="linear")
    fa.meta_train(trained, fa.Sinusoid("reptile", shots=50, queries=0), settings, quiet=True)
    found = fa.evaluate(trained, waves, protocol)
    assert found.result < start.result / 4
    assert found.median[-1] < start.median[-1] / 5
