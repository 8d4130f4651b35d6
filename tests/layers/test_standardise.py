import pytest
import torch
from torch.func import grad, vmap

from fastadapt.layers.forms import as_on
from fastadapt.layers.standardise import standardise
from fastadapt.layers.tracing import written_for

EPS = 0.1


def by_definition(x):
    dims = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
    return (x - mean) / torch.sqrt(variance + EPS)


def derivative(order, function, x):
    """Return the gradient of the squared norm of the gradient of ..., `order` gradients in all."""
    u = torch.linspace(-1, 2, x.numel(), dtype=x.dtype).view_as(x)

    def energy(x):
        z = function(x)
        return (z**3 * u).sum() + (z * u).sin().sum()

    for _ in range(order - 1):
        energy = (lambda inner: lambda x: (grad(inner)(x) ** 2 * u).sum())(energy)
    return grad(energy)(x)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    "audience, device", [("vmap", "cpu"), ("compiler", "cpu"), ("vmap", "cuda"), ("compiler", "cuda")]
)
@pytest.mark.parametrize("shape", [(4, 3, 5), (6, 2), (3, 2, 4, 5)])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_every_order_are_those_of_the_definition(order, shape, audience, device):
    x = 2 * torch.randn(shape) + 1
    with written_for(audience), as_on(device):
        torch.testing.assert_close(standardise(x, EPS), by_definition(x))
        got = derivative(order, lambda x: standardise(x, EPS), x)
    want = derivative(order, by_definition, x)
    assert float((got - want).norm() / want.norm()) < 1e-12


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_a_vmap_equals_one_after_another(order, device):
    x = torch.randn(3, 4, 2, 5)
    with as_on(device):
        got = vmap(lambda x: derivative(order, lambda x: standardise(x, EPS), x))(x)
    torch.testing.assert_close(got, torch.stack([derivative(order, by_definition, one) for one in x]))


@pytest.mark.usefixtures("double")
def test_the_gradient_of_the_gradient_to_what_flows_in_is_right_too():
    x, g = torch.randn(4, 3), torch.randn(4, 3)

    def pulled(function, g):
        return (torch.func.vjp(function, x)[1](g)[0] ** 2).sum()

    got = grad(lambda g: pulled(lambda x: standardise(x, EPS), g))(g)
    torch.testing.assert_close(got, grad(lambda g: pulled(by_definition, g))(g))
