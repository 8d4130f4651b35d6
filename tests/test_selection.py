import pytest
from torch import nn

from fastadapt import MAML, MLP, Conv4, select
from fastadapt.errors import FastadaptError, SelectionError


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))


@pytest.mark.parametrize(
    ("adapt", "names"),
    [
        ("all", ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"]),
        ("head", ["3.weight", "3.bias"]),
        ("body", ["0.weight", "0.bias", "1.weight", "1.bias"]),
        ("0.*", ["0.weight", "0.bias"]),
        (("*", "!1.*"), ["0.weight", "0.bias", "3.weight", "3.bias"]),
        (("*", "!*", "3.bias", "0.bias"), ["0.bias", "3.bias"]),
        (lambda name: name.endswith("weight"), ["0.weight", "1.weight", "3.weight"]),
    ],
)
def test_names_are_selected_in_the_order_of_the_model(adapt, names):
    assert list(select(net(), adapt)) == names
    assert list(MAML(net(), adapt=adapt).adapted) == names


def test_frozen_parameters_are_never_selected():
    model = net()
    model[3].weight.requires_grad_(False)
    assert select(model, "head") == ("3.bias",)
    model[3].bias.requires_grad_(False)
    with pytest.raises(SelectionError, match=r"0\.weight"):
        select(model, "head")


def test_the_head_of_the_librarys_networks_is_their_last_linear_layer():
    for model in (MLP(2, (3, 3), 1, norm=True), Conv4(1, 2, 3)):
        assert select(model, "head") == ("head.weight", "head.bias")
        assert len(select(model, "body")) == len(list(model.parameters())) - 2


def test_a_head_that_is_tied_to_the_body_is_named_by_its_first_place():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    assert select(model, "head") == ("0.weight", "2.bias")
    assert select(model, "body") == ("0.bias",)


def test_the_head_of_a_single_layer_is_all_of_it():
    assert select(nn.Linear(2, 1), "head") == ("weight", "bias")
    with pytest.raises(SelectionError, match="selects no trainable"):
        select(nn.Linear(2, 1), "body")


@pytest.mark.parametrize("adapt", ["decoder.*", ("*", "decoder.bias"), lambda name: False, ("*", "!*")])
def test_a_selection_of_nothing_says_what_there_is(adapt):
    with pytest.raises(FastadaptError, match=r"0\.weight"):
        select(net(), adapt)


def test_an_exclusion_that_matches_nothing_is_allowed():
    assert len(select(net(), ("*", "!*gamma"))) == 6


def test_a_model_without_parameters_is_refused():
    with pytest.raises(SelectionError, match="none that requires a gradient"):
        select(nn.ReLU(), "all")
