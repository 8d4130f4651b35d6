"""What `fastadapt serve drawing` holds: latency alone, many users at once, memory, a kill; measured on a real server.

    python benchmarks/service.py                 # a few minutes
    python benchmarks/service.py --soak 240      # mixed traffic alone, a tenth of it nonsense, for 240 minutes
    python benchmarks/service.py --docs          # write the table of docs/serve.md again

Each client has a task of its own, of random strokes drawn from its number, so that every answer can be compared, bit
for bit, with what a single user got for the same task.
"""

import argparse
import base64
import contextlib
import io
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import torch
from PIL import Image, ImageDraw

import fastadapt as fa
from fastadapt.atomic import write_text

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "service.json"
ATTACKS = OUT.with_name("service_attacks.json")
PAGE = ROOT / "docs" / "serve.md"
BEGIN, END = "<!-- measured -->", "<!-- /measured -->"
WAYS, STEPS = 5, 10
AFTER = 35  # seconds; within 30 the server has given free memory back


def drawing(rng: random.Random) -> str:
    """Return a PNG of a few strokes, as base64."""
    image = Image.new("L", (105, 105), 255)
    for _ in range(rng.randint(1, 3)):
        points = [(rng.randint(15, 90), rng.randint(15, 90)) for _ in range(rng.randint(2, 4))]
        ImageDraw.Draw(image).line(points, 0, 4, "curve")
    content = io.BytesIO()
    image.save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def task_of(number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what client `number` sends: its task, and what it asks."""
    rng = random.Random(number)
    classes = [{"name": f"class {i}", "images": [drawing(rng)]} for i in range(WAYS)]
    return {"model": "drawing", "classes": classes}, {"steps": STEPS, "queries": [drawing(rng)]}


@contextlib.contextmanager
def serving(folder: str, *words: str) -> Iterator[tuple[str, int]]:
    """Run a server and give its address and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fastadapt.cli", "serve", "drawing", "--port", str(port), *words]
    environment = {name: value for name, value in os.environ.items() if name != "FASTADAPT_TOKEN"} | {"TMPDIR": folder}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            awaited(address)
            yield address, process.pid
        finally:
            process.terminate()


def awaited(address: str, seconds: float = 60.0) -> float:
    """Wait until a server answers and return how long that took."""
    began = time.perf_counter()
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.perf_counter() - began < seconds:
            with contextlib.suppress(httpx.HTTPError):
                if client.get(f"{address}/healthz").status_code == 200:
                    return time.perf_counter() - began
            time.sleep(0.02)
    raise TimeoutError("the server did not come up")


def megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    [line] = [x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


class Client:
    """A user with one task."""

    def __init__(self, address: str, number: int) -> None:
        self.http = httpx.Client(base_url=address, trust_env=False, timeout=120)
        task, self.asked = task_of(number)
        self.refused = 0
        self.failed: list[int] = []
        answer = self._until_let_in(lambda: self.http.post("/api/tasks", json=task))
        self.task = answer.json()["id"]

    def _until_let_in(self, ask: Any) -> Any:
        while True:
            answer = ask()
            if answer.status_code != 429:
                if answer.status_code >= 300:
                    self.failed.append(answer.status_code)
                return answer
            self.refused += 1
            assert int(answer.headers["retry-after"]) >= 1
            time.sleep(0.05)

    def adapt(self) -> tuple[list[dict[str, Any]], float]:
        """Adapt once; return all that was answered but the time, and the seconds it took from asking to the end."""
        began = time.perf_counter()
        answer = self._until_let_in(lambda: self.http.post(f"/api/tasks/{self.task}/adapt", json=self.asked))
        seconds = time.perf_counter() - began
        lines = [json.loads(line) for line in answer.text.splitlines()]
        return [{k: v for k, v in line.items() if k != "seconds"} for line in lines], seconds

    def close(self) -> None:
        """Drop the task."""
        self.http.delete(f"/api/tasks/{self.task}")
        self.http.close()


def percentile(values: list[float], share: float) -> float:
    """Return a percentile, the next larger value."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def alone(address: str, times: int) -> dict[str, Any]:
    """Measure one client that asks again and again."""
    client = Client(address, 0)
    for _ in range(5):
        client.adapt()
    took = [client.adapt()[1] for _ in range(times)]
    client.close()
    return {
        "adaptations": times,
        "p50 ms": round(1e3 * statistics.median(took), 1),
        "p95 ms": round(1e3 * percentile(took, 0.95), 1),
        "largest ms": round(1e3 * max(took), 1),
    }


def together(address: str, pid: int, clients: int, times: int) -> dict[str, Any]:
    """Measure many clients at once against what each gets alone, with a look at the health check beside them."""
    expected = []
    for number in range(clients):
        client = Client(address, number)
        expected.append(client.adapt()[0])
        client.close()
    before = megabytes(pid)
    stop, health = threading.Event(), []

    def look() -> None:
        with httpx.Client(base_url=address, trust_env=False, timeout=30) as http:
            while not stop.is_set():
                began = time.perf_counter()
                http.get("/healthz")
                health.append(time.perf_counter() - began)
                time.sleep(0.02)

    def use(number: int) -> tuple[int, int, list[int], float]:
        client = Client(address, number)
        equal, slowest = 0, 0.0
        for _ in range(times):
            lines, seconds = client.adapt()
            equal += lines == expected[number]
            slowest = max(slowest, seconds)
        client.close()
        return equal, client.refused, client.failed, slowest

    looking = threading.Thread(target=look)
    looking.start()
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(use, range(clients)))
    seconds = time.perf_counter() - began
    stop.set()
    looking.join()
    time.sleep(AFTER)
    return {
        "clients": clients,
        "adaptations": clients * times,
        "identical to a single user's": sum(row[0] for row in found),
        "answered 429 and asked again": sum(row[1] for row in found),
        "other statuses": sorted(status for row in found for status in row[2]),
        "adaptations/s": round(clients * times / seconds, 1),
        "healthz p99 ms": round(1e3 * percentile(health, 0.99), 1),
        "healthz asked": len(health),
        "slowest answer s": round(max(row[3] for row in found), 2),
        "memory before MB": round(before, 1),
        "memory after MB": round(megabytes(pid), 1),
    }


def killed(folder: str) -> dict[str, Any]:
    """Kill a server in the middle of its work, start it again, and look for what it left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "fastadapt.cli", "serve", "drawing", "--port", str(port)]
    address, environment = f"http://127.0.0.1:{port}", {**os.environ, "TMPDIR": folder}
    quiet: Any = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    took = []
    for _ in range(3):
        with subprocess.Popen(command, **quiet) as process:
            took.append(awaited(address))
            client = Client(address, 1)
            worker = threading.Thread(target=_cut_off, args=(client,))
            worker.start()
            time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            worker.join()
    return {
        "kills": 3,
        "seconds until it answers again": round(max(took), 2),
        "files left behind": sum(path.is_file() for path in Path(folder).rglob("*")),
    }


def _cut_off(client: Client) -> None:
    with contextlib.suppress(httpx.HTTPError, ValueError):  # its server is killed
        client.adapt()


NONSENSE: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/api/tasks", {"json": {"model": "drawing", "classes": []}}),
    ("POST", "/api/tasks", {"content": b"\xff" * 1000, "headers": {"Content-Type": "application/json"}}),
    ("POST", "/api/tasks", {"content": b"[" * 50_000, "headers": {"Content-Type": "application/json"}}),
    ("GET", "/api/tasks/../../etc/passwd", {}),
    ("GET", "/static/%2e%2e/%2e%2e/app.py", {}),
    ("POST", "/api/tasks/none/adapt", {"json": {"steps": 10}}),
    ("PUT", "/api/models", {}),
)


