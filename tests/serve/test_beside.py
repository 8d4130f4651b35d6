"""Runs of several methods served as one model, to be compared side by side."""

import pytest
import torch

from fastadapt.errors import ConfigError
from fastadapt.methods.metric_settings import ProtoNetMethod
from fastadapt.methods.settings import MAMLMethod
from fastadapt.nets.settings import Conv4Net
from fastadapt.runs.config import OmniglotData, RunConfig
from fastadapt.serve.adaptation import steps_of
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.served import ServedModel
from serve.kit import loaded

NET = Conv4Net(width=8)


def maml(**data):
    return loaded(RunConfig(OmniglotData(**{"ways": 5, "fewest_ways": 3, **data}), NET, MAMLMethod()), "maml")


def protonet(**data):
    return loaded(RunConfig(OmniglotData(ways=5, **data), NET, ProtoNetMethod()), "protonet")


def test_a_metric_method_is_offered_beside_gradient_steps_for_the_classes_that_both_take():
    model = ServedModel(maml(), others=[protonet()])
    assert [method.name for method in model.methods][:2] == ["maml", "protonet"]
    told = model.describe(Limits())
    assert told["ways"] == {"fewest": 3, "most": 5}
    x, y = torch.rand(3, 1, 28, 28), torch.arange(3)
    for method, states in (("maml", 3), ("protonet", 1)):
        steps = list(steps_of(model, method, (x, y), 2, None, x[:2], lambda: None))
        assert len(steps) == states
        torch.testing.assert_close(steps[-1].answers.sum(1), torch.ones(2, dtype=torch.float64))
    with pytest.raises(Problem, match="there are 6 classes, protonet takes 3 to 5"):
        ServedModel(protonet(), others=[maml()]).run_for(6)
    assert len({model.digest(name) for name in ("maml", "protonet")}) == 2


def test_a_metric_method_alone_takes_any_number_of_classes():
    assert ServedModel(protonet()).run_for(9).ways == 9


def test_runs_on_other_tasks_are_refused_in_a_sentence():
    with pytest.raises(ConfigError, match=r"maml can't be compared .* don't both take tasks of 5 classes"):
        ServedModel(protonet(), others=[maml(ways=4)])
    with pytest.raises(ConfigError, match="maml can't be compared with protonet: it takes another kind of input"):
        ServedModel(protonet(), others=[maml(invert=False)])
    with pytest.raises(ConfigError, match="use one method twice"):
        ServedModel(maml(), others=[maml()])
