"""Which modules a learner takes."""

import logging

import pytest
import torch
from torch import nn
from torch.nn.parallel import DataParallel

from fastadapt.errors import ConfigError
from fastadapt.layers.supported import as_module


def named(name):
    """Return a module of a class with a name of torch's, as making a real one takes a process group."""
    kind = type(name, (nn.Module,), {"__module__": "torch.distributed.somewhere"})
    return kind()


def around(part):
    return nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Tanh(), part))


@pytest.mark.parametrize(
    "module", [nn.Linear(2, 1), around(nn.LSTM(2, 2)), nn.utils.parametrizations.weight_norm(nn.Linear(2, 1))]
)
def test_an_ordinary_module_is_taken_as_it_is(module):
    assert as_module(module) is module


def script():
    with torch.jit.optimized_execution(False):
        return torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))


REFUSED = {
    "scripted": (lambda: torch.jit.script(nn.Linear(2, 2)), "of TorchScript, .*; pass the module it was made from"),
    "traced": (script, "of TorchScript, .*; pass the module it was made from"),
    "lazy": (lambda: nn.LazyLinear(2), r"LazyLinear whose weight has no shape yet; run one batch .*: model\(x\)"),
    "lazy norm": (nn.LazyBatchNorm1d, "has no shape yet"),
    "spread by threads": (lambda: DataParallel(nn.Linear(2, 2)), "pass the module itself, and wrap the learner"),
    "spread by processes": (
        lambda: named("DistributedDataParallel"),
        "wrap the learner",
    ),
    "sharded": (lambda: named("FullyShardedDataParallel"), "wrap the learner"),
    "sharded in place": (lambda: named("FSDPModule"), "wrap the learner"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*TorchScript")
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_with_other_parameters_is_told(name, deep):
    build, words = REFUSED[name]
    module = around(build()) if deep else build()
    with pytest.raises(ConfigError, match=f"^model{'.1.1' if deep else ''} is a .*{words}") as caught:
        as_module(module)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (nn.Linear, r"model=Linear is a class, .* write Linear\(\.\.\.\)"),
        (torch.relu, "model=relu is a .*takes an nn.Module"),
        (3, "model=3 is a int"),
        (None, "model=None is a NoneType"),
    ],
)
def test_what_is_no_module_is_told(given, words):
    with pytest.raises(ConfigError, match=words):
        as_module(given)


def test_a_lazy_module_is_taken_once_it_has_seen_a_batch():
    module = nn.Sequential(nn.LazyLinear(2), nn.LazyBatchNorm1d())
    module(torch.zeros(3, 4))
    assert as_module(module) is module


def test_torch_compile_is_taken_off_and_said(caplog):
    module = nn.Linear(2, 1)
    compiled = torch.compile(module, backend="eager")
    with caplog.at_level(logging.INFO, logger="fastadapt"):
        assert as_module(compiled) is module
    assert "Execution(compile='on')" in caplog.text
