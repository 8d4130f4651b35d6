import copy

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, Conv4, Predictor
from fastadapt.losses import CrossEntropy


def support(n=6):
    return torch.randn(n, 1, 16, 16), torch.arange(n) % 2


@pytest.mark.parametrize("norm", ["transductive", "support", "support+query", "running"])
def test_answering_changes_nothing(norm):
    predict = MAML(Conv4(1, 3, 2, size=16), CrossEntropy(), norm=norm).adapt(support())
    before, x = copy.deepcopy(predict.state_dict()), torch.randn(3, 1, 16, 16)
    first = predict(x)
    assert torch.equal(predict(x), first)
    assert all(torch.equal(value, before[name]) for name, value in predict.state_dict().items())
    assert not predict.training and not predict.model.training


@pytest.mark.parametrize("norm", ["support", "support+query", "running", "per_step"])
def test_a_single_request_is_answered_like_a_row_of_many(norm):
    learner = MAML(Conv4(1, 3, 2, size=16), CrossEntropy(), rule=SGD(0.1), steps=2, norm=norm)
    predict, x = learner.adapt(support()), torch.randn(5, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(predict(x)[2:3], predict(x[2:3]), rtol=1e-4, atol=1e-5)


def test_it_is_an_ordinary_module_of_ordinary_leaves():
    predict = MAML(MLP(2, (3,), 1, norm=True), norm="support", steps=3).adapt((torch.randn(5, 2), torch.randn(5, 1)))
    assert isinstance(predict, nn.Module)
    assert all(p.is_leaf and p.requires_grad for p in predict.parameters())
    assert not any(b.requires_grad for b in predict.buffers())
    optimizer = torch.optim.SGD(predict.parameters(), 0.1)
    x, before = torch.randn(4, 2), predict.model.head.bias.clone()
    predict(x).sum().backward()
    optimizer.step()
    assert not torch.equal(predict.model.head.bias, before)


def test_inputs_may_be_several_and_outputs_of_any_form():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(2, 1)

        def forward(self, a, *, b):
            return {"sum": self.layer(a + b), "difference": self.layer(a - b)}

    def loss(model, batch):
        return (model(batch["a"], b=batch["b"])["sum"] - batch["y"]).square().mean()

    a, b = torch.randn(4, 2), torch.randn(4, 2)
    learner = MAML(Two(), loss, rule=SGD(0.1), steps=2)
    predict = learner.adapt({"a": a, "b": b, "y": torch.zeros(4, 1)})
    assert set(predict(a, b=b)) == {"sum", "difference"}
    torch.testing.assert_close(predict(a, b=b)["sum"], predict.model.layer(a + b))


def test_details_are_kept_apart_from_the_callers():
    details = {"labels": ["cat", "dog"]}
    predict = Predictor(nn.Linear(2, 2), details=details)
    details["labels"] = []
    assert predict.details == {"labels": ["cat", "dog"]}


def test_it_moves_and_changes_precision_with_all_it_needs():
    learner = MAML(Conv4(1, 3, 2, size=16), CrossEntropy(), norm="support+query")
    predict = learner.adapt(support()).double()
    assert predict(torch.randn(2, 1, 16, 16, dtype=torch.float64)).dtype == torch.float64
