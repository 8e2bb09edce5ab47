"""The rules of what a program may look like before a sandbox is spent on it. Pure.

Both the HTTP API, before it queues a program, and the executor, when it is given one, apply them:
a message on a queue may come from any client. With two sets of rules a program that only one of
them accepts would be queued and then end as a platform fault.

Limits have a floor (``models.LIMIT_FLOORS``) as well as a ceiling.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import TYPE_CHECKING

from crucible.errors import InputError
from crucible.executor.served import ServedEnvironments
from crucible.models import LIMIT_FLOORS, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.environments import Environment
    from crucible.executor.languages import Language
    from crucible.models import Program, SourceFile

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
#: What is handed to a program is in its sandbox's memory twice while it is taken in, and so is the
#: sandbox itself. Less than this many bytes fit in whatever may be granted.
SANDBOX_BYTES = 6 << 20
ALWAYS_FITS_BYTES = 1 << 20
#: Files laid beside a program, and files handed back.
MAX_FILES = 64
#: The kernel takes a single argument of 128 KiB, its NUL included, and a quarter of the stack in
#: all. Each argument and each variable is counted with its NUL, so one alone fits as well.
MAX_ARGUMENTS_BYTES = 128 << 10
#: Arguments of a program, and variables of its environment.
MAX_ARGUMENTS = 1000
#: Of a whole path; and the parts it may have.
MAX_NAME_BYTES = 255
MAX_NAME_PARTS = 16
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
#: Taken from the program's reach because they change what starts, not what runs.
_ENV_REFUSED = frozenset({"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH"})
#: Control characters, the newline and NUL among them, and the path separator of elsewhere.
_UNFIT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f\\]")
#: A field named after something a client made up is cut here.
_SHOWN = 40

_DEFAULT_ONLY = ServedEnvironments()


def check_program(
    program: Program,
    ceiling: Limits = CEILING,
    served: ServedEnvironments = _DEFAULT_ONLY,
) -> tuple[Environment, Language]:
    """Refuse what cannot be run as asked.

    Returns:
        What it is to run in.

    Raises:
        InputError: with the path of the first offending field.
    """
    environment, language = served.find(program.language, program.environment)
    check_limits(program.limits, ceiling)
    check_environment(environment, program.limits)
    check_code(program.code)
    check_stdin(len(program.stdin))
    check_arguments(program.args)
    check_env(program.env)
    check_files(program.files, language.file_name)
    check_output_files(program.output_files)
    check_memory(program.limits, program.code, len(program.stdin), program.files)
    return environment, language


def check_environment(environment: Environment, limits: Limits) -> None:
    """Refuse what an environment cannot do.

    Raises:
        InputError: naming the field that asks for it.
    """
    if limits.memory_mb < environment.least_memory_mb:
        least = f"must be at least {environment.least_memory_mb}"
        raise InputError("limits.memory_mb", f"{least} in environment {environment.name!r}")


def check_limits(limits: Limits, ceiling: Limits = CEILING) -> None:
    """Refuse limits that are no numbers, or lie below the floor or above the ceiling.

    Raises:
        InputError: with the path of the first offending limit.
    """
    for name in Limits.__struct_fields__:
        value, least, most = (getattr(which, name) for which in (limits, LIMIT_FLOORS, ceiling))
        field = f"limits.{name}"
        whole = isinstance(least, int)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(field, "must be a number")
        if not math.isfinite(value) or (whole and not isinstance(value, int)):
            raise InputError(field, "must be a whole number" if whole else "must be finite")
        if not least <= value <= most:
            raise InputError(field, f"must be from {least:g} to {most:g}")


def check_memory(limits: Limits, code: str, stdin_bytes: int, files: Sequence[SourceFile]) -> None:
    """Refuse a program whose sandbox has no memory for what it is handed: it could never start.

    Raises:
        InputError: with the least limit that would do.
    """
    size = len(code) + stdin_bytes + sum(len(file.content) for file in files)
    if size < ALWAYS_FITS_BYTES:
        return
    size = _bytes_of(code) + stdin_bytes + sum(map(_file_bytes, files))
    needed_mb = -(-(2 * size + SANDBOX_BYTES) // (1 << 20))
    if limits.memory_mb < needed_mb:
        raise InputError(
            "limits.memory_mb",
            f"must be at least {needed_mb} for {size} bytes of code, standard input and files",
        )


def _file_bytes(file: SourceFile) -> int:
    if file.encoding == "base64":
        return len(file.content) * 3 // 4
    return _bytes_of(file.content)


def check_code(code: str) -> None:
    """Refuse a source text of more than ``MAX_CODE_BYTES``.

    Raises:
        InputError: it is longer.
    """
    _check_size("code", _bytes_of(code), MAX_CODE_BYTES)


def check_stdin(size_bytes: int) -> None:
    """Refuse a standard input of more than ``MAX_STDIN_BYTES``.

    Raises:
        InputError: it is longer.
    """
    _check_size("stdin", size_bytes, MAX_STDIN_BYTES)


def _check_size(field: str, size_bytes: int, most_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise InputError(field, f"must be at most {most_bytes} bytes")


def _bytes_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def check_arguments(args: Sequence[str]) -> None:
    """Refuse arguments that the kernel would not take.

    Raises:
        InputError: too many, too long, or with NUL.
    """
    if len(args) > MAX_ARGUMENTS:
        raise InputError("args", f"must be at most {MAX_ARGUMENTS} arguments")
    for index, argument in enumerate(args):
        if "\0" in argument:
            raise InputError(f"args[{index}]", "must not contain NUL")
    _check_size("args", sum(_bytes_of(arg) + 1 for arg in args), MAX_ARGUMENTS_BYTES)


def check_env(env: Mapping[str, str]) -> None:
    """Refuse variables that the kernel would not take, or that change what starts.

    Raises:
        InputError: too many, too long, with NUL, or with an unfit name.
    """
    if len(env) > MAX_ARGUMENTS:
        raise InputError("env", f"must be at most {MAX_ARGUMENTS} variables")
    for name, value in env.items():
        field = f"env.{name[:_SHOWN]}"
        if not _ENV_NAME.match(name) or name in _ENV_REFUSED:
            raise InputError(field, "is not a name that a program's variable may have")
        if "\0" in value:
            raise InputError(field, "must not contain NUL")
    # With the sign between them, and the NUL.
    size_bytes = sum(len(name) + _bytes_of(value) + 2 for name, value in env.items())
    _check_size("env", size_bytes, MAX_ARGUMENTS_BYTES)


def check_files(files: Sequence[SourceFile], own: str) -> None:
    """Refuse files that cannot all be laid beside a program.

    Args:
        files: what is to be laid there.
        own: name of the program's own file.

    Raises:
        InputError: too many, too large, with a bad name or one that is taken, or no base64.
    """
    if len(files) > MAX_FILES:
        raise InputError("files", f"must be at most {MAX_FILES} files")
    taken, folders = {own}, set[str]()
    for index, file in enumerate(files):
        field = f"files[{index}]"
        check_name(f"{field}.name", file.name)
        if file.name in taken:
            whose = "the program itself" if file.name == own else "another file"
            raise InputError(f"{field}.name", f"is taken by {whose}")
        above = _folders_of(file.name)
        if file.name in folders or not taken.isdisjoint(above):
            raise InputError(f"{field}.name", "a file and a folder have the same name")
        taken.add(file.name)
        folders.update(above)
        if file.encoding == "base64":
            from_base64(f"{field}.content", file.content)
    _check_size("files", sum(_bytes_of(file.content) for file in files), MAX_FILES_BYTES)


def _folders_of(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def from_base64(field: str, text: str) -> bytes:
    """The bytes that a field stands for.

    Raises:
        InputError: it is not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(field, "is not valid base64") from None


def check_output_files(names: Sequence[str]) -> None:
    """Refuse names of files to hand back that no file could have.

    Raises:
        InputError: too many, or a bad name.
    """
    if len(names) > MAX_FILES:
        raise InputError("output_files", f"must be at most {MAX_FILES} names")
    for index, name in enumerate(names):
        check_name(f"output_files[{index}]", name)


def check_name(field: str, name: str) -> None:
    """Refuse a file name that is not a plain path below the working directory.

    Raises:
        InputError: it is absolute, climbs, is too long, or holds control characters.
    """
    try:
        size_bytes = len(name.encode())
    except UnicodeEncodeError:
        raise InputError(field, "is not valid Unicode") from None
    parts = name.split("/")
    if size_bytes > MAX_NAME_BYTES or len(parts) > MAX_NAME_PARTS:
        raise InputError(
            field, f"must be at most {MAX_NAME_BYTES} bytes and {MAX_NAME_PARTS} parts long"
        )
    if any(part in ("", ".", "..") for part in parts):
        raise InputError(field, "must be a relative path without '.', '..' or empty parts")
    if _UNFIT_IN_NAMES.search(name):
        raise InputError(field, "must not contain control characters or backslashes")
