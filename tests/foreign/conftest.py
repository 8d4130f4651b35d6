"""The libraries of this folder live in an environment of their own (`make test-foreign`)."""

import pytest
import torch


def asked_for(config):
    expression = config.getoption("markexpr")
    return "foreign" in expression and "not foreign" not in expression


def pytest_configure(config):
    # what other libraries warn of, at import too, is theirs to mend; our own warnings stay errors
    if asked_for(config):
        config.addinivalue_line("filterwarnings", "ignore")
        config.addinivalue_line("filterwarnings", "error:::fastadapt")


def pytest_ignore_collect(collection_path, config):
    """Leave the folder alone unless its marker is asked for; then a library that is missing is an error, not a skip."""
    return None if asked_for(config) else True


def pytest_itemcollected(item):
    item.add_marker(pytest.mark.foreign)


@pytest.fixture(autouse=True)
def double():
    """Run every test in float64; one that is about another precision says so."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
