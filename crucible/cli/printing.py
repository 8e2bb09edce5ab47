"""How commands print data, and what happens when standard output cannot be written."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any, NoReturn, TextIO

import msgspec

from crucible.errors import CrucibleError


class OutputError(CrucibleError):
    """The output cannot be written: the disk is full, or the descriptor is closed."""


class ClosedOutput(io.TextIOBase):
    """Stands in for ``sys.stdout`` when its descriptor was closed at startup and Python set None.

    ``print`` to None loses its output silently, so the command would seem to have succeeded.
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
    print(msgspec.json.format(msgspec.json.encode(value)).decode(), flush=True)


def print_bytes(stream: TextIO | None, content: bytes) -> None:
    """Write bytes to a standard stream unchanged, and flush."""
    if content and stream is not None:
        stream.buffer.write(content)
        stream.flush()


def replace_closed_output() -> None:
    """If standard output was closed at startup, make writing to it raise OutputError."""
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
        for descriptor in range(3):
            try:
                os.fstat(descriptor)
            except OSError:
                # Occupies the lowest free descriptor: otherwise a socket gets it, and libuv refuses
                # to close descriptors 0 to 2.
                os.open(os.devnull, os.O_RDWR)


def abandon_output() -> None:
    """Discard buffered output, so that the interpreter does not try to flush it again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
