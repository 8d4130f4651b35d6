import os
import random

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also of the programs that tests start

import numpy as np
import pytest
import torch

from fastadapt.engine import pieces, programs, verdicts

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Start every test from the same random state."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_verdicts(monkeypatch):
    """Let no test find what another one has found out about a module."""
    monkeypatch.setattr(verdicts, "cache_folder", lambda: None)


@pytest.fixture
def double():
    """Run a test in float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def told(monkeypatch, caplog):
    """Give a function that returns what the library logged in this test, as if nothing had been logged before."""
    monkeypatch.setattr("fastadapt.layers.rewrites._told", set())
    caplog.set_level("INFO", logger="fastadapt")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "fastadapt"]


@pytest.fixture
def built(monkeypatch):
    """Count the programs that are made."""
    made, finished = [], pieces.finished
    for module in (pieces, programs):
        monkeypatch.setattr(module, "finished", lambda *a: made.append(1) or finished(*a))
    return made
