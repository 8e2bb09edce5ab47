"""``crucible status``, ``result`` and ``cancel``, and one request to the HTTP API."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import quote

import aiohttp
import msgspec
import typer
from yarl import URL

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_bytes, print_json
from crucible.errors import CrucibleError
from crucible.evaluation.result import bytes_of
from crucible.models import ENDED, Evaluation, Status, Verdict
from crucible.settings import Settings, http_url
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds one request waits for the completion before the next one is sent.
WAIT_SLICE_S = 20.0
#: Seconds a request may take on top of its wait.
REQUEST_S = 10.0

Url = Annotated[
    str | None,
    typer.Option(help="URL of the API; default: from --host and --port.", show_default=False),
]

EvalId = Annotated[str, typer.Argument(help="The evaluation's id, as submit prints it.")]


class ApiError(CrucibleError):
    """The API refused the request or did not answer."""


@with_settings(Section.LISTENING)
def status(settings: Settings, eval_id: EvalId, url: Url = None, as_json: Json = False) -> None:
    """Print the status of an evaluation."""
    found = asyncio.run(ask_api(api_of(url, settings), "GET", path_of(eval_id)))
    if as_json:
        print_json(found)
    else:
        verdict = f" ({found['verdict']})" if found.get("verdict") else ""
        typer.echo(f"{found['status']}{verdict}")


@with_settings(Section.LISTENING)
def cancel(settings: Settings, eval_id: EvalId, url: Url = None, as_json: Json = False) -> None:
    """Cancel a queued or running evaluation; exit code 1 if it had finished before."""
    found = asyncio.run(ask_api(api_of(url, settings), "DELETE", path_of(eval_id)))
    if as_json:
        print_json(found)
    elif found["status"] == Status.CANCELLED:
        typer.echo("cancelled")
    elif found["status"] in ENDED:
        typer.echo(f"{found['status']} ({found['verdict']}) before it could be cancelled")
    else:
        typer.echo("cancelling")
    if found["status"] in ENDED and found["status"] != Status.CANCELLED:
        raise typer.Exit(1)


@with_settings(Section.LISTENING)
def result(
    settings: Settings,
    eval_id: EvalId,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the result.", min=0)] = 0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print a program's output; exit code 1 if it is not finished or its verdict is not ok."""
    found = asyncio.run(ended(api_of(url, settings), eval_id, wait))
    show(found, as_json)


class Api(NamedTuple):
    """The API that commands ask.

    Attributes:
        url: where it is.
        key: the key they ask it with; empty for none.
    """

    url: str
    key: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What each request carries."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def __repr__(self) -> str:
        """Without the key."""
        return f"Api({self.url!r})"


def api_of(url: str | None, settings: Settings) -> Api:
    """The API at ``url``, else where the settings say; with the key of the settings."""
    where = url.rstrip("/") if url else http_url(settings.host, settings.port)
    return Api(where, settings.api_key)


def path_of(eval_id: str) -> str:
    """The path of an evaluation; the id is one path segment, so it is quoted.

    Raises:
        typer.BadParameter: no evaluation can have this id.
    """
    # HTTP clients and proxies would resolve dot segments.
    if eval_id in ("", ".", "..") or not eval_id.isprintable():
        raise typer.BadParameter(f"{eval_id!r} is not a valid evaluation id")
    return f"/api/eval/{quote(eval_id, safe='')}"


async def ended(api: Api, eval_id: str, wait_s: float | None) -> dict[str, Any]:
    """The evaluation once it is complete, or after ``wait_s`` seconds (None: no limit)."""
    left = wait_s
    while True:
        slice_s = WAIT_SLICE_S if left is None else min(left, WAIT_SLICE_S)
        found = await ask_api(api, "GET", f"{path_of(eval_id)}?wait={slice_s:g}", wait_s=slice_s)
        if left is not None:
            left -= slice_s
        if found["status"] in ENDED or (left is not None and left <= 0):
            return found


async def ask_api(
    api: Api, method: str, path: str, body: Mapping[str, Any] | None = None, wait_s: float = 0
) -> dict[str, Any]:
    """One answer of the API; raises ApiError."""
    base = api.url
    timeout = aiohttp.ClientTimeout(total=wait_s + REQUEST_S)
    try:
        # Encoded: the path must arrive as it was quoted.
        address = URL(base + path, encoded=True)
    except ValueError as error:
        raise ApiError(f"{base} is not the address of an API: {error}") from None
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, address, json=body, headers=api.headers) as response,
        ):
            return _checked(response.status, await response.read())
    except (aiohttp.ClientError, TimeoutError) as error:
        reason = str(error) or type(error).__name__
        raise ApiError(f"the API at {base} does not answer: {reason}") from None


def _checked(status: int, content: bytes) -> dict[str, Any]:
    try:
        answer = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        raise ApiError(f"the API answered {status} with something that is not JSON") from None
    if status < 400:
        return answer
    field, detail = answer.get("field"), answer.get("detail") or answer.get("title")
    raise ApiError(f"{field}: {detail}" if field else str(detail))


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print an evaluation; exit code 1 if it is not complete or its verdict is not ok."""
    if as_json:
        print_json(found)
    else:
        _print_output(msgspec.convert(found, Evaluation))
    if found.get("verdict") != Verdict.OK:
        raise typer.Exit(1)


def _print_output(evaluation: Evaluation) -> None:
    print_bytes(sys.stdout, bytes_of(evaluation.output, evaluation.output_encoding))
    print_bytes(sys.stderr, bytes_of(evaluation.error, evaluation.error_encoding))
    if evaluation.verdict != Verdict.OK:
        typer.echo(f"crucible: {_how_it_ended(evaluation)}", err=True)


def _how_it_ended(evaluation: Evaluation) -> str:
    if evaluation.status not in ENDED:
        return f"{evaluation.status}, not finished yet"
    said = [f"{evaluation.status}", f"verdict {evaluation.verdict}"]
    if evaluation.exit_code is not None:
        said.append(f"exit code {evaluation.exit_code}")
    if evaluation.signal is not None:
        said.append(f"signal {evaluation.signal}")
    if evaluation.message:
        said.append(evaluation.message)
    return ", ".join(said)
