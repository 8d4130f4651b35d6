"""Copy the trained drawing model into the package.

    fastadapt reproduce drawing --data DIR
    python benchmarks/published/ship.py runs/reproduce/drawing/seed-0

The folder `src/fastadapt/shipped/drawing` gets the exported model, verified, and nothing else of the run.
"""

import argparse
import shutil
from pathlib import Path

from fastadapt.atomic import write_folder
from fastadapt.checkpoint import verify
from fastadapt.run_files import MODEL_FILES, load_run

TARGET = Path(__file__).resolve().parents[2] / "src" / "fastadapt" / "shipped" / "drawing"
MOST = 1_000_000  # bytes


def main() -> None:
    """Read the command line and copy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the trained run")
    model = parser.parse_args().run / "model"
    verify(model, MODEL_FILES)
    size = sum(path.stat().st_size for path in model.iterdir())
    if size > MOST:
        raise SystemExit(f"{model} has {size:,} bytes, the shipped model may have {MOST:,}")

    def fill(folder: Path) -> None:
        for path in model.iterdir():
            shutil.copyfile(path, folder / path.name)

    write_folder(TARGET, fill)
    loaded = load_run(TARGET)
    print(f"{TARGET.name}: {size:,} bytes, step {loaded.step}, {loaded.fewest_ways} to {loaded.ways} classes")


if __name__ == "__main__":
    main()
