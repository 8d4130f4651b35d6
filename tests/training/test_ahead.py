"""Meta-batches that are drawn during the step before."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from fastadapt import MAML, MLP, SGD, CrossEntropy, Sinusoid, Tasks, Training, meta_train
from fastadapt.errors import TaskError
from fastadapt.training import train
from fastadapt.training.ahead import Ahead, labels_fit


class Beside:
    """Stand in for a stream: note what is done on it, and when the main work waits for it."""

    def __init__(self):
        self.log = []
        self.inside = False

    @contextmanager
    def beside(self):
        self.inside = True
        yield
        self.inside = False

    def done(self):
        assert self.inside
        self.log.append("done")
        return len(self.log)

    def wait(self, mark, tensors):
        self.log.append((mark, len(tensors)))


def drawing(log=None):
    def draw(step):
        if log is not None:
            log.append(step)
        torch.manual_seed(step)
        pair = torch.rand(2, 3, 1), torch.zeros(2, 3, 1)  # a source that takes torch's own numbers
        return [Tasks(pair, pair)]

    return draw


def test_what_was_drawn_ahead_is_what_would_be_drawn_now_and_so_are_the_numbers_after_it():
    drawn, side = [], Beside()
    ahead = Ahead(drawing(drawn), torch.device("cpu"), side)
    plain = Ahead(drawing(), torch.device("cpu"))
    for step in (4, 5, 6):
        got, mine = ahead.take(step), torch.rand(3)
        before = torch.get_rng_state()
        ahead.prepare(step + 1)
        assert torch.equal(torch.get_rng_state(), before)  # the step under way is not disturbed
        want, other = plain.take(step), torch.rand(3)
        assert torch.equal(got[0].support[0], want[0].support[0])
        assert torch.equal(mine, other)
    assert drawn == [4, 5, 6, 7]
    assert side.log == ["done", (1, 4), "done", (3, 4), "done"]


def test_another_step_than_the_prepared_one_is_drawn_when_it_is_asked_for():
    drawn = []
    ahead = Ahead(drawing(drawn), torch.device("cpu"), Beside())
    ahead.prepare(3)
    ahead.take(8)
    assert drawn == [3, 8]


def test_what_goes_wrong_ahead_is_raised_at_its_own_step():
    def draw(step):
        if step == 1:
            raise TaskError("no such task")
        return drawing()(step)

    ahead = Ahead(draw, torch.device("cpu"), Beside())
    ahead.take(0)
    ahead.prepare(1)
    with pytest.raises(TaskError, match="no such task"):
        ahead.take(1)


def trained(monkeypatch, beside, steps=6, folder=None):
    torch.manual_seed(0)
    net = nn.Sequential(MLP(1, (8,), 8, init_std=None), nn.Dropout(0.2), nn.Linear(8, 1))
    learner = MAML(net, rule=SGD(0.01), route="loop")
    sides = []

    def ahead(draw, device, look):
        sides.append(Beside() if beside else None)
        return Ahead(draw, device, sides[-1], look)

    monkeypatch.setattr(train, "Ahead", ahead)
    settings = Training(steps=steps, meta_batch=2, checkpoint_every=2)
    meta_train(learner, Sinusoid(), settings, folder=folder, quiet=True)
    return learner.state_dict(), sides[0]


def test_a_training_that_draws_ahead_is_the_same_and_so_is_one_that_goes_on(monkeypatch, tmp_path):
    want, _ = trained(monkeypatch, False)
    got, side = trained(monkeypatch, True)
    assert all(torch.equal(v, got[name]) for name, v in want.items())
    assert side.log.count("done") == 5  # all but the first, and none beyond the last
    trained(monkeypatch, True, steps=3, folder=tmp_path)
    went_on, _ = trained(monkeypatch, True, folder=tmp_path)
    assert all(torch.equal(v, went_on[name]) for name, v in want.items())


def test_labels_are_looked_at_once_and_ahead(monkeypatch):
    looks = []

    class Counted(CrossEntropy):
        def fault(self, shape, y):
            looks.append(y)
            return super().fault(shape, y)

    learner = MAML(MLP(1, (4,), 2), Counted(), rule=SGD(0.1), route="loop")
    pair = torch.randn(2, 4, 1), (torch.arange(4) % 2).repeat(2, 1)
    learner([Tasks(pair, pair)])  # the network's answer is known from here on
    fresh = [Tasks((pair[0], pair[1].clone()), (pair[0], pair[1].clone()))]
    labels_fit(learner)(fresh)
    before = len(looks)
    learner(fresh)
    assert len(looks) == before
    fresh[0].query[1][1, 2] = 7  # changed in place: looked at again
    with pytest.raises(TaskError, match="task 1 of the meta-batch, query row 2: the label is 7"):
        learner(fresh)
