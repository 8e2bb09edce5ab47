"""One assessment through the HTTP API: made, followed, and its report fetched."""

from __future__ import annotations

import asyncio
import re
import sys
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import typer

from crucible.assessments.comparison import Comparison
from crucible.errors import ApiError, ApiRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crucible.client.transport import Transport

#: Bytes of cases in one request; bodies may have twice as much unless settings say otherwise.
_PART_BYTES = 1_000_000
#: Seconds between two looks at the progress.
_LOOK_S = 0.3
_ENDED = frozenset({"completed", "failed", "cancelled"})
_INDEX = re.compile(r"^cases\[(\d+)\]")
_PATH = "/api/v1/assessments"


class Assessing:
    """One assessment through the HTTP API.

    Args:
        transport: asks it. Raises ApiError where that does.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def make(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an assessment, in as many requests as its cases take, and start it."""
        # With an id a request whose answer was lost can be sent again.
        body = {"assessment_id": uuid.uuid4().hex, **body}
        parts = _parts(body.pop("cases"))
        if len(parts) == 1:
            made = await self._post(_PATH, {**body, "cases": parts[0]})
        else:
            made = await self._post(_PATH, {**body, "draft": True})
            await self._fill(f"{_PATH}/{made['assessment_id']}", parts)
        return await self._post(f"{_PATH}/{made['assessment_id']}/start", {})

    async def _fill(self, path: str, parts: list[list[Any]]) -> None:
        at = 0
        try:
            for part in parts:
                await self._post(f"{path}/cases", {"at": at, "cases": part})
                at += len(part)
        except ApiRefused as error:
            await self._transport.ask("DELETE", path)
            raise _placed(error, at) from None

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._transport.ask("POST", path, body=msgspec.json.encode(body))
        return msgspec.json.decode(answer.content, type=dict[str, Any])

    async def followed(self, assessment_id: str) -> dict[str, Any]:
        """The assessment once it has ended; how far it is is shown until then."""
        with _progress() as show:
            while True:
                answer = await self._transport.ask("GET", f"{_PATH}/{assessment_id}")
                found = msgspec.json.decode(answer.content, type=dict[str, Any])
                show(found)
                if found["status"] in _ENDED:
                    return found
                await asyncio.sleep(_LOOK_S)

    async def report(self, assessment_id: str, kind: str) -> bytes:
        """The report in one of its formats."""
        path = f"{_PATH}/{assessment_id}/report?format={kind}"
        return (await self._transport.ask("GET", path)).content

    async def compared(self, assessment_id: str, baseline: str) -> Comparison:
        """What changed since an earlier assessment."""
        path = f"{_PATH}/{assessment_id}/report?baseline={quote(baseline, safe='')}"
        answer = await self._transport.ask("GET", path)
        return msgspec.json.decode(answer.content, type=Comparison)


def _parts(cases: list[Any]) -> list[list[Any]]:
    """Cases in parts that fit into one body."""
    parts: list[list[Any]] = [[]]
    size = 0
    for case in cases:
        length = len(msgspec.json.encode(case))
        if parts[-1] and size + length > _PART_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(case)
        size += length
    return parts


def _placed(error: ApiRefused, at: int) -> ApiError:
    """An error with the number its case has in the whole suite."""
    match = _INDEX.match(error.field or "")
    if match is None or error.field is None:
        return error
    field = f"cases[{at + int(match[1])}]{error.field[match.end() :]}"
    return ApiError(f"{field}: {error.detail}")


@contextmanager
def _progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A bar on a terminal, else a line for every tenth of the way; on standard error."""
    if not sys.stderr.isatty():
        shown = [-1]

        def line(found: dict[str, Any]) -> None:
            tenth = int(found["progress"] // 10)
            if tenth > shown[0]:
                shown[0] = tenth
                typer.echo(f"{found['progress']:5.1f} %  {found['message']}", err=True)

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("queued", total=100)

        def draw(found: dict[str, Any]) -> None:
            bar.update(task, completed=found["progress"], description=found["message"])

        yield draw
