"""How the tasks of one shape are run: a record that checkpoints keep, and the words that a log shows."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass
class Plan:
    """Hold how tasks of one shape are run, and why."""

    route: Literal["vmap", "loop"]
    chunk: int | None = None
    compile: Literal["off", "trace", "on"] = "off"
    why: str = ""
    vmap_runs: bool = True
    came: int = 0
    """How often a shape has come that is not worth a look yet."""

    def in_words(self, tasks: int) -> str:
        """Return what a person wants to know of it."""
        how = "tasks at once (vmap)" if self.route == "vmap" else "one task after another (loop)"
        chunk = f", {self.chunk} at a time" if self.chunk and self.chunk < tasks else ""
        form = {"off": "", "trace": ", as recorded programs", "on": ", as compiled programs"}[self.compile]
        return f"{how}{chunk}{form}; {self.why}"


def described(key: Any) -> str:
    """Return an engine's key in words: the function's name and the shapes of a task."""
    (name, *_), shapes, *beside = key
    words = ["x".join(map(str, shape)) or "scalar" for shape, _ in shapes]
    constants = [constant for more in beside if isinstance(more, tuple) for constant in more]
    words += [value if isinstance(value, str) else kind.__name__ for kind, value in constants]
    return f"{name} {' '.join(words)}"
