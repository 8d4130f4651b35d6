"""Build one virtual environment for each library that fastadapt is compared with.

    python benchmarks/speed/install_peers.py [--peers jax higher] [--peers-dir DIR] [--own-torch] [--missing]

torch is always the same pinned version. It is shared with this interpreter's environment where that has it, as a
copy for each takes 750 MB; --own-torch installs it anew. A library that can't be installed is recorded with the reason.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from variants import HERE, OURS, PEERS, VARIANTS, default_folder, not_installed

TORCH = "torch==2.13.0"
ON_TORCH = (TORCH, "numpy", "safetensors")  # fastadapt's networks are the ones that all train
Pip = Callable[..., None]


class InstallError(Exception):
    """An environment can't be built; the message says at which command."""


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """Run a command and return what it printed.

    Raises:
        InstallError: if it fails.
    """
    words = [str(c) for c in command]
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode:
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        raise InstallError(f"{' '.join(words[1:])[:200]}: {''.join(last)[:300]}")
    return done.stdout


def learn2learn(pip: Pip, python: Path) -> list[str]:
    """Install learn2learn 0.2.0; return what it took."""
    # what `import learn2learn` imports; of torchvision nothing is run
    pip(*ON_TORCH, "gym==0.26.2", "scipy", "requests", "tqdm", "pillow", "setuptools", "wheel", "Cython<3")
    pip("--no-deps", "torchvision==0.28.0")
    with tempfile.TemporaryDirectory() as folder:
        pip("--no-deps", "--no-build-isolation", "--no-binary", ":all:", "learn2learn==0.2.0", download=folder)
        archive = next(Path(folder).glob("learn2learn-*.tar.gz"))
        with tarfile.open(archive) as opened:
            opened.extractall(folder, filter="data")
        source = Path(folder) / archive.name.removesuffix(".tar.gz")
        sources = sorted((source / "learn2learn" / "data").glob("*.pyx"))
        run(python, "-m", "cython", "-3", *sources)
        pip("--no-deps", "--no-build-isolation", str(source))
    return [
        "C files generated again with Cython 0.29: those of the release need a header that Python 3.11 lacks",
        "installed without its dependencies but gym 0.26.2, scipy, requests, tqdm and torchvision",
        "torchvision's operators declared before the import: its wheel brings them for CUDA torch only",
    ]


def easyfsl(pip: Pip, _: Path) -> list[str]:
    """Install easyfsl 1.5.0; return what it took."""
    pip(*ON_TORCH, "matplotlib", "pandas", "tqdm", "pillow")
    pip("--no-deps", "torchvision==0.28.0", "easyfsl==1.5.0")
    return ["torchvision's operators declared before the import: its wheel brings them for CUDA torch only"]


def plainly(*requirements: str) -> Callable[[Pip, Path], list[str]]:
    """Return an installer of requirements that need no tricks."""

    def install(pip: Pip, _: Path) -> list[str]:
        pip(*requirements)
        return []

    return install


INSTALLERS: dict[str, Callable[[Pip, Path], list[str]]] = {
    "learn2learn": learn2learn,
    "higher": plainly(*ON_TORCH, "higher==0.2.1"),
    "torchopt": plainly(*ON_TORCH, "torchopt==0.7.3"),
    "jax": plainly("numpy", "jax==0.10.2", "optax==0.2.8"),
    # not timed: for benchmarks/peers_side_by_side.py
    "easyfsl": easyfsl,
    "iteryne": plainly(*ON_TORCH, "iteryne==0.1.0"),
}


def shared_packages() -> Path | None:
    """Return where this interpreter's packages are, if the pinned torch is among them."""
    try:
        fits = version("torch").split("+")[0] == TORCH.split("==")[1]
    except PackageNotFoundError:
        return None
    return Path(sysconfig.get_paths()["platlib"]) if fits else None


def build(peer: str, folder: Path, shared: Path | None) -> list[str]:
    """Build the environment of one peer; return what it took."""
    if folder.exists():
        shutil.rmtree(folder)
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    if shared is not None and peer != "jax":
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['platlib'])").strip())
        # searched last: what the peer installs comes first
        (site / "shared_torch.pth").write_text(f"{shared}\n", encoding="utf-8")

    def pip(*words: str, download: str = "") -> None:
        order = ["download", "--dest", download] if download else ["install"]
        run(python, "-m", "pip", *order, "--quiet", "--disable-pip-version-check", *words)

    notes = INSTALLERS[peer](pip, python)
    variant = next((v for v in VARIANTS if v.peer == peer), None)
    if variant is not None:
        # a worker that gets no command imports everything and ends
        source = {**os.environ, "PYTHONPATH": str(HERE.parents[1] / "src")}
        run(python, HERE / "workers" / variant.file, *variant.arguments, environment=source)
    return notes


def main() -> None:
    """Build what is asked for, and record how it went."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", nargs="+", default=[p for p in PEERS if p not in OURS], choices=list(INSTALLERS))
    parser.add_argument("--peers-dir", type=Path, default=default_folder())
    parser.add_argument("--own-torch", action="store_true", help="install torch into each environment")
    parser.add_argument("--missing", action="store_true", help="keep the environments that are already there")
    options = parser.parse_args()
    shared = None if options.own_torch else shared_packages()
    for peer in options.peers:
        folder = options.peers_dir / peer
        if options.missing and not not_installed(peer, options.peers_dir):
            print(f"{peer}: already there", flush=True)
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            facts = {"installed": True, "notes": build(peer, folder, shared)}
        except InstallError as error:
            folder.mkdir(parents=True, exist_ok=True)
            facts = {"installed": False, "reason": str(error)}
        (folder / "peer.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        print(f"{peer}: {'installed' if facts['installed'] else facts['reason']}", flush=True)


if __name__ == "__main__":
    main()
