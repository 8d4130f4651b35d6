"""What bodies look like. Strict: `true` is no number, "5" is no number, and an unknown key is a mistake."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fastadapt.serve.problems import Problem

_UNION_TAG = re.compile(r"(str|float|int|list\[.*\])$")
_LONGEST = 100  # characters of a value in a message


class Strict(BaseModel):
    """Refuse what is not exactly described."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


Word = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# 2^53: what a page can count to without losing a number
Number = Annotated[int, Field(ge=0, le=2**53, description="comes back with every line of the answer")]
Row = Annotated[list[float], Field(min_length=1, max_length=1000)]
Queries = Annotated[
    list[str | Row], Field(max_length=10_000, description="base64 of images, or rows of numbers for a regression")
]
Rate = Annotated[float, Field(gt=0, le=100)]


class ImageClass(Strict):
    """One class: a name and its images."""

    name: Annotated[str, StringConstraints(max_length=1000)]
    images: Annotated[list[str], Field(min_length=1, max_length=10_000, description="base64 of PNG, JPEG, WebP or GIF")]


class Rows(Strict):
    """The samples of a regression."""

    x: Annotated[list[Row], Field(min_length=1, max_length=10_000)]
    y: Annotated[list[Row], Field(min_length=1, max_length=10_000)]


class NewTask(Strict):
    """A task: classes of images, or rows of numbers."""

    model: Word
    classes: Annotated[list[ImageClass], Field(min_length=1, max_length=1000)] | None = None
    rows: Rows | None = None


class Adapt(Strict):
    """How to adapt, and what to ask on the way."""

    method: Word | None = Field(None, description="one of the model's methods; null is its own")
    steps: Annotated[int, Field(ge=0, le=10_000)] | None = Field(None, description="inner steps; null is the model's")
    rate: Rate | None = Field(None, description="inner learning rate; null is the method's own")
    queries: Queries = []
    sequence: Number = 0


class Predict(Strict):
    """What to ask a model that was adapted before."""

    method: Word | None = None
    queries: Queries


class FitAsked(Strict):
    """A picture or a sound to fit; one of photo, sound and example."""

    photo: str | None = Field(None, description="base64 of a PNG, JPEG, WebP or GIF; its middle square is fitted")
    sound: str | None = Field(None, description="base64 of a WAV; its loudest stretch is fitted")
    example: Literal["photo", "sound"] | None = Field(None, description="a picture or a sound that the server makes")
    steps: Annotated[int, Field(ge=0, le=10_000)] | None = Field(None, description="of each fit")
    side: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="pixels a side of the square")
    seconds: Annotated[float, Field(gt=0, le=10_000)] | None = Field(None, description="of the stretch")
    sequence: Number = 0


class Created(BaseModel):
    """A task that is kept."""

    id: str
    model: str
    classes: list[str] | None
    shots: list[int]
    adapted: list[str]
    expires_in: int


class Answers(BaseModel):
    """What was answered, one entry for each query."""

    probabilities: list[list[float]] | None = None
    labels: list[str] | None = None
    predictions: list[list[float]] | None = None


class Error(BaseModel):
    """What went wrong."""

    code: str
    message: str
    field: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: Error


Body = TypeVar("Body", bound=Strict)

BODIES: tuple[type[Strict], ...] = (NewTask, Adapt, Predict, FitAsked)
"""What a client sends."""


def validated(kind: type[Body], content: bytes) -> Body:
    """Return a JSON body as what it should be.

    Raises:
        Problem: 400 if it is no JSON, 422 if it is another one; the first mistake is named.

    Example:
        >>> validated(Adapt, b'{"steps": 3}').steps
        3
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    # outside of the handler: a traceback would keep the body alive
    if first["type"] == "json_invalid":
        raise Problem(400, "bad_json", f"the body is not JSON ({_lower(first['msg'])}); send a JSON object")
    where = field_of(first["loc"])
    raise Problem(
        422, "bad_value", f"{where or 'the body'} is {_shown(first.get('input'))}: {_lower(first['msg'])}", where
    )


def field_of(place: tuple[int | str, ...]) -> str | None:
    """Return a place in a body as it is written in code.

    Example:
        >>> field_of(("classes", 3, "images", 0))
        'classes[3].images[0]'
    """
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not _UNION_TAG.match(part):
            path += f".{part}" if path else part
    shown = path if len(path) <= _LONGEST else f"{path[:_LONGEST]}..."
    return ascii(shown)[1:-1] or None


def _shown(value: Any) -> str:
    text = ascii(value) if isinstance(value, str | int | float | None) else f"of type {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
