"""How the tasks of one shape are run, and the words that a log shows."""

from dataclasses import dataclass
from typing import Any, Literal

Name = Literal["loop", "vmapped", "threads", "programs", "graph"]


@dataclass(frozen=True)
class Plan:
    """Hold how tasks of one shape are run, and why.

    Args:
        strategy: the strategy's name.
        chunk: the most tasks that run at once.
        kind: how programs are made: recorded ("trace") or compiled ("on").
        why: the reason in words.
        vmap_runs: whether vmap runs this module, as far as is known.
        came: how often a shape has come that is not worth a look yet.
    """

    strategy: Name
    chunk: int | None = None
    kind: Literal["trace", "on"] = "on"
    why: str = ""
    vmap_runs: bool = True
    came: int = 0

    @property
    def frozen(self) -> bool:
        """Whether it has the state of Python in it, as it was when it was made."""
        return self.strategy in ("threads", "programs", "graph")

    @property
    def route(self) -> Literal["vmap", "loop"]:
        """Whether tasks run at once or one after another."""
        return "loop" if self.strategy in ("loop", "threads") else "vmap"

    @property
    def compile(self) -> Literal["off", "trace", "on"]:
        """Whether they run as programs, and of which kind."""
        return self.kind if self.strategy in ("threads", "programs") else "off"

    def in_words(self, tasks: int) -> str:
        """Return what a person wants to know of it."""
        how = "tasks at once (vmap)" if self.route == "vmap" else "one task after another (loop)"
        chunk = f", {self.chunk} at a time" if self.chunk and self.chunk < tasks else ""
        form = {"off": "", "trace": ", as recorded programs", "on": ", as compiled programs"}[self.compile]
        form = ", as a CUDA graph" if self.strategy == "graph" else form
        return f"{how}{chunk}{form}; {self.why}"


def described(key: Any) -> str:
    """Return an engine's key in words: the function's name and the shapes of a task."""
    (name, *_), shapes, *beside = key
    words = ["x".join(map(str, shape)) or "scalar" for shape, _ in shapes]
    constants = [constant for more in beside if isinstance(more, tuple) for constant in more]
    words += [value if isinstance(value, str) else kind.__name__ for kind, value in constants]
    return f"{name} {' '.join(words)}"
