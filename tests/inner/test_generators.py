"""The random numbers of a thread that seeds torch's one generator are its own."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fastadapt.inner.generators import torch_random_kept


def test_threads_that_seed_at_once_get_what_each_gets_alone():
    def drawn(seed):
        with torch_random_kept(seed=seed):
            first = torch.rand(3)
            time.sleep(0.002)  # the other threads have their turn
            return torch.cat([first, torch.rand(3)])

    alone = [drawn(seed) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(drawn, range(16)))
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("fails", [False, True])
def test_the_generator_goes_on_where_it_stood(fails):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    try:
        with torch_random_kept(seed=5), torch_random_kept():
            torch.rand(7)
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.rand(2), expected)
