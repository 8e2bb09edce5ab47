"""How commands print data, and what becomes of it when nobody can take it."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import msgspec
import typer

from crucible.errors import CrucibleError


class OutputError(CrucibleError):
    """What a command has to say cannot be written: a full disk, a closed descriptor."""


class ClosedOutput(io.TextIOBase):
    """Standard output whose descriptor was closed from the start, where Python itself has None.

    Whatever is written to None is lost in silence, and a command seems to have done its work.
    """

    @property
    def buffer(self) -> NoReturn:
        """Raises OutputError."""
        raise _closed()

    def write(self, _text: str) -> NoReturn:
        """Raises OutputError."""
        raise _closed()


def _closed() -> OutputError:
    return OutputError("the output cannot be written: its descriptor is closed")


def print_json(value: Any) -> None:
    """Print plain data or a struct as indented JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def print_bytes(stream: TextIO | None, content: bytes) -> None:
    """Write bytes to a standard stream as they are, at once."""
    if content and stream is not None:
        stream.buffer.write(content)
        stream.flush()


def replace_closed_output() -> None:
    """Make standard output refuse what is written to it, where it was closed from the start."""
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
        for descriptor in range(3):
            try:
                os.fstat(descriptor)
            except OSError:
                # The lowest free number is taken: else a socket gets it, and libuv refuses to end.
                os.open(os.devnull, os.O_RDWR)


def abandon_output() -> None:
    """Drop what the standard streams still hold, so that the interpreter does not try it again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
