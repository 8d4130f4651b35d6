"""A parameter in a place where it can't be replaced is refused on every route, also without gradients."""

import weakref
from collections import OrderedDict, defaultdict, deque, namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastadapt import MAML, SGD, Execution, Reptile, Task, mse
from fastadapt.errors import TaskError

pytestmark = pytest.mark.usefixtures("double")
Pair = namedtuple("Pair", "w")
WAYS = {
    "namespace": (lambda w: SimpleNamespace(w=w), lambda kept: kept.w),
    "set": (lambda w: {w}, lambda kept: next(iter(kept))),
    "named tuple": (Pair, lambda kept: kept.w),
    "ordered": (lambda w: OrderedDict(w=w), lambda kept: kept["w"]),
    "default": (lambda w: defaultdict(int, w=w), lambda kept: kept["w"]),
    "deque": (lambda w: deque([w]), lambda kept: kept[0]),
    "deep": (lambda w: [[[[w]]]], lambda kept: kept[0][0][0][0]),
    "argument": (lambda w: lambda w=w: w, lambda kept: kept()),
    "object": (lambda w: SimpleNamespace(f=lambda: w), lambda kept: kept.f()),
    "reference": (weakref.ref, lambda kept: kept()),
    "view": (lambda w: [w.t()], lambda kept: kept[0].t()),
}


def tasks():
    return [Task((torch.randn(4, 3), torch.randn(4, 2)), (torch.randn(5, 3), torch.randn(5, 2))) for _ in range(2)]


class Net(nn.Module):
    def __init__(self, way):
        super().__init__()
        keep, self.look = WAYS[way]
        self.layer = nn.Linear(3, 2)
        self.kept = keep(self.layer.weight)

    def forward(self, x):
        return F.linear(x, self.look(self.kept), self.layer.bias)


def refused(learner, some):
    for run in (lambda: learner.trace(some), lambda: learner.adapt(some[0].support), lambda: learner(some)):
        with pytest.raises(TaskError, match=r"'layer\.weight' by a way on which it can't be replaced"):
            run()


@pytest.mark.parametrize("way", WAYS)
def test_it_is_refused_at_once(way):
    refused(MAML(Net(way), mse, rule=SGD(0.1), steps=2, route="vmap"), tasks())


@pytest.mark.parametrize("kind", [MAML, Reptile])
@pytest.mark.parametrize("route", ["loop", "auto", "programs", Execution(compile="trace")])
def test_it_is_refused_on_every_route(kind, route):
    refused(kind(Net("namespace"), mse, rule=SGD(0.1), steps=2, route=route), tasks())


def test_one_that_is_not_adapted_may_be_used_so_where_nothing_is_learned():
    net = Net("namespace")
    learner = MAML(net, mse, rule=SGD(0.1), steps=2, adapt=["layer.bias"], route="vmap")
    assert learner.trace(tasks()).losses.isfinite().all()
