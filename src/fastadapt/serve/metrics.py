"""What an operator sees, in the text form that Prometheus reads.

Written by hand: these are eight series, and the client library keeps them in one registry of the process, where two
applications (as in a test) would mix.
"""

import threading
from collections import Counter
from collections.abc import Mapping

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds, of how long an adaptation takes."""

_HELP = {
    "requests_total": ("counter", "Requests by route, method and status."),
    "adaptations_total": ("counter", "Adaptations by model, method and how they ended."),
    "fits_total": ("counter", "Fits of pictures and sounds, and how they ended."),
    "adaptation_seconds": ("histogram", "How long finished adaptations computed."),
    "tasks": ("gauge", "Tasks that are kept."),
    "task_bytes": ("gauge", "Bytes of the tensors of these tasks."),
    "jobs_waiting": ("gauge", "Requests that wait for a thread."),
    "jobs_running": ("gauge", "Requests that compute."),
}

_Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Count what happens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[_Labels]] = {
            name: Counter() for name, (kind, _) in _HELP.items() if kind == "counter"
        }
        self._buckets = [0] * len(BUCKETS)
        self._sum, self._observed = 0.0, 0

    def count(self, name: str, **labels: str) -> None:
        """Add one to a counter."""
        with self._lock:
            self._counts[name][tuple(labels.items())] += 1

    def observe(self, seconds: float) -> None:
        """Note how long an adaptation took."""
        with self._lock:
            self._sum += seconds
            self._observed += 1
            for i, bound in enumerate(BUCKETS):
                self._buckets[i] += seconds <= bound

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return everything as text, with the gauges' present values."""
        lines: list[str] = []
        with self._lock:
            for name, (kind, about) in _HELP.items():
                lines += [f"# HELP fastadapt_{name} {about}", f"# TYPE fastadapt_{name} {kind}"]
                if kind == "gauge":
                    lines.append(f"fastadapt_{name} {gauges[name]:g}")
                elif kind == "counter":
                    rows = sorted(self._counts[name].items())
                    lines += [f"fastadapt_{name}{_braces(labels)} {value}" for labels, value in rows]
                else:
                    bounds = [*map(str, BUCKETS), "+Inf"]
                    rows = zip(bounds, [*self._buckets, self._observed], strict=True)
                    lines += [f'fastadapt_{name}_bucket{{le="{bound}"}} {value}' for bound, value in rows]
                    lines += [f"fastadapt_{name}_sum {self._sum:.6f}", f"fastadapt_{name}_count {self._observed}"]
        return "\n".join(lines) + "\n"


def _braces(labels: _Labels) -> str:
    def quoted(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{key}="{quoted(value)}"' for key, value in labels) + "}"
