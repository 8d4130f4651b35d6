import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from fastadapt.layers.pooling import covers, max_pool2d


def derivatives(pool, x, window):
    u = torch.linspace(0.5, 2.0, F.max_pool2d(x, window).numel()).view_as(F.max_pool2d(x, window))

    def energy(x):
        return (pool(x, window) ** 3 * u).sum()

    return grad(energy)(x), grad(lambda x: (grad(energy)(x) ** 2).sum())(x)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("window", [2, 3, (2, 3)])
@pytest.mark.parametrize("ties", [False, True])
def test_value_and_derivatives_are_those_of_the_library(window, ties):
    x = torch.randint(0, 3, (2, 3, 7, 9)).to(torch.float64) if ties else torch.randn(2, 3, 7, 9)
    assert torch.equal(max_pool2d(x, window), F.max_pool2d(x, window))
    torch.testing.assert_close(derivatives(max_pool2d, x, window), derivatives(F.max_pool2d, x, window))


@pytest.mark.usefixtures("double")
def test_it_can_be_vmapped():
    x = torch.randn(4, 2, 3, 6, 6)
    got = vmap(grad(lambda x: (max_pool2d(x, 2) ** 2).sum()))(x)
    want = torch.stack([grad(lambda x: (F.max_pool2d(x, 2) ** 2).sum())(one) for one in x])
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_value_that_is_no_number_is_not_lost(place):
    x = torch.arange(4.0)
    x[place] = float("nan")
    assert torch.isnan(max_pool2d(x.view(1, 1, 2, 2), 2)).all()


def test_what_it_does_not_cover_is_left_to_the_library():
    x = torch.randn(1, 2, 6, 6)
    assert covers(x, 2) and covers(x, (2, 2), 2) and covers(x, [2])
    for options in (
        {"stride": 1},
        {"padding": 1},
        {"dilation": 2},
        {"ceil_mode": True},
        {"return_indices": True},
    ):
        assert not covers(x, 2, **options)
    assert not covers(x, 7) and not covers(x, 5) and not covers(x, 1)
