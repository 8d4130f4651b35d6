"""Forecast a machine's signal from a short look at it: tasks of different lengths, and a recurrent network.

    python examples/own_series.py            # about two minutes
    python examples/own_series.py --steps 20

Each task is a damped oscillation with a period, phase and level of its own, seen for 15 to 25 samples and judged on the
next 12: every window of 8 values is to give the one that follows. Tasks of different lengths go one after another.
"""

import argparse

import torch
from torch import nn

import fastadapt as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=400, help="outer steps (default: %(default)s)")
parser.add_argument("--tasks", type=int, default=200, help="test tasks (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0)
WINDOW, AHEAD = 8, 12


class Forecast(nn.Module):
    """Read a window with a recurrent layer, and add to its last value what the head says."""

    def __init__(self):
        super().__init__()
        self.read, self.head = nn.GRU(1, 16, batch_first=True), nn.Linear(16, 1)

    def forward(self, x):
        return x[:, -1] + self.head(self.read(x)[0][:, -1])


def sample(rng):
    """Draw one machine."""
    seen = int(rng.integers(15, 26))
    period, phase, level, damping = rng.uniform(5, 20), rng.uniform(0, 6.3), rng.uniform(-1, 1), rng.uniform(0, 0.05)
    t = torch.arange(seen + AHEAD, dtype=torch.float32)
    signal = level + torch.exp(-damping * t) * torch.sin(6.283 * t / period + phase)
    x, y = signal.unfold(0, WINDOW, 1)[:-1].unsqueeze(-1), signal[WINDOW:].unsqueeze(-1)
    known = seen - WINDOW
    return fa.Task(support=(x[:known], y[:known]), query=(x[known:], y[known:]))


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # a network this small is faster on one thread
    learner = fa.MAML(Forecast(), rule=fa.SGD(lr=0.1), steps=3)
    fa.meta_train(learner, sample, fa.Training(steps=args.steps, meta_batch=8, lr=5e-3, log_every=100, seed=args.seed))
    result = fa.evaluate(learner, sample, fa.Protocol("machines-v1", tasks=args.tasks))
    print(f"without a look at the machine: mse {result.mean[0]:.4f}")
    print(result)


if __name__ == "__main__":
    main()
