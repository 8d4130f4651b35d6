"""Meta-learn on a table of your own, and see whether it pays: shops that differ, five known days of a new one.

    python examples/own_table.py               # a minute or two
    fastadapt train --data shops.csv --task-column shop --target sales --shots 5        # the same as a command

The table is made up here: sales fall with the price, by an elasticity and from a level that are each shop's own.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

import fastadapt as fa
from fastadapt.compare.comparison import compare, comparison_markdown, tune_adaptation
from fastadapt.data import prepare_table

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=2000, help="outer steps (default: %(default)s)")
parser.add_argument("--shops", type=int, default=60, help="tasks of the table (default: %(default)s)")
parser.add_argument("--boosting", action="store_true", help="also fit gradient boosting (needs scikit-learn)")
parser.add_argument("--seed", type=int, default=0)


def write_shops(path, shops, rng):
    """Write a CSV with numbers, categories and missing values, as tables have them."""
    lines = ["shop,day,price,rain,sales"]
    for shop in range(shops):
        level, elasticity, weekend = rng.uniform(20, 60), rng.uniform(0.3, 1.5), rng.uniform(1.0, 2.0)
        for day in range(40):
            name = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")[day % 7]
            price, rain = rng.uniform(1, 5), "" if rng.random() < 0.1 else f"{rng.uniform(0, 9):.1f}"
            mean = level * np.exp(-elasticity * (price - 1)) * (weekend if name in ("sat", "sun") else 1.0)
            lines.append(f"s{shop},{name},{price:.2f},{rain},{mean + rng.normal():.2f}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # a network this small is faster on one thread
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shops.csv"
        write_shops(path, args.shops, np.random.default_rng(args.seed))
        prepared = prepare_table(path, task="shop", target="sales", shots=(5,))
    data, table = prepared.data, prepared.loaded
    net = fa.MLP(data.preparation.inputs, (64, 64), data.preparation.outputs, init_std=None)
    learner = fa.MAML(net, data.loss, rule=fa.SGD(0.05), steps=5)
    training = fa.Training(steps=args.steps, meta_batch=16, lr=2e-3, schedule="cosine", clip_norm=10.0, seed=args.seed)
    fa.meta_train(learner, data.source("train", table), training)
    chosen = tune_adaptation(learner, table, data, rate=0.05, most_steps=20)  # on validation shops
    learner.rule, learner.test_steps = fa.SGD(chosen.rate), chosen.steps
    print(comparison_markdown(compare({"MAML": learner}, table, data, boosting=args.boosting)))


if __name__ == "__main__":
    main()
