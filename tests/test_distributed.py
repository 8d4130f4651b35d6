import subprocess
import sys
from pathlib import Path

import pytest
import torch

from two_processes import METHODS, eight_tasks, learner_of, train


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("two_processes.py")
    ranks = [subprocess.Popen([sys.executable, str(script), str(rank), str(folder)]) for rank in (0, 1)]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.long
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_with_four_tasks_each_equal_one_with_eight(results, method):
    alone = train(learner_of(method), eight_tasks())
    for rank in (0, 1):
        assert len(results[rank][method]) == len(alone)
        for got, want in zip(results[rank][method], alone, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
