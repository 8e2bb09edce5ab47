"""How commands print data, and what becomes of it when nobody can take it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

import msgspec
import typer

from crucible.errors import CrucibleError


class OutputError(CrucibleError):
    """What a command has to say cannot be written: a full disk, a closed descriptor."""


def print_json(value: Any) -> None:
    """Print plain data or a struct as indented JSON.

    Raises:
        OutputError: there is no standard output.
    """
    _checked(sys.stdout)
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_bytes(stream: TextIO | None, content: bytes) -> None:
    """Write bytes to a standard stream as they are, at once.

    Raises:
        OutputError: the stream was closed before this program started.
    """
    if content:
        stream = _checked(stream)
        stream.buffer.write(content)
        stream.flush()


def _checked(stream: TextIO | None) -> TextIO:
    # Python has None for a stream whose descriptor was closed from the start.
    if stream is None:
        raise OutputError("the output cannot be written: its descriptor is closed")
    return stream


def abandon_output() -> None:
    """Drop what the standard streams still hold, so that the interpreter does not try it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
