"""What a client is told when something can't be done: a status, a code for programs, a sentence for people."""

from collections.abc import Mapping
from typing import Any

from fastadapt.errors import FastadaptError


class Problem(FastadaptError):  # noqa: N818 - what a client is told, which need not be an error of the server
    """A request can't be served.

    Args:
        status: the HTTP status.
        code: a word that stays the same whatever the message says.
        message: the value, the rule it broke and what to do.
        field: where in the request it is, such as "classes[3].images[0]".
        headers: further headers of the answer.

    Example:
        >>> Problem(422, "too_many_steps", "steps is 99, the most is 50; ask for fewer", "steps").body["error"]["code"]
        'too_many_steps'
    """

    def __init__(
        self, status: int, code: str, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """The answer's JSON."""
        return {"error": {"code": self.code, "message": self.message, "field": self.field}}


def internal() -> Problem:
    """Return what a client is told of a bug: nothing of its insides."""
    return Problem(500, "internal", "the server made a mistake, which it has logged; try again, or report it")


def unknown_task(task: str) -> Problem:
    """Return the answer for a task that never was, or is gone."""
    return Problem(404, "unknown_task", f"there is no task {_short(task)}, or it has expired; create it again", "id")


def _short(text: str) -> str:
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    return ascii(shown)
