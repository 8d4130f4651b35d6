"""Compare simple heads on the frozen features of a network that was trained on other characters.

python examples/frozen_features.py --data DIR   # the folder that holds omniglot/; about a minute
python examples/frozen_features.py --tasks 20

The network is the one of the model `drawing`, which comes with fastadapt; the test characters are none of its training.
"""

import argparse

import torch
from torch.optim.swa_utils import update_bn

import fastadapt as fa
from fastadapt.data import load_omniglot
from fastadapt.methods import CosineHead, LinearProbe, NearestCentroid, NearestSample, RidgeHead, mean_feature
from fastadapt.nets.nearest import headless

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", help="folder that holds the data set (default: FASTADAPT_DATA, then the cache)")
parser.add_argument("--shots", type=int, default=5, help="images of each class (default: %(default)s)")
parser.add_argument("--tasks", type=int, default=300, help="test tasks (default: %(default)s)")


def main():
    args = parser.parse_args()
    torch.set_num_threads(1)  # a network this small is faster on one thread
    omniglot = load_omniglot(args.data)
    train = fa.omniglot_tasks("train", omniglot, shots=5, queries=5)
    test = fa.omniglot_tasks("test", omniglot, shots=args.shots, queries=5)
    images = [task.support[0] for task in fa.draw(train, seed=0, split="train", indices=range(200))]

    backbone = headless(fa.load_run("drawing").learner.model)  # what its last layer sees: 64 numbers
    update_bn(images, backbone)  # it was trained without averages, and is frozen with them
    centre = mean_feature(backbone, images)

    heads = {
        "nearest sample": NearestSample(backbone),
        "nearest centroid": NearestCentroid(backbone),
        "of length 1": NearestCentroid(backbone, unit=True),
        "centred too (SimpleShot)": NearestCentroid(backbone, unit=True, centre=centre),
        "cosine head": CosineHead(backbone, centre=centre),
        "linear probe": LinearProbe(backbone, unit=True, centre=centre),
        "ridge": RidgeHead(backbone, unit=True, centre=centre),
    }
    ridge = heads["ridge, trained"] = RidgeHead(backbone, unit=True, centre=centre)
    fa.meta_train(ridge, train, fa.Training(steps=100, meta_batch=4, lr=0.1), quiet=True)  # two numbers

    for name, head in heads.items():
        result = fa.evaluate(head, test, fa.Protocol("omniglot-5w-frozen-v1", tasks=args.tasks))
        print(f"{name:26}{100 * result.result:6.2f} ± {100 * result.half:.2f} %   loss {result.losses[0]:.3f}")


if __name__ == "__main__":
    main()
