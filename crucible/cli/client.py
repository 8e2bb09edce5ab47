"""``crucible submit``, ``status``, ``result`` and ``cancel``: a client of the HTTP API."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import aiohttp
import msgspec
import typer
from rich.console import Console
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

LANGUAGE_OF_SUFFIX = {
    ".py": "python",
    ".js": "javascript",
    ".mjs": "javascript",
    ".sh": "bash",
    ".bash": "bash",
    ".c": "c",
    ".cc": "cpp",
    ".cpp": "cpp",
    ".cxx": "cpp",
    ".go": "go",
    ".java": "java",
    ".lua": "lua",
    ".php": "php",
    ".pl": "perl",
    ".rb": "ruby",
    ".rs": "rust",
    ".ts": "typescript",
}

Url = Annotated[
    str | None,
    typer.Option(help="URL of the API; default: from --host and --port.", show_default=False),
]


class ApiError(CrucibleError):
    """The API refused the request or did not answer."""


@with_settings(Section.LISTENING)
def submit(
    settings: Settings,
    file: Annotated[str, typer.Argument(help="The program; - reads it from standard input.")],
    language: Annotated[
        str | None,
        typer.Option("--language", "-l", help="Default: from the file's suffix; python for -."),
    ] = None,
    environment: Annotated[
        str | None, typer.Option(help="The image to run in; by default one with the language.")
    ] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", help="An argument; repeat.")] = None,
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE; repeat.")] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", help="NAME=NUMBER, as wall_time_s=2; repeat.")
    ] = None,
    stdin: Annotated[
        Path | None, typer.Option(help="A file the program reads on standard input.")
    ] = None,
    priority: Annotated[int | None, typer.Option(help="0 to 9; 9 is most urgent.")] = None,
    eval_id: Annotated[str | None, typer.Option(help="Your own id.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the result and print the output.")
    ] = True,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Submit a program and print its output; exit code 0 if its verdict is ok."""
    body: dict[str, Any] = {
        "code": _source(file),
        "language": _language(file) if language is None else language,
        "environment": environment,
        "args": arg,
        "env": _pairs("--env", env),
        "limits": _limits(limit),
        "priority": priority,
        "eval_id": eval_id,
        **_stdin(stdin),
    }
    # Only options that were given are sent; empty strings and zeros are values too.
    given = {name: value for name, value in body.items() if value is not None}
    asyncio.run(_submit(_base(url, settings), given, wait, as_json))


@with_settings(Section.LISTENING)
def status(settings: Settings, eval_id: str, url: Url = None, as_json: Json = False) -> None:
    """Print the status of an evaluation."""
    found = asyncio.run(ask_api(_base(url, settings), "GET", _path(eval_id)))
    if as_json:
        print_json(found)
    else:
        verdict = f" ({found['verdict']})" if found.get("verdict") else ""
        typer.echo(f"{found['status']}{verdict}")


@with_settings(Section.LISTENING)
def cancel(settings: Settings, eval_id: str, url: Url = None, as_json: Json = False) -> None:
    """Cancel a queued or running evaluation; exit code 1 if it had finished before."""
    found = asyncio.run(ask_api(_base(url, settings), "DELETE", _path(eval_id)))
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
    eval_id: str,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the result.", min=0)] = 0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print a program's output; exit code 1 if it is not finished or its verdict is not ok."""
    found = asyncio.run(_ended(_base(url, settings), eval_id, wait))
    _show(found, as_json)


def _base(url: str | None, settings: Settings) -> str:
    if url:
        return url.rstrip("/")
    return http_url(settings.host, settings.port)


def _path(eval_id: str) -> str:
    """The path of an evaluation; the id is one path segment, so it is quoted."""
    # HTTP clients and proxies would resolve dot segments.
    if eval_id in ("", ".", "..") or not eval_id.isprintable():
        raise typer.BadParameter(f"{eval_id!r} is not a valid evaluation id")
    return f"/api/eval/{quote(eval_id, safe='')}"


def _source(file: str) -> str:
    # As bytes: reading text would convert line endings.
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise ApiError(f"cannot read {file}: {error.strerror}") from None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ApiError(f"cannot read {file}: byte {error.start} is not UTF-8") from None


def _language(file: str) -> str:
    if file == "-":
        return "python"
    language = LANGUAGE_OF_SUFFIX.get(Path(file).suffix)
    if language is None:
        raise typer.BadParameter(
            f"cannot tell the language from {Path(file).name!r}", param_hint="--language"
        )
    return language


def _stdin(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ApiError(f"cannot read {file}: {error.strerror}") from None
    return {"stdin": base64.b64encode(content).decode(), "stdin_encoding": "base64"}


def _limits(items: list[str] | None) -> dict[str, float | int | str] | None:
    pairs = _pairs("--limit", items)
    return None if pairs is None else {name: _number(value) for name, value in pairs.items()}


def _pairs(option: str, items: list[str] | None) -> dict[str, str] | None:
    if items is None:
        return None
    pairs = [item.partition("=") for item in items]
    if any(not separator for _, separator, _ in pairs):
        raise typer.BadParameter("must be NAME=VALUE", param_hint=option)
    return {name: value for name, _, value in pairs}


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    # Not a number: the API rejects it and names the field.
    return text


async def _submit(base: str, body: Mapping[str, Any], wait: bool, as_json: bool) -> None:
    accepted = await ask_api(base, "POST", "/api/eval", body)
    if not wait:
        if as_json:
            print_json(accepted)
        else:
            typer.echo(accepted["eval_id"])
        return
    with Console(stderr=True).status(f"{accepted['eval_id']} …"):
        found = await _ended(base, accepted["eval_id"], None)
    _show(found, as_json)


async def _ended(base: str, eval_id: str, wait_s: float | None) -> dict[str, Any]:
    """The evaluation once it is complete, or after ``wait_s`` seconds (None: no limit)."""
    left = wait_s
    while True:
        slice_s = WAIT_SLICE_S if left is None else min(left, WAIT_SLICE_S)
        found = await ask_api(base, "GET", f"{_path(eval_id)}?wait={slice_s:g}", wait_s=slice_s)
        if left is not None:
            left -= slice_s
        if found["status"] in ENDED or (left is not None and left <= 0):
            return found


async def ask_api(
    base: str, method: str, path: str, body: Mapping[str, Any] | None = None, wait_s: float = 0
) -> dict[str, Any]:
    """One answer of the API; raises ApiError."""
    timeout = aiohttp.ClientTimeout(total=wait_s + REQUEST_S)
    try:
        # Encoded: the path must arrive as it was quoted.
        address = URL(base + path, encoded=True)
    except ValueError as error:
        raise ApiError(f"{base} is not the address of an API: {error}") from None
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, address, json=body) as response,
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


def _show(found: dict[str, Any], as_json: bool) -> None:
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
