"""An evaluation as Judge0 shows it: its numbers of statuses and languages, its fields. Pure.

The facade answers with it, and callbacks are made of it where the deliveries of webhooks are.
"""

from __future__ import annotations

import base64
import hashlib
import signal
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.evaluation.result import bytes_of
from crucible.models import Evaluation, Status, Verdict
from crucible.webhooks.connector import TOTAL_S as CALLBACK_S
from crucible.webhooks.schedule import RETRIES

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["CALLBACK_S", "CALLBACK_TRIES", "callback_of", "digest_of", "status_of", "submission_of"]
#: Attempts of a callback, each of ``CALLBACK_S`` seconds unless an installation says otherwise.
CALLBACK_TRIES = RETRIES + 1

#: Where a submission's own facts are kept with its evaluation.
METADATA = "judge0"
#: Fields of a submission that are shown where none are named.
FIELDS = ("stdout", "time", "memory", "stderr", "token", "compile_output", "message", "status")

#: Every field that Judge0 has.
ALL_FIELDS = frozenset({
    *FIELDS, "status_id", "language", "language_id", "source_code", "stdin", "expected_output",
    "created_at", "finished_at", "wall_time", "exit_code", "exit_signal", "number_of_runs",
    "cpu_time_limit", "cpu_extra_time", "wall_time_limit", "memory_limit", "stack_limit",
    "max_processes_and_or_threads", "enable_per_process_and_thread_time_limit",
    "enable_per_process_and_thread_memory_limit", "max_file_size", "compiler_options",
    "command_line_arguments", "redirect_stderr_to_stdout", "callback_url", "additional_files",
    "enable_network", "started_at", "queued_at", "updated_at", "queue_host", "execution_host",
})  # fmt: skip

STATUSES = {
    1: "In Queue",
    2: "Processing",
    3: "Accepted",
    4: "Wrong Answer",
    5: "Time Limit Exceeded",
    6: "Compilation Error",
    7: "Runtime Error (SIGSEGV)",
    8: "Runtime Error (SIGXFSZ)",
    9: "Runtime Error (SIGFPE)",
    10: "Runtime Error (SIGABRT)",
    11: "Runtime Error (NZEC)",
    12: "Runtime Error (Other)",
    13: "Internal Error",
    14: "Exec Format Error",
}


COMPILATION_ERROR = 6


class NumberedLanguage(NamedTuple):
    """A language as Judge0 numbers it.

    Attributes:
        name: as it is shown; the version of ours follows.
        ours: our name.
    """

    name: str
    ours: str


#: The numbers that clients have in their code.
LANGUAGES = {
    46: NumberedLanguage("Bash", "bash"),
    50: NumberedLanguage("C", "c"),
    54: NumberedLanguage("C++", "cpp"),
    60: NumberedLanguage("Go", "go"),
    62: NumberedLanguage("Java", "java"),
    63: NumberedLanguage("JavaScript", "javascript"),
    64: NumberedLanguage("Lua", "lua"),
    68: NumberedLanguage("PHP", "php"),
    71: NumberedLanguage("Python", "python"),
    72: NumberedLanguage("Ruby", "ruby"),
    73: NumberedLanguage("Rust", "rust"),
    74: NumberedLanguage("TypeScript", "typescript"),
    85: NumberedLanguage("Perl", "perl"),
}

_SIGNALS: dict[int, int] = {
    signal.SIGSEGV: 7,
    signal.SIGXFSZ: 8,
    signal.SIGFPE: 9,
    signal.SIGABRT: 10,
}


def status_of(found: Evaluation, *, as_expected: bool) -> int:
    """The number of an evaluation's status.

    Args:
        found: the evaluation.
        as_expected: its output is what was expected, or nothing was.
    """
    match found.verdict:
        case None:
            return 1 if found.status == Status.QUEUED else 2
        case Verdict.OK:
            return 3 if as_expected else 4
        case Verdict.TIMEOUT | Verdict.CPU_LIMIT:
            return 5
        case Verdict.COMPILE_ERROR:
            return 6
        case Verdict.OUTPUT_LIMIT | Verdict.DISK_LIMIT:
            return 8
        case Verdict.NONZERO_EXIT:
            return 11
        case Verdict.SIGNALLED:
            return _SIGNALS.get(found.signal or signal.SIGKILL, 12)
        case Verdict.INTERNAL_ERROR | Verdict.CANCELLED | Verdict.EXPIRED:
            return 13
        case _:
            return 12


