"""What is given as an update rule."""

import functools

import pytest
import torch
from torch import nn

from fastadapt import SGD, Adam, Clip
from fastadapt.errors import ConfigError
from fastadapt.rules.rules import as_rule

W = [nn.Parameter(torch.zeros(2))]


class Own:
    def __init__(self, **held):
        vars(self).update(held)

    def init(self, params):
        return ()

    def update(self, params, grads, state):
        return params, state


def test_a_rule_is_taken_as_it_is_and_none_is_the_default():
    assert as_rule(None) == SGD()
    for rule in (SGD(0.3), Clip(Adam(0.1)), Own(lr=0.1)):
        assert as_rule(rule) is rule


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (0.1, r"rule=0.1 is a number.*write rule=fastadapt.SGD\(0.1\)"),
        (torch.tensor(0.1), r"rule is a tensor.*write rule=fastadapt.SGD\(lr\)"),
        ("adam", r"rule='adam' is a text.*write rule=fastadapt.Adam\(lr\)"),
        (torch.optim.SGD, r"rule=SGD is an optimizer of torch.*in place.*write rule=fastadapt.SGD\(lr\)"),
        (torch.optim.Adam, r"write rule=fastadapt.Adam\(lr, beta1=0.9\)"),
        (torch.optim.SGD(W, lr=0.3), r"rule=SGD\(\.\.\.\) is .*write rule=fastadapt.SGD\(0.3\)"),
        (torch.optim.SGD(W, lr=0.3, momentum=0.8), r"write rule=fastadapt.Momentum\(0.3, 0.8\)"),
        (torch.optim.SGD(W, 0.3, 0.8, nesterov=True), r"fastadapt.Momentum\(0.3, 0.8, nesterov=True\)"),
        (torch.optim.Adam(W, 0.2, (0.5, 0.9)), r"write rule=fastadapt.Adam\(0.2, beta1=0.5, beta2=0.9\)"),
        (torch.optim.RMSprop(W, lr=0.2), r"fastadapt.Adam\(0.2, beta1=0.9\), the nearest there is"),
        (functools.partial(torch.optim.SGD, lr=0.1), r"write rule=fastadapt.SGD\(0.1\)"),
        (SGD, r"rule=SGD is a class.*write rule=SGD\(lr\)"),
        (Own(), "the rule Own has init and update, but no attribute lr"),
        (lambda p, g: p, "rule=<lambda> is a function.*init.*update"),
        (nn.Linear(1, 1), "is a Linear"),
        ((0.1, 0.9), "is a tuple"),
    ],
)
def test_anything_else_is_one_sentence_that_says_what_to_write(given, words):
    with pytest.raises(ConfigError, match=words) as caught:
        as_rule(given)
    assert "\n" not in str(caught.value)
