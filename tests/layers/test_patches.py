"""Convolutions of each task's own filters as products over patches, held to the library's, task by task."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from fastadapt import MAML, SGD, Conv4, CrossEntropy, Tasks
from fastadapt.layers import convolution, forms, patches
from fastadapt.layers.convolution import conv2d
from fastadapt.layers.forms import Shape, as_on, forced, form
from reference import difference, grads_of

GEOMETRIES = [
    ({"padding": 1}, 3),
    ({}, 3),
    ({"stride": 2, "padding": 1}, 3),
    ({"stride": (3, 2), "padding": (0, 1)}, 3),
    ({"stride": (2, 1), "padding": (0, 1), "groups": 2}, 3),
    ({"padding": 2, "dilation": 2}, 3),
    ({"padding": 3}, 2),
    ({"stride": 2}, 1),
    ({"groups": 4, "padding": 1}, 3),
]
DIMS = [(0, 0, 0), (None, 0, None), (2, 1, 0)]


def slopes(convolve, x, w, b, geometry):
    """Return value, first and second derivatives to input, filter and bias."""

    def energy(x, w, b):
        return (convolve(x, w, b, **geometry) ** 3).mean()

    def slope(x, w, b):
        return sum((g**2).sum() for g in grad(energy, (0, 1, 2))(x, w, b))

    return convolve(x, w, b, **geometry), *grad(energy, (0, 1, 2))(x, w, b), *grad(slope, (0, 1, 2))(x, w, b)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("geometry, size", GEOMETRIES)
@pytest.mark.parametrize("dims", DIMS)
def test_value_first_and_second_derivatives_are_those_of_the_library(geometry, size, dims):
    groups = geometry.get("groups", 1)
    shapes = (2, 4, 7, 6), (8, 4 // groups, size, size), (8,)
    tensors = [
        torch.randn(*shape[:dim], 3, *shape[dim:]) if dim is not None else torch.randn(shape)
        for shape, dim in zip(shapes, dims, strict=True)
    ]
    with forced("patches"):
        got = vmap(lambda *some: slopes(conv2d, *some, geometry), in_dims=dims)(*tensors)
    for t in range(3):
        one = [x if dim is None else x.select(dim, t) for x, dim in zip(tensors, dims, strict=True)]
        want = slopes(F.conv2d, *one, geometry)
        torch.testing.assert_close([g[t] for g in got], list(want))


@pytest.mark.long
@pytest.mark.usefixtures("double")
def test_a_meta_gradient_is_that_of_plain_autograd_and_data_are_cut_once(monkeypatch):
    """And so it is with normalisations in the form for a GPU, whose meta-gradient to scale and shift is checked too."""
    net = Conv4(1, 3, 2, size=16, down="stride", pooled="flatten", affine="both")
    learner = MAML(net, CrossEntropy(), rule=SGD(0.3), steps=3, route="vmap")
    pair = torch.randn(3, 4, 1, 16, 16), (torch.arange(4) % 2).repeat(3, 1)
    batch = Tasks(pair, (torch.randn(3, 6, 1, 16, 16), (torch.arange(6) % 2).repeat(3, 1)))
    MAML(net, CrossEntropy(), rule=SGD(0.3), steps=3, route="loop")(batch).loss.backward()
    want = {name: g.clone() for name, g in grads_of(net).items()}
    learner(batch)  # the routes are compared here
    cut, plain = [], patches._cut
    monkeypatch.setattr(patches, "_cut", lambda x, *rest: cut.append(tuple(x.shape)) or plain(x, *rest))
    net.zero_grad()
    with as_on("cuda"):
        learner(batch).loss.backward()
    assert difference(grads_of(net), want) < 1e-12
    data = [shape for shape in cut if shape[2] == 1]
    assert sorted(data) == [(3, 4, 1, 18, 18), (3, 6, 1, 18, 18)]  # support and query, whatever the steps
    assert len(cut) > 10
    assert not patches._kept.get()


def test_data_that_were_changed_are_cut_anew():
    x, w = torch.randn(2, 3, 1, 5, 5), torch.randn(2, 2, 1, 3, 3)
    geometry = convolution.Geometry((1, 1), (0, 0), (1, 1), 1)
    with patches.kept((x,)):
        first = patches.convolved(x, w, (0, 0), geometry)
        assert torch.equal(patches.convolved(x, w, (0, 0), geometry), first)
        x.mul_(2)
        torch.testing.assert_close(patches.convolved(x, w, (0, 0), geometry), 2 * first)


def test_maps_lie_as_the_library_lays_them():
    x, w = torch.randn(2, 3, 2, 5, 5), torch.randn(2, 4, 2, 3, 3)
    with forced("patches"):
        flat = vmap(lambda x, w: conv2d(x, w, padding=1).view(3, -1))(x, w)
    assert flat.shape == (2, 3, 100)


def test_the_form_follows_device_and_shape_and_a_cpu_calls_the_library():
    small = Shape("cuda", tasks=32, patch=576, places=980, filters=64, size=4)
    assert form(small) == "patches"
    assert form(small._replace(device="cpu")) == "one by one"
    with as_on("cuda"):
        assert form(small._replace(device="cpu")) == "patches"
    assert form(small._replace(places=75 * 42 * 42, patch=288, filters=32, tasks=4)) == "one by one"  # fills a GPU
    assert form(small._replace(tasks=4000)) == "one by one"  # 9 GB of patches
    assert {found for *_, found in forms.TABLE} == {"one by one", "patches"}
    with forced("one by one"):
        assert form(small) == "one by one"
