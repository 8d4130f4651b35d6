"""Memory that a command keeps for its next tensors."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from fastadapt.heap import hold
if {held}:
    hold()
large = torch.ones(10_000_000)  # 40 MB, above the largest that glibc keeps by itself
for _ in range(12):  # an aligned block does not always fit where the last one was
    large + 1
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    large + 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(held):
    return int(
        subprocess.run([sys.executable, "-c", PROGRAM.format(held=held)], capture_output=True, check=True).stdout
    )


@pytest.mark.long
def test_large_tensors_take_the_memory_of_those_before_them():
    assert faults(held=True) < faults(held=False) / 10
