"""Write the outer loop yourself: a learner is a module, so this is ordinary PyTorch.

    python examples/own_loop.py                # about half a minute
    python examples/own_loop.py --steps 20

Any optimizer of torch.optim and any of its schedulers will do; so will gradient accumulation, as here: the meta-batch
is split into parts, which bounds memory and changes nothing but rounding.
"""

import argparse

import torch

import fastadapt as fa

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--steps", type=int, default=2000, help="outer steps (default: %(default)s)")
parser.add_argument("--tasks", type=int, default=600, help="test tasks (default: %(default)s)")
parser.add_argument("--meta-batch", type=int, default=20)
parser.add_argument("--parts", type=int, default=2, help="parts of a meta-batch (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)  # a network this small is faster on one thread
    source = fa.Sinusoid(shots=10)
    learner = fa.MAML(fa.MLP(1, (40, 40), 1, init_std=None), rule=fa.SGD(0.01), test_steps=10)
    optimizer = torch.optim.AdamW(learner.parameters(), lr=2e-3, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=args.steps)

    for step in range(args.steps):
        numbers = range(step * args.meta_batch, (step + 1) * args.meta_batch)
        tasks = fa.draw(source, seed=args.seed, split="train", indices=numbers)
        optimizer.zero_grad()
        for part in range(args.parts):
            share = tasks[part :: args.parts]
            outcome = learner(share)
            (outcome.loss * len(share) / len(tasks)).backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 10.0)
        optimizer.step()
        scheduler.step()
        if (step + 1) % 200 == 0 or step + 1 == args.steps:
            print(f"step {step + 1}  loss {float(outcome.loss.detach()):.4f}  rate {scheduler.get_last_lr()[0]:.1e}")

    print(fa.evaluate(learner, fa.Sinusoid(shots=10, queries=100, grid=True), fa.Protocol(tasks=args.tasks)))


if __name__ == "__main__":
    main()
