"""Run the programs of docs/from_other_libraries.md side by side, and compare the numbers that they print.

    python benchmarks/speed/install_peers.py --peers learn2learn higher torchopt easyfsl iteryne
    python benchmarks/peers_side_by_side.py [--peers-dir DIR] [--out FILE]

A program is the first block of the page, the blocks that the programs of its section share, and its own. Each runs in a
process of its own: fastadapt's with this interpreter, another library's in that library's environment. Where one sets
torch's default dtype it also runs without that, and how far its numbers are off then is recorded. Exits with 1 where a
program fails or two numbers of a section differ by more than 1e-9 of their size.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "from_other_libraries.md"
OUT = ROOT / "benchmarks" / "results" / "peers_side_by_side.json"
TOLERANCE = 1e-9
sys.path.insert(0, str(ROOT / "benchmarks" / "speed"))
from variants import default_folder, install_notes, not_installed  # noqa: E402

# torchvision's wheel is built for CUDA and declares no operators beside a CPU torch; these libraries only import it
TORCHVISION = """
import torch
_operators = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _operators.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
PREAMBLES = {"learn2learn": TORCHVISION, "easyfsl": TORCHVISION}
_PIECE = re.compile(
    r"^## (?P<title>[^\n]*)$|^(?:<!-- not run: needs (?P<peer>\w+) -->\n)?```python\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Program:
    """Hold a runnable program of the page: its section, its library, its own block, and the blocks ahead of it."""

    section: str
    library: str
    block: str
    ahead: str

    @property
    def text(self) -> str:
        """Return the whole program."""
        return self.ahead + self.block

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the whole program."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def programs(page: str) -> list[Program]:
    """Return the programs of a page."""
    found: list[Program] = []
    section, common, ahead = "", "", ""
    for piece in _PIECE.finditer(page):
        if piece["title"] is not None:
            section, ahead = piece["title"], ""
        elif not common:
            common = piece["code"]
        elif piece["peer"]:
            found.append(Program(section, piece["peer"], piece["code"], common + ahead))
        elif piece["code"].startswith("import fastadapt"):
            found.append(Program(section, "fastadapt", piece["code"], common + ahead))
        else:  # what the programs of a section share; the images serve the sections after theirs as well
            ahead += piece["code"]
            common += piece["code"] if piece["code"].startswith("def images") else ""
    return found


def relative_difference(ours: list[float], theirs: list[float]) -> float:
    """Return the largest difference over the size of the numbers, infinity where there are more on one side."""
    if len(ours) != len(theirs):
        return float("inf")
    return max(abs(a - b) / max(abs(a), abs(b), 1e-300) if a != b else 0.0 for a, b in zip(ours, theirs, strict=True))


def run(program: Program, python: Path | str) -> dict[str, Any]:
    """Run a program in a process of its own; return what it printed, or how it failed."""
    head = PREAMBLES.get(program.library, "") + "import torch\ntorch.set_num_threads(1)\n"
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "src")), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(python), "-W", "ignore", "-c", head + program.text],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
    )
    facts = {"section": program.section, "library": program.library, "sha256": program.checksum}
    if done.returncode:
        return {**facts, "failed": done.stderr.strip().splitlines()[-1]}
    return {**facts, "printed": [float(word) for word in done.stdout.split()]}


def probe(library: str, python: Path | str) -> dict[str, bool]:
    """Return what peers_probes.py finds in a library; see there."""
    script = (ROOT / "benchmarks" / "peers_probes.py").read_text(encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT / "src")), "OMP_NUM_THREADS": "1"}
    command = [str(python), "-W", "ignore", "-c", PREAMBLES.get(library, "") + script, library]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def versions(python: Path | str, packages: list[str]) -> dict[str, str]:
    """Return the versions of some packages in an environment."""
    code = "import sys; from importlib.metadata import version as v; print(*map(v, sys.argv[1:]))"
    done = subprocess.run([str(python), "-c", code, *packages], check=True, capture_output=True, text=True)
    return dict(zip(packages, done.stdout.split(), strict=True))


def compare(results: list[dict[str, Any]]) -> bool:
    """Add to each result how far it is from its section's first; return whether all are near."""
    good = True
    for result in results:
        first = next(r for r in results if r["section"] == result["section"])
        if "failed" in result or "failed" in first:
            good = False
            continue
        result["relative_difference"] = relative_difference(first["printed"], result["printed"])
        good = good and result["relative_difference"] <= TOLERANCE
    return good


def without_the_dtype(program: Program, python: Path | str, printed: list[float]) -> dict[str, float]:
    """Return how far a program's numbers are off with torch's own default dtype, for one that sets another."""
    block = re.sub(r"^torch\.set_default_dtype.*\n", "", program.block, flags=re.MULTILINE)
    if block == program.block:
        return {}
    other = run(replace(program, block=block), python)
    return {"off_with_the_default_dtype": relative_difference(printed, other["printed"])}


def main() -> int:
    """Run everything, write the result file, print a line for each program."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers-dir", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    found = programs(PAGE.read_text(encoding="utf-8"))
    pythons: dict[str, Path | str] = {"fastadapt": sys.executable}
    peers: dict[str, Any] = {}
    for peer in dict.fromkeys(p.library for p in found if p.library != "fastadapt"):
        reason = not_installed(peer, options.peers_dir)
        if reason:
            peers[peer] = {"not_installed": reason}
            continue
        pythons[peer] = options.peers_dir / peer / "bin" / "python"
        peers[peer] = {**versions(pythons[peer], [peer, "torch"]), "notes": install_notes(peer, options.peers_dir)}
    results = []
    for program in (p for p in found if p.library in pythons):
        result = run(program, pythons[program.library])
        results.append(result | without_the_dtype(program, pythons[program.library], result.get("printed", [])))
    good = compare(results)
    for result in results:
        told = result.get("failed", f"{result.get('relative_difference', float('nan')):.1e}")
        print(f"{result['section']:48} {result['library']:12} {told}", flush=True)
    largest = max((r.get("relative_difference", float("inf")) for r in results), default=0.0)
    probes = {library: probe(library, python) for library, python in pythons.items() if library != "easyfsl"}
    for library, found_there in probes.items():
        print(f"{library:12} {found_there}", flush=True)
    facts = {
        "command": "python benchmarks/peers_side_by_side.py",
        "python": sys.version.split()[0],
        "tolerance": TOLERANCE,
        "largest_relative_difference": largest,
        "libraries": peers,
        "probes": probes,
        "programs": results,
    }
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return 0 if good and all("not_installed" not in facts for facts in peers.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
