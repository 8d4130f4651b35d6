"""MAML on 2-D navigation, as published, beside pretraining, random initialisation and the oracle.

    python benchmarks/navigation.py train --seeds 0 1 2 --steps 100    # goes on where it was stopped
    python benchmarks/navigation.py measure                            # benchmarks/results/navigation.json and .png

Protocol: 40 goals of the stream (1, "test"), the same for every row; each is adapted to from the trained policy by
vanilla policy gradient, 40 episodes an update, step size 0.5 for the first update and 0.25 for those after it. The
return of row j is that of the very episodes that update j+1 learns from.
"""

import argparse
import time
from pathlib import Path

import torch

from fastadapt.heap import hold
from fastadapt.rl.environments import family
from fastadapt.rl.meta_policy import MetaPolicy
from fastadapt.rl.policies import policy_for
from fastadapt.rl.tasks import Environments
from fastadapt.rl.trpo import TRPO
from fastadapt.rules import SGD
from fastadapt.training.settings import Training
from fastadapt.training.train import meta_train

RUNS = Path("runs/navigation")
NAVIGATION = family("navigation-v0")
HOW = {  # inner steps, tasks of an outer step, where they come from
    "maml": (1, 20, Environments(NAVIGATION, episodes=20)),
    "pretrained": (0, 10, Environments(NAVIGATION, episodes=1, pooled=True)),
    "oracle": (0, 100, Environments(NAVIGATION, episodes=1, pooled=True, told=True)),
}



def learner_of(method: str, seed: int) -> MetaPolicy:
    """Return a fresh learner."""
    torch.manual_seed(seed)
    steps, _, source = HOW[method]
    return MetaPolicy(policy_for(NAVIGATION, told=2 if source.told else 0), rule=SGD(0.5), steps=steps)


def train(method: str, seed: int, steps: int) -> None:
    """Train, or go on, until so many outer steps are done."""
    _, tasks, source = HOW[method]
    training = Training(steps=steps, meta_batch=tasks, seed=seed, checkpoint_every=5, log_every=1, keep=1)
    began = time.process_time()
    folder = RUNS / f"{method}-{seed}"
    meta_train(learner_of(method, seed), source, training, folder=folder, outer_step=TRPO())
    print(f"{method}, seed {seed}: step {steps}, {time.process_time() - began:.0f} s of CPU", flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["train", "measure"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--methods", nargs="+", default=list(HOW))
    asked = parser.parse_args()
    hold()
    torch.set_num_threads(1)
    for method in asked.methods:
        for seed in asked.seeds:
            train(method, seed, asked.steps)


if __name__ == "__main__":
    main()
