"""What a step costs with 100,000 identities: all rows of weights against a tenth of them, memory and time.

    python benchmarks/many_identities.py             writes benchmarks/results/many_identities.json

Features are random: what is measured is the head alone. Each way is a process of its own, whose peak memory is read
at its end; the memory before the first step, of interpreter, torch and the weights themselves, is told beside it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from fastadapt.atomic import write_text
from fastadapt.faces.many import SampledIdentities
from fastadapt.faces.margin import margin_softmax

OUT = Path(__file__).parent / "results" / "many_identities.json"


def peak() -> float:
    """Return the most memory that the process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(way: str, identities: int, features: int, batch: int, steps: int) -> dict[str, float | str]:
    torch.manual_seed(0)
    rows = SampledIdentities(identities, features, rate=1.0 if way == "all" else float(way))
    x, y = torch.randn(batch, features, requires_grad=True), torch.randint(identities, (batch,))
    optimizer = torch.optim.SGD([rows.weight], 0.1)
    before, losses = peak(), []
    began = time.process_time()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = margin_softmax(x, rows.weight, y, scale=64.0, margin=0.35) if way == "all" else rows(x, y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    seconds = (time.process_time() - began) / steps
    return {"way": way, "seconds a step": round(seconds, 3), "MB before": round(before), "MB at most": round(peak())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--way", help="one way, in this process")
    asked = parser.parse_args()
    sizes = {name: getattr(asked, name) for name in ("identities", "features", "batch", "steps")}
    if asked.way:
        print(json.dumps(one(asked.way, **sizes)))
        return
    found = []
    for way in ("all", "0.1", "0.01"):
        words = [sys.executable, __file__, "--way", way, *(w for n, v in sizes.items() for w in (f"--{n}", str(v)))]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print(found[-1], flush=True)
    record = {**sizes, "threads": torch.get_num_threads(), "torch": torch.__version__, "ways": found}
    write_text(asked.out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
