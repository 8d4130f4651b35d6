"""Tasks of texts: pieces that follow one another, queries that are far from what was read, streams in order."""

import numpy as np
import pytest
import torch

from fastadapt import check_tasks, draw
from fastadapt.data.passages import Passages, Streams
from fastadapt.errors import ConfigError, DataError

TEXTS = [torch.arange(0, 300), torch.arange(1000, 1400)]


def places(leaf):
    return int(leaf[0].min()), int(leaf[0].max()), int(leaf[1].max())


def test_pieces_follow_one_another_and_y_comes_next():
    task = Passages(TEXTS, length=8, support=3, query=2).sample(np.random.default_rng(0))
    x, y = task.support
    assert torch.equal(y, x + 1) and torch.equal(x.flatten(), torch.arange(int(x[0, 0]), int(x[0, 0]) + 24))
    assert int(task.query[0][0, 0]) == int(x[-1, -1]) + 1  # right behind


@pytest.mark.parametrize("apart", [0, 20, 259])
def test_a_query_is_far_from_the_support_before_or_behind_it(apart):
    source = Passages(TEXTS[:1], length=8, support=3, query=2, apart=apart)
    gaps, starts = [], set()
    for task in draw(source, seed=0, split="train", indices=range(300)):
        low, high, after = places(task.support)
        first, _, then = places(task.query)
        gap = first - after if first > high else low - then
        gaps.append((gap, first > high))
        starts |= {low, first}
        assert min(low, first) >= 0 and max(after, then) < 300
    assert min(gap for gap, _ in gaps) >= apart - 1  # what comes next counts as read
    assert {behind for _, behind in gaps} == {True, False} if apart < 259 else len(starts) < 60
    if apart < 100:
        assert 0 in starts or min(starts) < 10


def test_the_shortest_text_that_is_taken_gives_tasks():
    source = Passages([torch.arange(60)], length=8, support=3, query=2, apart=19)
    assert source.needed == 60
    for task in draw(source, seed=0, split="train", indices=range(20)):
        assert max(places(task.support)[2], places(task.query)[2]) <= 59
    with pytest.raises(DataError, match="text 0 has 59 symbols, and a task takes 60"):
        Passages([torch.arange(59)], length=8, support=3, query=2, apart=19)


def test_a_text_is_a_task_by_its_number_and_place():
    tasks = Passages(TEXTS, length=8, support=3, query=2).at([1, 0], 0, 100)
    assert tasks.support[0].shape == (2, 3, 8) and tasks.query[0][:, 0, 0].tolist() == [1100, 100]


def test_a_stream_reads_on_and_a_look_finds_nothing_wrong():
    source = Streams(TEXTS, chunks=4, pieces=2, length=8)
    task = source.sample(np.random.default_rng(0))
    x = torch.cat([task.support[0], task.query[0][None]])
    assert torch.equal(x.flatten(), torch.arange(int(x.min()), int(x.min()) + 64))
    assert [int(one.support[0].min()) for one in source.beginnings([0, 1])] == [0, 1000]
    assert check_tasks(Passages(TEXTS, length=8, support=3, query=2, apart=20)) == []


def test_settings_and_texts_that_give_no_task_are_refused():
    for settings in ({"length": 0}, {"support": 0}, {"apart": -1}):
        with pytest.raises(ConfigError, match="at least"):
            Passages(TEXTS, **settings)
    with pytest.raises(DataError, match="at least one text"):
        Passages([])
    with pytest.raises(DataError, match="give symbols"):
        Passages([torch.zeros(5000)])
    with pytest.raises(DataError, match=r"from symbol 280 on.* end at 304, and the text has symbols 0\.\.299"):
        Passages(TEXTS, length=8, support=3, query=2).at([0], 280, 0)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Streams(TEXTS, chunks=0)
    with pytest.raises(DataError, match="takes 7169 symbols, and text 0 has 300"):
        Streams(TEXTS)
    with pytest.raises(DataError, match="there is no text"):
        Streams([])
