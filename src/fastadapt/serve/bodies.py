"""Bodies of requests: JSON, and files for a new task. Anything else is refused before it is read."""

import asyncio
from dataclasses import dataclass, field

from starlette.datastructures import UploadFile
from starlette.requests import Request

from fastadapt.serve.archive import FIELD as ARCHIVE
from fastadapt.serve.archive import read_archive
from fastadapt.serve.limits import Limits
from fastadapt.serve.problems import Problem
from fastadapt.serve.samples import File, files_of
from fastadapt.serve.schemas import Body, NewTask, Rows, validated

JSON, FORM = "application/json", "multipart/form-data"
_FIELDS = 4  # that are no files


@dataclass(frozen=True)
class Upload:
    """A task as it was sent: files, or rows."""

    model: str
    files: list[File] = field(default_factory=list)
    archive: bytes | None = None
    rows: Rows | None = None

    def unpacked(self, limits: Limits) -> list[File]:
        """Return the files, out of the archive if they came in one.

        Raises:
            Problem: as `read_archive`.
        """
        if self.archive is None:
            return self.files
        found = read_archive(self.archive, limits)
        return [File(label, content, f"{ARCHIVE}[{i}]") for i, (label, _, content) in enumerate(found)]


def media_type(request: Request) -> str:
    """Return what a request says its body is."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, kind: type[Body]) -> Body:
    """Return a JSON body.

    Raises:
        Problem: 415 for another media type, 400 and 422 as `validated`.
    """
    if media_type(request) != JSON:
        raise _unsupported(request, JSON)
    content = await request.body()
    # megabytes take a while, in which the loop would answer nobody
    return await asyncio.to_thread(validated, kind, content)


async def read_task(request: Request, limits: Limits) -> Upload:
    """Return a new task, from JSON or from a form with files.

    Raises:
        Problem: 415, 400, 422 for what can't be one.
    """
    kind = media_type(request)
    if kind == JSON:
        return await asyncio.to_thread(_from_json, await read_json(request, NewTask), limits)
    if kind != FORM:
        raise _unsupported(request, f"{JSON} or {FORM}")
    return await _read_form(request, limits)


def _from_json(body: NewTask, limits: Limits) -> Upload:
    if (body.classes is None) == (body.rows is None):
        raise Problem(422, "bad_task", "a task has either classes or rows, and not both; send one of them", "classes")
    if body.classes is None:
        return Upload(body.model, rows=body.rows)
    count = sum(len(each.images) for each in body.classes)
    limits.check_count(count, limits.images, "images", "classes", 413)
    names: set[str] = set()
    for i, each in enumerate(body.classes):
        name = limits.check_name(each.name, f"classes[{i}].name")
        if name in names:
            raise Problem(422, "same_name", f"two classes are named {name!a}; rename one", f"classes[{i}].name")
        names.add(name)
    return Upload(body.model, files_of(body.classes))


async def _read_form(request: Request, limits: Limits) -> Upload:
    # one file more than allowed, so that it is this module that says so
    async with request.form(max_files=limits.images + 1, max_fields=_FIELDS, max_part_size=10_000) as form:
        model = form.get("model")
        if not isinstance(model, str) or not 1 <= len(model) <= 100:
            raise Problem(422, "bad_value", "the form has no field model; name the model", "model")
        unknown = next((key for key in form if key not in ("model", "support", ARCHIVE)), None)
        if unknown is not None:
            raise Problem(
                422, "bad_value", f"the form has a field {unknown[:40]!a}; it takes model, support and {ARCHIVE}"
            )
        archives, support = form.getlist(ARCHIVE), form.getlist("support")
        if len(archives) + bool(support) != 1:
            raise Problem(422, "bad_task", f"a form has either files named support or one named {ARCHIVE}", "support")
        if archives:
            return Upload(model, archive=await _content(archives[0], ARCHIVE))
        limits.check_count(len(support), limits.images, "images", "support", 413)
        return Upload(model, [await _file(part, f"support[{i}]") for i, part in enumerate(support)])


async def _content(part: UploadFile | str, field: str) -> bytes:
    if isinstance(part, str):
        raise Problem(422, "bad_value", "this part of the form is text and not a file; send a file", field)
    return await part.read()


async def _file(part: UploadFile | str, field: str) -> File:
    content = await _content(part, field)
    assert isinstance(part, UploadFile)
    label, slash, name = (part.filename or "").partition("/")
    if not slash or not name:
        raise Problem(
            422, "bad_name", "a file's name must be CLASS/NAME, as in fish/1.png, to say what class it is of", field
        )
    return File(label, content, field)


def _unsupported(request: Request, taken: str) -> Problem:
    given = media_type(request) or "nothing"
    return Problem(415, "unsupported_media_type", f"the body is said to be {given[:60]!a}; send {taken}")
