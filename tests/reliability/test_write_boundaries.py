"""A training that is killed at any of its writes goes on, and ends with the bits of one that was not."""

import os

import pytest

from reliability.killed import count_and_whole, outcome
from reliability.short_run import train

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


@pytest.mark.long
def test_a_run_that_is_killed_at_one_of_its_writes_goes_on(tmp_path):
    count, whole = count_and_whole(train, tmp_path / "whole")
    assert count > 40
    found = [outcome(train, tmp_path / str(b), b, whole) for b in range(1, count + 1, max(1, count // 8))]
    assert [each for each in found if each] == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_that_is_killed_at_any_of_its_writes_goes_on(tmp_path):
    count, whole = count_and_whole(train, tmp_path / "whole")
    found = [outcome(train, tmp_path / str(b), b, whole) for b in range(1, count + 1)]
    assert [each for each in found if each] == []
