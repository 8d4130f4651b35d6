"""Run the whole set of published runs, one after another; started again it goes on where it was.

    python benchmarks/published/run.py --data DIR --part 1/2 --threads 1     # two of these fill two cores
    python benchmarks/published/run.py --data DIR --plan paper --device cuda # as long as the papers

The plan "short" gives every run the budget below, so that the set fits into about nine hours of one core; "paper" gives
none. A run that is finished takes seconds. Afterwards: make results.
"""

import argparse
import subprocess
import sys

# names, budget of the short plan (None: as long as the paper), seeds
PLAN: tuple[tuple[str, str | None, tuple[int, ...]], ...] = (
    ("*-sinusoid", None, (0, 1, 2)),
    ("maml-sinusoid-k5", None, (0, 1, 2)),
    ("reptile-omniglot-5w1s", "80m", (0,)),
    ("maml-omniglot-5w1s", "75m", (0,)),
    ("maml-omniglot-5w5s", "90m", (0,)),
    ("maml-omniglot-noconv-5w1s", "15m", (0,)),
    ("maml-omniglot-noconv-5w5s", "15m", (0,)),
    ("drawing", "30m", (0,)),
    ("gradients-*", "6000steps", (0,)),
    ("fomaml-omniglot-5w*", "12m", (0,)),
    ("reptile-omniglot-5w5s", "12m", (0,)),
    ("context-omniglot-*", "6m", (0,)),
    ("*maml-omniglot-20w*", "8m", (0,)),
    ("reptile-omniglot-20w*", "8m", (0,)),
    ("*-mini-imagenet*", "8m", (0,)),
    ("overlap-*", "300steps", (0,)),
)


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plan", choices=("short", "paper"), default="short")
    parser.add_argument("--part", default="1/1", help="every n-th entry of the plan, as 1/2 and 2/2")
    parser.add_argument("--dry", action="store_true", help="print the commands only")
    options, rest = parser.parse_known_args()
    part, of = (int(word) for word in options.part.split("/"))
    for names, budget, seeds in PLAN[part - 1 :: of]:
        words = ["reproduce", names, "--seeds", *map(str, seeds), *rest]
        words += ["--budget", budget] if budget is not None and options.plan == "short" else []
        print("fastadapt", *words, flush=True)
        if not options.dry:
            code = subprocess.run([sys.executable, "-m", "fastadapt.cli", *words], check=False).returncode
            if code in (130, 143):
                sys.exit(code)
            if code:
                print(f"  failed with exit code {code}", flush=True)


if __name__ == "__main__":
    main()