def soak(address: str, pid: int, minutes: float) -> dict[str, Any]:
    """Mix users who come and go with nonsense, and watch memory and file descriptors."""
    end, began, marks = time.monotonic() + 60 * minutes, time.monotonic(), []
    statuses: dict[int, int] = {}
    lock = threading.Lock()

    def use(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < end:
            with httpx.Client(base_url=address, trust_env=False, timeout=60) as http:
                if rng.random() < 0.1:
                    method, path, more = rng.choice(NONSENSE)
                    found = [http.request(method, path, **more).status_code]
                else:
                    task, asked = task_of(rng.randint(0, 10_000))
                    answer = http.post("/api/tasks", json=task)
                    found = [answer.status_code]
                    if answer.status_code == 201:
                        found += [http.post(f"/api/tasks/{answer.json()['id']}/adapt", json=asked).status_code]
                with lock:
                    for status in found:
                        statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < end:
        time.sleep(min(60, max(0.1, end - time.monotonic())))
        open_files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        marks.append((round(time.monotonic() - began, 1), round(megabytes(pid), 1), open_files))
    for thread in threads:
        thread.join()
    half = marks[len(marks) // 2 :]
    sizes = [size for _, size, _ in half]
    return {
        "minutes": minutes,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "memory MB": {"half-way": half[0][1], "end": half[-1][1], "least": min(sizes), "most": max(sizes)},
        "open files": {"half-way": half[0][2], "end": half[-1][2]},
        "marks": marks,
    }


def section() -> str:
    """Return the table of the documentation, from the committed file; before it was measured, the command."""
    if not OUT.is_file():
        return f"{BEGIN}\nNot measured yet: `python benchmarks/service.py`.\n{END}"
    content = json.loads(OUT.read_text(encoding="utf-8"))
    one, many, kill = content["alone"], content["together"], content["killed"]
    rows = [
        (
            f"one client, {WAYS} classes, one drawing each, {STEPS} steps, one question ({one['adaptations']} times)",
            f"{one['p50 ms']:.0f} ms in the median, {one['p95 ms']:.0f} ms at the 95th percentile",
        ),
        (
            f"{many['clients']} clients at once, {many['adaptations']:,} such adaptations",
            f"{many['identical to a single user' + chr(39) + 's']:,} bit for bit what a single user gets; "
            f"{many['answered 429 and asked again']:,} times asked to come again (429), "
            f"{len(many['other statuses'])} other errors; {many['adaptations/s']:.0f} a second",
        ),
        ("`/healthz` meanwhile", f"{many['healthz p99 ms']:.0f} ms at the 99th percentile"),
        (
            f"memory of the server before them, and {AFTER} s after",
            f"{many['memory before MB']:.0f} MB, {many['memory after MB']:.0f} MB",
        ),
        (
            f"killed in the middle of its work ({kill['kills']} times)",
            f"answers again {kill['seconds until it answers again']:.1f} s after its start; "
            f"{kill['files left behind']} files left behind",
        ),
    ]
    if soaked := content.get("soak"):
        told = ", ".join(f"{count:,} times {status}" for status, count in soaked["statuses"].items())
        memory, files = soaked["memory MB"], soaked["open files"]
        rows.append(
            (
                f"mixed traffic for {soaked['minutes']:g} minutes, a tenth of it nonsense (`--soak`)",
                f"{told}; memory {memory['half-way']:.0f} MB half-way, {memory['end']:.0f} MB at the end "
                f"({memory['least']:.0f} to {memory['most']:.0f} between), "
                f"open files {files['half-way']} and {files['end']}",
            )
        )
    body = "\n".join(f"| {what} | {found} |" for what, found in rows)
    return f"{BEGIN}\n`{content['command']}`, {content['machine']}:\n\n| | |\n|---|---|\n{body}\n{attacked()}{END}"


def attacked() -> str:
    """Return the table of what hostile requests cost, once it was measured."""
    if not ATTACKS.is_file():
        return ""
    content = json.loads(ATTACKS.read_text(encoding="utf-8"))
    rows = [
        f"| {row['sent']} | {', '.join(row['answers'])} | {row['slowest ms']:.0f} ms | {row['memory MB']:.0f} MB |"
        for row in content["rows"]
    ]
    head = "| sent, five times each | answered | slowest | memory at its peak, above before |\n|---|---|---|---|\n"
    return f"\n`{content['command']}`:\n\n{head}" + "\n".join(rows) + "\n"


def write_docs() -> None:
    """Put the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    PAGE.write_text(before + section() + rest.split(END)[1], encoding="utf-8")


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """Return everything but mixed traffic."""
    content: dict[str, Any] = {
        "command": "python benchmarks/service.py",
        "versions": {"fastadapt": fa.__version__, "torch": torch.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    with tempfile.TemporaryDirectory() as folder, serving(folder) as (address, pid):
        content["alone"] = alone(address, options.times)
        print(content["alone"], file=sys.stderr)
        content["together"] = together(address, pid, options.clients, options.each)
        print(content["together"], file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        content["killed"] = killed(folder)
        print(content["killed"], file=sys.stderr)
    return content


def main() -> None:
    """Read the command line, measure, and write file and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200, help="adaptations of the single client")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--each", type=int, default=20, help="adaptations of each of them")
    parser.add_argument("--soak", type=float, default=0, help="minutes of mixed traffic, which is added to the file")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--docs", action="store_true", help="measure nothing, write the page from the file")
    options = parser.parse_args()
    content = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    if options.soak:
        if not content:
            parser.error(f"--soak adds to {options.out}, which is not there; measure without --soak first")
        with tempfile.TemporaryDirectory() as folder, serving(folder) as (address, pid):
            command = f"python benchmarks/service.py --soak {options.soak:g}"
            content["soak"] = {"command": command, **soak(address, pid, options.soak)}
        write_text(options.out, json.dumps(content, indent=1) + "\n")
    elif not options.docs:
        write_text(options.out, json.dumps(content | measured(options), indent=1) + "\n")
    if options.out == OUT:
        write_docs()


if __name__ == "__main__":
    main()
