"""What the machine is, and how fast it multiplies matrices.

    python benchmarks/speed/machine.py THREADS

prints the rate of a float32 matrix product in GFLOP/s: the roof that every meta-step is measured against.
"""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIZE = 2048


def gemm_gflops(threads: int) -> float:
    """Return the best rate of a float32 matrix product in thirty, in GFLOP/s."""
    import torch

    torch.set_num_threads(threads)
    a, b = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return 2 * SIZE**3 / min(seconds) / 1e9


def instructions() -> str:
    """Return the widest vector instructions of the processor for float32."""
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.is_file() else []
    names = {"avx512f": "AVX-512", "avx2": "AVX2"}
    return next((text for flag, text in names.items() if flag in flags), platform.machine())


def facts(threads: int) -> dict[str, Any]:
    """Return cores, instructions, memory and the matrix-product peak at one and at `threads` threads."""
    peaks = {}
    for count in sorted({1, threads}):
        # a process of its own: a thread count is not lowered and raised in one process without a trace
        done = subprocess.run(
            [sys.executable, __file__, str(count)], check=True, capture_output=True, text=True, timeout=300
        )
        peaks[str(count)] = round(float(done.stdout), 1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "instructions": instructions(),
        "memory GiB": round(memory),
        "python": platform.python_version(),
        "GEMM GFLOP/s by threads": peaks,
    }


if __name__ == "__main__":
    print(gemm_gflops(int(sys.argv[1])))
