"""Sine waves: MAML against joint pretraining and an oracle, as in section 5.1 of arXiv:1703.03400, in two minutes.

    python examples/sinusoid.py --out runs/demo

All three train on the same stream of waves. Pretraining is fine-tuned with a step size tuned on separate tasks for each
number of points K; the oracle is told height and phase. The paper trains for 70,000 steps.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

import fastadapt as fa
from fastadapt.report import comparison_table, draw_adaptation, draw_steps, evaluate_shots, tune_step_size

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="output folder (default: %(default)s)")
parser.add_argument("--steps", type=int, default=6000, help="outer steps of each training (default: %(default)s)")
parser.add_argument("--tasks", type=int, default=600, help="test tasks (default: %(default)s)")
parser.add_argument("--seed", type=int, default=0, help="of the weights and the training tasks (default: %(default)s)")
args = parser.parse_args()
torch.set_num_threads(1)  # networks this small are faster on one thread
began = time.monotonic()
settings = fa.Training(steps=args.steps, meta_batch=25, lr=2e-3, schedule="cosine", seed=args.seed, log_every=500)


def train(name: str, method: type[fa.MAML] | type[fa.Pretrain], oracle: bool = False):
    print(f"{name}: {args.steps} steps of {settings.meta_batch} tasks", file=sys.stderr)
    torch.manual_seed(args.seed)
    learner = method(fa.MLP(3 if oracle else 1, (40, 40), 1, init_std=None), rule=fa.SGD(0.01))
    folder = args.out / f"{name}-{args.steps}-seed{args.seed}"
    if fa.meta_train(learner, fa.Sinusoid(oracle=oracle), settings, folder=folder).stopped != "finished":
        sys.exit("stopped before the end; the same command goes on from here")
    return learner


maml, joint, oracle = train("maml", fa.MAML), train("pretraining", fa.Pretrain), train("oracle", fa.Pretrain, True)
tried, shots = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05), (5, 10, 20)
rates = {k: tune_step_size(joint, fa.Sinusoid(shots=k, queries=100, grid=True), tried).rate for k in shots}
protocol = fa.Protocol("sinusoid-v1", tasks=args.tasks, steps=10, ddof=0)
results = {
    "MAML": evaluate_shots(maml, shots=shots, protocol=protocol),
    "pretraining": evaluate_shots(joint, shots=shots, protocol=protocol, rates=rates),
    "oracle": evaluate_shots(oracle, shots=shots, protocol=replace(protocol, steps=0), oracle=True),
}
files = [args.out / name for name in ("adaptation.png", "steps.png", "results.json")]
draw_adaptation({"MAML": maml, "pretraining": joint}, files[0], rates={"pretraining": rates})
draw_steps(results, files[1])
facts = {"command": " ".join(sys.argv), "training": asdict(settings), "step sizes of fine-tuning": rates}
facts["versions"] = {"fastadapt": fa.__version__, "torch": torch.__version__, "python": sys.version.split()[0]}
facts["seconds"] = round(time.monotonic() - began, 1)
facts["results"] = {n: {k: json.loads(e.to_json()) for k, e in by.items()} for n, by in results.items()}
files[2].write_text(json.dumps(facts, indent=2), encoding="utf-8")
table = comparison_table({name: by_shots[10] for name, by_shots in results.items()}, steps=(0, 1, 5, 10))
print(f"\n{args.tasks} test tasks, K = 10:\n\n{table}\n{facts['seconds']} s; see {', '.join(map(str, files))}")
