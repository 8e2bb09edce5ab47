"""The door: what a program may look like before a sandbox is spent on it. Pure.

Limits have a floor as well as a ceiling, because zero means unlimited to somebody. The HTTP door
calls this with a key's ceiling; the executor calls it again with its own, since what arrives over
a queue was not necessarily checked by anybody.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from crucible.errors import InputError
from crucible.executor.languages import LANGUAGES
from crucible.models import Limits

if TYPE_CHECKING:
    from crucible.models import Program

FLOOR = Limits(wall_time_s=0.05, cpu_time_s=0.05, memory_mb=16, pids=1, output_kb=1, disk_mb=1)
CEILING = Limits(
    wall_time_s=600.0,
    cpu_time_s=600.0,
    memory_mb=8192,
    pids=1024,
    output_kb=65536,
    disk_mb=2048,
)
#: Source, standard input and files, each; they are memory here, in the engine and in the sandbox.
MAX_CODE_BYTES = 4 << 20
MAX_STDIN_BYTES = 16 << 20
MAX_FILES_BYTES = 16 << 20
MAX_FILES = 64
#: The kernel takes a single argument of 128 KiB and a quarter of the stack in all.
MAX_ARGUMENTS_BYTES = 128 << 10
MAX_ARGUMENTS = 1024
MAX_NAME_BYTES = 255
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
#: Taken from the program's reach because they change what starts, not what runs.
_ENV_REFUSED = frozenset({"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"})


def check_program(program: Program, ceiling: Limits = CEILING) -> None:
    """Refuse what cannot be run as asked.

    Raises:
        InputError: with the path of the first offending field.
    """
    if program.language not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise InputError("language", f"{program.language[:40]!r} is not one of {known}")
    check_limits(program.limits, ceiling)
    _check_size("code", len(program.code), MAX_CODE_BYTES)
    _check_size("stdin", len(program.stdin), MAX_STDIN_BYTES)
    _check_arguments(program)
    _check_env(program)
    _check_files(program)


def check_limits(limits: Limits, ceiling: Limits = CEILING) -> None:
    """Refuse limits that are no numbers, or lie below the floor or above the ceiling.

    Raises:
        InputError: with the path of the first offending limit.
    """
    for name in Limits.__struct_fields__:
        value, least, most = (getattr(which, name) for which in (limits, FLOOR, ceiling))
        field = f"limits.{name}"
        whole = isinstance(least, int)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(field, "must be a number")
        if not math.isfinite(value) or (whole and not isinstance(value, int)):
            raise InputError(field, "must be a whole number" if whole else "must be finite")
        if not least <= value <= most:
            raise InputError(field, f"must be from {least:g} to {most:g}")


def _check_size(field: str, size: int, most: int) -> None:
    if size > most:
        raise InputError(field, f"must be at most {most} bytes")


def _check_arguments(program: Program) -> None:
    if len(program.args) > MAX_ARGUMENTS:
        raise InputError("args", f"must be at most {MAX_ARGUMENTS} arguments")
    for index, argument in enumerate(program.args):
        if "\0" in argument:
            raise InputError(f"args[{index}]", "must not hold NUL")
    _check_size(
        "args", sum(len(a.encode("utf-8", "replace")) for a in program.args), MAX_ARGUMENTS_BYTES
    )


def _check_env(program: Program) -> None:
    size = 0
    for name, value in program.env.items():
        field = f"env.{name}"
        if not _ENV_NAME.match(name) or name in _ENV_REFUSED:
            raise InputError(field, "is not a name a program may be given")
        if "\0" in value:
            raise InputError(field, "must not hold NUL")
        size += len(name) + len(value.encode("utf-8", "replace"))
    _check_size("env", size, MAX_ARGUMENTS_BYTES)


def _check_files(program: Program) -> None:
    if len(program.files) > MAX_FILES:
        raise InputError("files", f"must be at most {MAX_FILES} files")
    own = LANGUAGES[program.language].file_name
    taken = {own}
    size = 0
    for index, file in enumerate(program.files):
        field = f"files[{index}].name"
        check_name(field, file.name)
        if file.name in taken:
            raise InputError(field, "is taken")
        taken.add(file.name)
        size += len(file.content)
    folders = {
        "/".join(name.split("/")[:n]) for name in taken for n in range(1, name.count("/") + 1)
    }
    if folders & taken:
        raise InputError("files", "a file and a folder have the same name")
    _check_size("files", size, MAX_FILES_BYTES)
    if len(program.output_files) > MAX_FILES:
        raise InputError("output_files", f"must be at most {MAX_FILES} names")
    for index, name in enumerate(program.output_files):
        check_name(f"output_files[{index}]", name)


def check_name(field: str, name: str) -> None:
    """Refuse a file name that is not a plain path below the working directory.

    Raises:
        InputError: it is absolute, climbs, is too long, or holds control characters.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError as error:
        raise InputError(field, "is not valid Unicode") from error
    parts = name.split("/")
    if not raw or len(raw) > MAX_NAME_BYTES or len(parts) > 16:
        raise InputError(field, f"must be 1 to {MAX_NAME_BYTES} bytes and at most 16 folders deep")
    if any(part in ("", ".", "..") for part in parts):
        raise InputError(field, "must be a relative path without '.' or '..'")
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise InputError(field, "must not hold control characters")
