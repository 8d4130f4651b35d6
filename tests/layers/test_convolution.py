import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from fastadapt.layers.convolution import conv2d, covers

GEOMETRIES = [
    {"padding": 1},
    {"stride": 2, "padding": 1},
    {"stride": (2, 1), "padding": (0, 1), "groups": 2},
    {"padding": 2, "dilation": 2},
]


def second_derivative(convolve, x, w, b, geometry):
    """Return the gradient of the squared norm of a gradient, to input, filter and bias."""

    def energy(x, w, b):
        return (convolve(x, w, b, **geometry) ** 3).mean()

    def slope(x, w, b):
        return sum((g**2).sum() for g in grad(energy, (0, 1, 2))(x, w, b))

    return grad(slope, (0, 1, 2))(x, w, b)


def operands(geometry, *leading):
    groups = geometry.get("groups", 1)
    x, w = torch.randn(*leading, 2, 4, 7, 6), torch.randn(*leading, 6, 4 // groups, 3, 3)
    return x, w, torch.randn(*leading, 6)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_value_and_second_derivative_are_those_of_the_library(geometry):
    x, w, b = operands(geometry)
    torch.testing.assert_close(conv2d(x, w, b, **geometry), F.conv2d(x, w, b, **geometry))
    got, want = (second_derivative(f, x, w, b, geometry) for f in (conv2d, F.conv2d))
    torch.testing.assert_close(got, want)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("batched", [(0, 0, 0), (0, None, None), (None, 0, None), (None, None, 0)])
def test_a_vmap_over_tasks_equals_one_task_after_another(geometry, batched):
    alone, many = operands(geometry), operands(geometry, 3)
    arguments = [m if dim == 0 else a for a, m, dim in zip(alone, many, batched, strict=True)]
    got = vmap(lambda *tensors: second_derivative(conv2d, *tensors, geometry), in_dims=batched)(*arguments)
    for t in range(3):
        one = [m[t] if dim == 0 else m for m, dim in zip(arguments, batched, strict=True)]
        want = second_derivative(F.conv2d, *one, geometry)
        torch.testing.assert_close([g[t] for g in got], list(want))


@pytest.mark.usefixtures("double")
def test_plain_autograd_takes_it_too_and_no_gradient_is_computed_for_data():
    x, w = torch.randn(2, 1, 5, 5), torch.randn(3, 1, 3, 3, requires_grad=True)
    [first] = torch.autograd.grad((conv2d(x, w) ** 2).sum(), w, create_graph=True)
    [second] = torch.autograd.grad((first**2).sum(), w)
    [want] = torch.autograd.grad((F.conv2d(x, w) ** 2).sum(), w, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad((want**2).sum(), w)[0])
    assert x.grad is None


def test_what_it_does_not_cover_is_left_to_the_library():
    x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
    assert covers(x, w) and covers(x, w, None, 2, 1)
    assert not covers(x, w, padding="same")
    assert not covers(x[0], w)
    assert not covers(x.to(torch.complex64), w)


def test_autocast_computes_in_the_lower_precision():
    x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv2d(x, w).dtype == F.conv2d(x, w).dtype == torch.bfloat16
