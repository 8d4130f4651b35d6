"""What is changed in place is named as what it is: the input, or a result of the model's own."""

import pytest
import torch
from torch import nn

from fastadapt import MAML, Task
from fastadapt.errors import TaskError


class Net(nn.Module):
    def __init__(self, change):
        super().__init__()
        self.a, self.b, self.change = nn.Linear(3, 4), nn.Linear(4, 2), change

    def forward(self, x):
        return self.change(self, x)


def of_the_input(net, x):
    x += 1
    return net.b(net.a(x).tanh())


def of_a_result(net, x):
    h = net.a(x).tanh()
    h += 1  # which the derivative of tanh still needs
    return net.b(h)


@pytest.mark.parametrize(
    ("change", "says"), [(of_the_input, "its input in place"), (of_a_result, "a result of its own .*Tanh")]
)
def test_what_is_changed_in_place_is_named(change, says):
    task = Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2)))
    with pytest.raises(TaskError, match=says):
        MAML(Net(change), steps=2, route="loop")(task)
