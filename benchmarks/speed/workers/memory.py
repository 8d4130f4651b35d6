"""Resident memory of this process, as Linux counts it."""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def _field(name: str) -> float | None:
    if not _STATUS.is_file():
        return None
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(name + ":"))
    return int(line.split()[1]) / 1024


def resident_mb() -> float | None:
    """Return the memory that is resident now, in MiB; None where the system does not say."""
    return _field("VmRSS")


def peak_mb() -> float | None:
    """Return the largest resident memory since `reset_peak`, in MiB; None where the system does not say."""
    return _field("VmHWM")


def reset_peak() -> None:
    """Let the peak start again from what is resident now."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")
