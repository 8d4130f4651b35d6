"""What hostile requests cost `fastadapt serve drawing`: time until they are refused, and memory at its peak.

    python benchmarks/service_attacks.py         # a minute; writes the table of docs/serve.md again

Each is sent five times to a real server, by itself. The memory is the highest resident size that Linux saw during the
five, above what it was before them.
"""

import argparse
import base64
import io
import json
import os
import platform
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import service
import torch
from PIL import Image

import fastadapt as fa
from fastadapt.atomic import write_text

TIMES = 5
JSON = {"Content-Type": "application/json"}


def pixels(side: int) -> bytes:
    """Return a PNG of a few kilobytes with `side * side` pixels of one bit."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(side * (1 + (side + 7) // 8)), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def scans() -> bytes:
    """Return a JPEG of 6 MB that would be decoded for minutes: its last scan comes again and again."""
    content = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    last = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + last * (5_500_000 // len(last)) + whole[-2:]


def zeros() -> bytes:
    """Return a zip of a hundred kilobytes that unpacks to 100 MB."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1.png", bytes(100_000_000))
    return content.getvalue()


def unannounced() -> Iterator[bytes]:
    """Yield 20 MB."""
    for _ in range(200):
        yield b" " * 100_000


def image(content: bytes) -> dict[str, Any]:
    """Return the request for a task with this image in it."""
    coded = base64.b64encode(content).decode()
    names = ("a", "b", "c")
    return {"json": {"model": "drawing", "classes": [{"name": name, "images": [coded]} for name in names]}}


def attacks() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return what is sent, by its name, each ready to be made anew."""
    part = b'--x\r\nContent-Disposition: form-data; name="support"; filename="a/1.png"\r\n\r\nx\r\n'
    form = {"content": part * 10_000 + b"--x--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
    small, large, many, packed = pixels(4_100), pixels(13_000), scans(), zeros()
    sign = pixels(28)
    return {
        "a body of 9 MB": lambda: {"content": bytes(9_000_000), "headers": JSON},
        "20 MB whose length is not announced": lambda: {"content": unannounced(), "headers": JSON},
        "JSON 100,000 levels deep": lambda: {"content": b"[" * 100_000, "headers": JSON},
        "a form of 10,000 parts": lambda: form,
        "a PNG of 17 million pixels, 2 kB": lambda: image(small),
        "a PNG of 169 million pixels, 21 kB": lambda: image(large),
        "a JPEG of thousands of scans, 5.5 MB": lambda: {
            "data": {"model": "drawing"},
            "files": [("support", (f"{i}/1.jpg", content)) for i, content in enumerate((many, sign, sign))],
        },
        "a zip of 0.1 MB that unpacks to 100 MB": lambda: {
            "data": {"model": "drawing"},
            "files": [("archive", ("t.zip", packed))],
        },
    }


def peak(pid: int) -> float:
    """Return the highest resident memory since it was last forgotten, in MB."""
    [line] = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def measured(address: str, pid: int) -> list[dict[str, Any]]:
    """Send everything and return a row for each."""
    rows = []
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        service.Client(address, 1).close()  # the first task also measures what the network needs
        for name, made in attacks().items():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # forget the peak
            before, took, statuses = service.megabytes(pid), [], set()
            for _ in range(TIMES):
                request = made()
                began = time.perf_counter()
                try:
                    statuses.add(str(client.post("/api/tasks", **request).status_code))
                except httpx.TransportError:  # the server hangs up while more is being sent
                    statuses.add("connection closed")
                took.append(time.perf_counter() - began)
            rows.append(
                {
                    "sent": name,
                    "answers": sorted(statuses),
                    "slowest ms": round(1e3 * max(took), 1),
                    "memory MB": round(max(0.0, peak(pid) - before), 1),
                }
            )
            assert client.get("/healthz").status_code == 200
    return rows


def main() -> None:
    """Read the command line, measure, and write file and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=service.ATTACKS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, service.serving(folder) as (address, pid):
        content = {
            "command": "python benchmarks/service_attacks.py",
            "versions": {"fastadapt": fa.__version__, "torch": torch.__version__},
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "rows": measured(address, pid),
        }
    write_text(options.out, json.dumps(content, indent=1) + "\n")
    if options.out == service.ATTACKS:
        service.write_docs()


if __name__ == "__main__":
    main()
