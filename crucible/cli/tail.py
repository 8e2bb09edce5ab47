"""``crucible tail``: follows the events of evaluations."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import aiohttp
import msgspec
import typer
from yarl import URL

from crucible.cli.client import Url, base_url, path_of
from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.errors import ApiError
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds without a byte after which the connection is taken for dead: the api sends a heartbeat
#: every 15.
SILENCE_S = 40.0
OK, NO_CONTENT, UNAVAILABLE = 200, 204, 503
#: Seconds before the next connection, and connections in a row that may fail.
_PAUSE_S, _TRIES = 1.0, 5


class Received(NamedTuple):
    """One server-sent event; its name is empty where only the id has changed.

    Attributes:
        name: ``evaluation`` or ``resync``.
        data: its data.
        last_id: the id behind which a client goes on.
    """

    name: str
    data: str
    last_id: str


@with_settings(Section.LISTENING)
def command(
    settings: Settings,
    eval_id: Annotated[
        str | None,
        typer.Argument(help="Only this evaluation, up to its end.", show_default=False),
    ] = None,
    status: Annotated[
        str | None,
        typer.Option(help="Only these statuses, separated by commas.", show_default=False),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print what happens to evaluations, as it happens; Ctrl-C ends it.

    A connection that ends is made again and goes on where it was.
    """
    if eval_id is not None and status is not None:
        raise typer.BadParameter("is for all evaluations, not for one", param_hint="--status")
    path = "/api/events" if eval_id is None else f"{path_of(eval_id)}/events"
    address = URL(base_url(url, settings) + path, encoded=True)
    if status is not None:
        address = address.with_query(status=status)
    asyncio.run(_tail(address, once=eval_id is not None, as_json=as_json))


async def _tail(address: URL, *, once: bool, as_json: bool) -> None:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=SILENCE_S)
    last_id, failures = "", 0
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            try:
                async with session.get(address, headers=_resuming(last_id)) as response:
                    if response.status == NO_CONTENT:
                        return  # the end was printed before the connection ended
                    async for event in _events(await _checked(response), last_id):
                        last_id, failures = event.last_id, 0
                        _print(event, as_json)
                        if once and _is_end(event):
                            return
            except (aiohttp.ClientError, TimeoutError) as error:
                failures += 1
                if failures == _TRIES:
                    raise ApiError(_unanswered(address, error)) from None
            await asyncio.sleep(_PAUSE_S)


def _resuming(last_id: str) -> dict[str, str]:
    return {"Last-Event-ID": last_id} if last_id else {}


def _unanswered(address: URL, error: Exception) -> str:
    reason = str(error) or type(error).__name__
    return f"the API at {address.origin()} does not answer: {reason}"


async def _checked(response: aiohttp.ClientResponse) -> aiohttp.StreamReader:
    """The stream of an answer.

    Raises:
        aiohttp.ClientConnectionError: there may be one soon.
        ApiError: there is none.
    """
    if response.status == UNAVAILABLE:
        raise aiohttp.ClientConnectionError(_detail_of(await response.read()))
    if response.status != OK:
        raise ApiError(_detail_of(await response.read()))
    return response.content


async def _events(stream: aiohttp.StreamReader, last_id: str) -> AsyncIterator[Received]:
    name, data = "", ""
    async for raw in stream:
        line = raw.decode().rstrip("\r\n")
        field, _, value = line.partition(": ")
        if field == "id":
            last_id = value
        elif field == "event":
            name = value
        elif field == "data":
            data = value
        elif not line:
            yield Received(name, data, last_id)
            name, data = "", ""


def _detail_of(body: bytes) -> str:
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError:
        return "the API answered with something that is not JSON"
    return str(problem.get("detail") or problem.get("title"))


def _is_end(event: Received) -> bool:
    return event.name == "evaluation" and msgspec.json.decode(event.data)["verdict"] is not None


def _print(event: Received, as_json: bool) -> None:
    if event.name == "resync":
        typer.echo("crucible: events may be missing here", err=True)
    elif event.name == "evaluation":
        typer.echo(event.data if as_json else _line(msgspec.json.decode(event.data)))


def _line(event: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(event["at"] / 1000).astimezone()
    verdict = f" ({event['verdict']})" if event["verdict"] else ""
    progress = "" if event["progress"] is None else f" {event['progress']:g} %"
    moment = at.isoformat(sep=" ", timespec="milliseconds")[11:23]
    return f"{moment}  {event['eval_id']}  {event['status']}{verdict}{progress}"
