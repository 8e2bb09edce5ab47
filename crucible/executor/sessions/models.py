"""What a session is asked and what it answers, as plain data."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from crucible.models import (  # msgspec reads the annotations
    LOCAL_TENANT,
    Isolation,
    Limits,
    SourceFile,
)

#: Bytes of files that one cell may hand back, together.
FILE_BYTES = 8 << 20
#: Bytes of everything one cell displays, as it is sent.
DISPLAY_BYTES = 4 << 20
#: KiB kept of each stream of a cell, unless it says so.
OUTPUT_KB = 1024
#: Seconds that an interrupted cell has to come to its end.
INTERRUPT_S = 2.0

#: Why a session ended.
Reason = Literal[
    "closed",
    "idle",
    "expired",
    "cell_timeout",
    "interpreter_died",
    "memory_limit",
    "cpu_limit",
    "disk_limit",
    "pids_limit",
    "output_limit",
    "sandbox_lost",
    "executor_lost",
    "worker_stopped",
    "worker_lost",
    "unknown",
]

#: Those of the platform, which say nothing of the cells.
PLATFORM_REASONS: frozenset[Reason] = frozenset(
    {"sandbox_lost", "executor_lost", "worker_stopped", "worker_lost", "unknown"}
)


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is to be like.

    Attributes:
        tenant: whose it is.
        environment: the image its interpreter runs in.
        isolation: what its sandbox is.
        limits: of the whole session, from its start to its end. ``wall_time_s`` is how long it may
            exist; the processor time is for all cells together.
        files: laid in its working directory before the first cell.
    """

    tenant: str = LOCAL_TENANT
    environment: str = "default"
    isolation: Isolation = "container"
    limits: Limits = Limits()
    files: tuple[SourceFile, ...] = ()


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of code for a session.

    Attributes:
        code: Python.
        timeout_s: seconds after which it is interrupted.
        output_kb: KiB kept of standard output, and the same of standard error.
        output_files: names of regular files to return afterwards.
    """

    code: str
    timeout_s: float = 10.0
    output_kb: int = OUTPUT_KB
    output_files: tuple[str, ...] = ()


class CellError(msgspec.Struct, frozen=True, kw_only=True):
    """What a cell raised.

    Attributes:
        name: of the exception's class.
        value: what the exception says.
        traceback: its lines, as the interpreter prints them.
    """

    name: str
    value: str
    traceback: list[str]


class CellResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a cell.

    Attributes:
        status: ``timeout`` where it was interrupted and the session goes on.
        stdout: text of descriptor 1; bytes that are not UTF-8 are replaced.
        stderr: text of descriptor 2.
        display: what it displayed, in order: content by media type; images in base64.
        error: what it raised; None where it came to its end.
        output_truncated: it wrote or displayed more than was kept.
        files: returned files in base64, by name.
        files_omitted: why others were not returned, by name.
        duration_ms: milliseconds from its start to its end.
    """

    status: Literal["ok", "error", "timeout"]
    stdout: str = ""
    stderr: str = ""
    display: list[dict[str, Any]] = []
    error: CellError | None = None
    output_truncated: bool = False
    files: dict[str, str] = {}
    files_omitted: dict[str, str] = {}
    duration_ms: int = 0
