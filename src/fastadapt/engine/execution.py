"""How the tasks of a meta-batch are executed: a choice that changes speed and memory, never a result."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from fastadapt.errors import ConfigError

Route = Literal["auto", "vmap", "loop", "threads", "programs", "graph"]
Compilation = Literal["auto", "off", "trace", "on"]
Precision = Literal["float32", "tf32", "bf16"]


@dataclass(frozen=True)
class Execution:
    """Say how tasks are run; everything has a default that the engine reads from a table.

    Args:
        route: "vmap" runs tasks at once, "loop" one after another; "programs" and "threads" are the same two,
            compiled; "graph" is "vmap" as a CUDA graph. "auto" follows the table of `fastadapt.engine.rule`.
        compile: "on" compiles the inner step and the backward sweep once for each shape of task, "trace" records them
            and replays the records (no compiler needed), "off" does neither; "auto" compiles in a training that is
            long enough to pay for it.
        task_chunk: tasks run at once by "vmap"; None fits them into `memory`.
        memory: the budget of a chunk in GB; None is a quarter of the machine's memory, or half of the GPU's.
        segment: inner steps whose graph is kept at once by the exact meta-gradient; the sweep computes the others once
            more. 1 keeps only the parameters of every step; None keeps all of a loop of up to 5 steps.
        threads: tasks that a compiled loop runs at the same time; None is torch's number of threads.
        precision: "tf32" lets a GPU round matrix products to tf32, "bf16" runs the forward passes in bfloat16.

    Raises:
        ConfigError: for a setting outside its range.

    Example:
        >>> Execution(compile="trace", task_chunk=8).route
        'auto'
    """

    route: Route = "auto"
    compile: Compilation = "auto"
    task_chunk: int | None = None
    memory: float | None = None
    segment: int | None = None
    threads: int | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check every setting."""
        for name, kind in (("route", Route), ("compile", Compilation), ("precision", Precision)):
            value = getattr(self, name)
            if value not in get_args(kind):
                words = ", ".join(map(repr, get_args(kind)))
                raise ConfigError(f"{name} must be one of {words}, got {value!r}")
        for name in ("task_chunk", "segment", "threads"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"{name} must be a whole number of at least 1, or None, got {value!r}")
        if self.memory is not None and not self.memory > 0:
            raise ConfigError(f"memory must be above 0 GB, or None, got {self.memory!r}")

    def execution(self) -> "Execution":
        """Return these settings alone; the settings of a method include them."""
        return Execution(**{f.name: getattr(self, f.name) for f in fields(Execution)})


def as_execution(route: "Route | Execution") -> Execution:
    """Return an `Execution`, given one or just its route."""
    return route if isinstance(route, Execution) else Execution(route=route)
