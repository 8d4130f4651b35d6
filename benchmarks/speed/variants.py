"""The implementations that are compared, and the environment that each runs in."""

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Variant:
    """Name one worker: `python workers/FILE ARGUMENTS` in the environment of `peer`."""

    name: str
    peer: str
    file: str
    arguments: tuple[str, ...] = ()
    nets: tuple[str, ...] = ("mlp", "conv4", "resnet12")


VARIANTS = (
    Variant("fastadapt", "fastadapt", "by_fastadapt.py", ("on",)),
    Variant("fastadapt-eager", "fastadapt-eager", "by_fastadapt.py", ("off",)),
    Variant("plain", "plain", "by_plain.py"),
    Variant("learn2learn", "learn2learn", "by_learn2learn.py"),
    Variant("higher", "higher", "by_higher.py"),
    Variant("torchopt-meta", "torchopt", "by_torchopt.py", ("meta",)),
    Variant("torchopt-functional", "torchopt", "by_torchopt.py", ("functional",)),
    Variant("jax-map", "jax", "by_jax.py", ("map", "patches")),
    Variant("jax-vmap", "jax", "by_jax.py", ("vmap", "patches")),
    Variant("jax-map-conv", "jax", "by_jax.py", ("map", "conv"), nets=("conv4",)),
)
PEERS = tuple(dict.fromkeys(v.peer for v in VARIANTS))
OURS = ("fastadapt", "fastadapt-eager", "plain")  # these run in the project's own environment


def default_folder() -> Path:
    """Return where the peers' environments are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fastadapt" / "peers"


def python_of(peer: str, folder: Path) -> Path:
    """Return the interpreter of a peer's environment."""
    return Path(sys.executable) if peer in OURS else folder / peer / "bin" / "python"


def _record(peer: str, folder: Path) -> dict[str, Any]:
    record = folder / peer / "peer.json"
    if peer in OURS:
        return {"installed": True, "notes": []}
    if not record.is_file():
        return {"installed": False, "reason": "run python benchmarks/speed/install_peers.py"}
    return json.loads(record.read_text(encoding="utf-8"))


def not_installed(peer: str, folder: Path) -> str:
    """Return why a peer can't run, or nothing."""
    facts = _record(peer, folder)
    return "" if facts["installed"] else f"not installed: {facts['reason']}"


def install_notes(peer: str, folder: Path) -> list[str]:
    """Return what it took to install a peer beyond one plain command."""
    return _record(peer, folder).get("notes", [])
