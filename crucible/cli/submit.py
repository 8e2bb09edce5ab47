"""``crucible submit``: sends a program to the HTTP API."""

from __future__ import annotations

import asyncio
import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crucible.cli.client import Url, base_url, show
from crucible.cli.flags import with_settings
from crucible.cli.interrupts import Submission
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.submit_folder import run_folder
from crucible.errors import ApiError
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from collections.abc import Mapping

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


@with_settings(Section.LISTENING)
def command(
    settings: Settings,
    file: Annotated[
        str, typer.Argument(help="The program, a folder of programs, or - for standard input.")
    ],
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
    cancel_on_interrupt: Annotated[
        bool,
        typer.Option("--cancel-on-interrupt", help="Cancel the evaluation on the first Ctrl-C."),
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Submit a program and print its output; exit code 0 if its verdict is ok.

    Ctrl-C prints the evaluation's id and leaves it running; a second one cancels it. Either way the
    exit code is 130.

    Of a folder every program is run whose language its suffix tells, and a table of them printed;
    the exit code is 0 if all verdicts are ok.
    """
    options = {
        "environment": environment,
        "args": arg,
        "env": _pairs("--env", env),
        "limits": _limits(limit),
        "priority": priority,
        **_stdin(stdin),
    }
    base = base_url(url, settings)
    if Path(file).is_dir():
        if eval_id is not None:
            raise typer.BadParameter("is of one program, not of a folder", param_hint="--eval-id")
        shared = {name: value for name, value in options.items() if value is not None}
        programs = _programs(Path(file), language)
        asyncio.run(run_folder(base, programs, shared, wait=wait, as_json=as_json))
        return
    body: dict[str, Any] = {
        "code": _source(file),
        "language": _language(file) if language is None else language,
        "eval_id": eval_id,
        **options,
    }
    # Only options that were given are sent; empty strings and zeros are values too.
    given = {name: value for name, value in body.items() if value is not None}
    asyncio.run(_submit(base, given, cancel_on_interrupt, wait, as_json))


def _programs(folder: Path, language: str | None) -> dict[str, dict[str, Any]]:
    """The programs of a folder and those below it, by their paths in it.

    Raises:
        typer.BadParameter: there are none.
    """
    suffixes = {
        suffix
        for suffix, its_language in LANGUAGE_OF_SUFFIX.items()
        if language in (None, its_language)
    }
    files = sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file())
    if not files:
        raise typer.BadParameter(f"there is no program in {str(folder)!r}", param_hint="FILE")
    return {
        str(path.relative_to(folder)): {
            "code": _source(str(path)),
            "language": LANGUAGE_OF_SUFFIX[path.suffix],
        }
        for path in files
    }


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


async def _submit(
    base: str, body: Mapping[str, Any], cancel_on_interrupt: bool, wait: bool, as_json: bool
) -> None:
    submission = Submission(base, body, cancel_on_interrupt)
    accepted = await submission.send()
    if wait:
        show(await submission.completed(), as_json)
    elif as_json:
        print_json(accepted)
    else:
        typer.echo(accepted["eval_id"])
