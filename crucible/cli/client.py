"""``crucible status``, ``result`` and ``cancel``, and one request to the HTTP API."""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import msgspec
import typer

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_bytes, print_json
from crucible.cli.tests_table import print_graded
from crucible.client import requests
from crucible.client.transport import Transport
from crucible.errors import ApiError
from crucible.evaluation.result import bytes_of
from crucible.models import ENDED, Evaluation, Status, Verdict
from crucible.settings import Settings, http_url
from crucible.settings.sections import Section
from crucible.validation import input_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

#: Seconds one request waits for the completion before the next one is sent.
WAIT_SLICE_S = 20.0
#: The same where somebody watches the progress.
SEEN_SLICE_S = 0.3
#: Verdicts of programs that did what was asked of them.
PASSED = frozenset({Verdict.OK, Verdict.ACCEPTED})

Url = Annotated[
    str | None,
    typer.Option(help="URL of the API; default: from --host and --port.", show_default=False),
]


class Accepted(msgspec.Struct):
    """What an answer to a submission has at least."""

    eval_id: str


class Standing(msgspec.Struct):
    """What an answer about an evaluation has at least."""

    status: Status
    verdict: Verdict | None = None


EvalId = Annotated[str, typer.Argument(help="The evaluation's id, as submit prints it.")]


@with_settings(Section.LISTENING)
def status(settings: Settings, eval_id: EvalId, url: Url = None, as_json: Json = False) -> None:
    """Print the status of an evaluation."""
    api = api_of(url, settings)
    found = asyncio.run(ask_api(api, "GET", path_of(eval_id), kind=Standing))
    if as_json:
        print_json(found)
    else:
        verdict = f" ({found['verdict']})" if found.get("verdict") else ""
        typer.echo(f"{found['status']}{verdict}")


@with_settings(Section.LISTENING)
def cancel(
    settings: Settings,
    eval_id: EvalId,
    purge: Annotated[
        bool, typer.Option("--purge", help="Forget it too, whatever became of it; for good.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Cancel a queued or running evaluation; exit code 1 if it had finished before."""
    path = f"{path_of(eval_id)}?purge=true" if purge else path_of(eval_id)
    kind = dict[str, Any] if purge else Standing
    found = asyncio.run(ask_api(api_of(url, settings), "DELETE", path, kind=kind))
    if as_json:
        print_json(found)
    elif purge:
        typer.echo("forgotten")
    elif found["status"] == Status.CANCELLED:
        typer.echo("cancelled")
    elif found["status"] in ENDED:
        typer.echo(f"{found['status']} ({found.get('verdict')}) before it could be cancelled")
    else:
        typer.echo("cancelling")
    if not purge and found["status"] in ENDED and found["status"] != Status.CANCELLED:
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
    try:
        return requests.path_of(eval_id)
    except ApiError as error:
        raise typer.BadParameter(str(error)) from None


async def ended(
    api: Api,
    eval_id: str,
    wait_s: float | None,
    seen: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """The evaluation once it is complete, or after ``wait_s`` seconds (None: no limit).

    ``seen`` is called with it a few times a second until then.
    """
    left = wait_s
    most_s = WAIT_SLICE_S if seen is None else SEEN_SLICE_S
    while True:
        slice_s = most_s if left is None else min(left, most_s)
        path = f"{path_of(eval_id)}?wait={slice_s:g}"
        found = await ask_api(api, "GET", path, wait_s=slice_s, kind=Standing)
        if left is not None:
            left -= slice_s
        if found["status"] in ENDED or (left is not None and left <= 0):
            return found
        if seen is not None:
            seen(found)


async def ask_api(
    api: Api,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    wait_s: float = 0,
    kind: Any = dict[str, Any],
) -> dict[str, Any]:
    """One answer of the API, which is asked once.

    Args:
        api: where it is.
        method: of the request.
        path: of the request, with its query.
        body: of the request.
        wait_s: seconds that the API may take longer than usual.
        kind: what the answer has at least.

    Raises:
        ApiError: it refuses, does not answer, or what answers is no API of Crucible.
    """
    content = None if body is None else msgspec.json.encode(body)
    async with Transport(api.url, api.key, retry_for_s=0) as transport:
        answer = await transport.ask(method, path, body=content, wait_s=wait_s)
    if answer.status == HTTPStatus.NO_CONTENT:
        return {}
    try:
        found = msgspec.json.decode(answer.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(
            f"the API answered {answer.status} with something that is not JSON"
        ) from None
    as_answer(found, kind)
    return found


def as_answer(found: dict[str, Any], kind: type[T]) -> T:
    """An answer as a type.

    Raises:
        ApiError: it is no such answer: another service listens there.
    """
    try:
        return msgspec.convert(found, kind)
    except msgspec.ValidationError as error:
        wrong = input_error(error)
        raise ApiError(f"the answer is not one of Crucible's: {wrong}") from None


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print an evaluation; exit code 1 if it is not complete, or neither ok nor accepted."""
    if as_json:
        print_json(found)
    elif found.get("tests"):
        print_graded(found)
    else:
        _print_output(as_answer(found, Evaluation))
    if found.get("verdict") not in PASSED:
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
