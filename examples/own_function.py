"""Meta-train your own module on your own function, then adapt it to a few measurements.

    python examples/own_function.py            # about half a minute
    python examples/own_function.py --steps 20

Each task is a sensor that answers `y = gain * x / (1 + |x| / saturation) + offset`, with its own three constants. After
meta-training, a new sensor is calibrated from five measurements.
"""

import argparse

import torch
from torch import nn

import fastadapt as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=2000, help="outer steps (default: %(default)s)")
parser.add_argument("--tasks", type=int, default=600, help="test tasks (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0)


def respond(x, gain, saturation, offset):
    return gain * x / (1 + x.abs() / saturation) + offset


def sample(rng):
    """Draw one sensor: 5 measurements to calibrate with, 15 to be judged on."""
    gain, saturation, offset = rng.uniform(0.5, 2.0), rng.uniform(0.5, 2.0), rng.uniform(-1.0, 1.0)
    x = torch.as_tensor(rng.uniform(-3, 3, (20, 1)), dtype=torch.float32)
    y = respond(x, gain, saturation, offset)
    return fa.Task(support=(x[:5], y[:5]), query=(x[5:], y[5:]))


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # a network this small is faster on one thread
    net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
    learner = fa.MAML(net, rule=fa.SGD(lr=0.05), steps=3)
    fa.meta_train(learner, sample, fa.Training(steps=args.steps, lr=2e-3, log_every=200, seed=args.seed))

    result = fa.evaluate(learner, sample, fa.Protocol("sensors-v1", tasks=args.tasks))
    print(f"before calibration: mse {result.mean[0]:.4f}")
    print(result)

    x = torch.tensor([[-2.0], [-0.5], [0.0], [1.0], [2.5]])
    predict = learner.adapt((x, respond(x, 1.5, 1.0, 0.3)))
    at = torch.tensor([[-1.0], [0.5], [2.0]])
    with torch.no_grad():
        answers = predict(at)
    for value, answer, truth in zip(at, answers, respond(at, 1.5, 1.0, 0.3), strict=True):
        print(f"x {float(value):+.2f}  predicted {float(answer):+.3f}  true {float(truth):+.3f}")


if __name__ == "__main__":
    main()