#: White space, as Ruby strips it from an end.
_SPACE = b"\t\n\v\f\r \0"


def kept_of(found: Evaluation) -> dict[str, Any]:
    """What was kept of a submission with its evaluation; empty of one that came another way."""
    kept = found.metadata.get(METADATA) if isinstance(found.metadata, dict) else None
    return kept if isinstance(kept, dict) else {}


def digest_of(output: bytes) -> str:
    """What is compared of an output: all but white space at the ends of its lines and its own."""
    lines = (line.rstrip(_SPACE) for line in output.split(b"\n"))
    return hashlib.sha256(b"\n".join(lines).rstrip(_SPACE)).hexdigest()


def submission_of(
    found: Evaluation, *, encoded: bool, names: Collection[str] | None = None
) -> dict[str, Any]:
    """What is known of a submission.

    Args:
        found: its evaluation.
        encoded: texts are in base64.
        names: of the fields to show; None for all.

    Raises:
        UnicodeDecodeError: a part to be shown is no text, and they are not.
    """
    kept = kept_of(found)
    stdout = bytes_of(found.output, found.output_encoding)
    stderr = bytes_of(found.error, found.error_encoding)
    if kept.get("merged"):
        stdout, stderr = stdout + stderr, b""
    expected = kept.get("expected")
    number = status_of(found, as_expected=expected is None or expected == digest_of(stdout))
    compiled = found.compile if isinstance(found.compile, msgspec.Struct) else None
    texts = {
        "stdout": stdout,
        "stderr": stderr,
        "compile_output": bytes_of(compiled.error, compiled.error_encoding) if compiled else b"",
        "message": (found.message or "").encode(),
    }
    facts: dict[str, Any] = {
        "token": found.eval_id,
        "status": {"id": number, "description": STATUSES[number]},
        "status_id": number,
        "language_id": kept.get("language_id"),
        "language": _named(kept.get("language_id")),
        "created_at": found.created_at,
        "finished_at": found.finished_at,
        **dict.fromkeys(_OF_A_RUN),
    }
    if number == COMPILATION_ERROR:
        # A compiler that was stopped may have said nothing; why is said here, as there.
        said = texts["compile_output"] or texts["message"]
        texts |= {"stdout": b"", "stderr": b"", "compile_output": said}
    else:
        facts |= _run_of(found)
    shown = facts | {
        name: _part(text, encoded=encoded)
        for name, text in texts.items()
        if names is None or name in names
    }
    return shown if names is None else {name: shown.get(name) for name in names}


#: What there is only of a program that was run.
_OF_A_RUN = ("time", "wall_time", "memory", "exit_code", "exit_signal")


def _run_of(found: Evaluation) -> dict[str, Any]:
    usage = found.usage
    return {
        "time": None if usage is None else f"{usage.cpu_time_ms / 1000:.3f}",
        "wall_time": None if usage is None else f"{usage.wall_time_ms / 1000:.3f}",
        "memory": None if usage is None else usage.memory_peak_kb,
        "exit_code": found.exit_code,
        "exit_signal": found.signal,
    }


def _part(content: bytes, *, encoded: bool) -> str | None:
    if not content:
        return None
    return base64.b64encode(content).decode() if encoded else content.decode()


def callback_of(found: Evaluation) -> bytes | None:
    """The body of a callback, in base64 as Judge0's are; None where none was asked for."""
    if not kept_of(found).get("callback"):
        return None
    return msgspec.json.encode(submission_of(found, encoded=True, names=FIELDS))


def _named(number: Any) -> dict[str, Any] | None:
    known = LANGUAGES.get(number) if isinstance(number, int) else None
    return None if known is None else {"id": number, "name": known.name}
