"""An evaluation as Judge0 shows it: its numbers of statuses and languages, its fields. Pure.

The facade answers with it, and callbacks are made of it where the deliveries of webhooks are.
"""

from __future__ import annotations

import base64
import hashlib
import signal
from typing import Any, NamedTuple

import msgspec

from crucible.evaluation.result import bytes_of
from crucible.models import Evaluation, Status, Verdict
from crucible.webhooks.connector import TOTAL_S as CALLBACK_S
from crucible.webhooks.schedule import RETRIES

__all__ = ["CALLBACK_S", "CALLBACK_TRIES", "callback_of", "digest_of", "status_of", "submission_of"]
#: Attempts of a callback, each of ``CALLBACK_S`` seconds unless an installation says otherwise.
CALLBACK_TRIES = RETRIES + 1

#: Where a submission's own facts are kept with its evaluation.
METADATA = "judge0"
#: Fields of a submission that are shown where none are named.
FIELDS = ("stdout", "time", "memory", "stderr", "token", "compile_output", "message", "status")

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


def kept_of(found: Evaluation) -> dict[str, Any]:
    """What was kept of a submission with its evaluation; empty of one that came another way."""
    kept = found.metadata.get(METADATA) if isinstance(found.metadata, dict) else None
    return kept if isinstance(kept, dict) else {}


def digest_of(output: bytes) -> str:
    """What is compared of an output: all but white space at its end."""
    return hashlib.sha256(output.rstrip()).hexdigest()


def submission_of(found: Evaluation, *, encoded: bool) -> dict[str, Any]:
    """Every field of a submission.

    Args:
        found: its evaluation.
        encoded: texts are in base64.

    Raises:
        UnicodeDecodeError: a part is no text, and they are not.
    """

    def part(content: bytes) -> str | None:
        if not content:
            return None
        return base64.b64encode(content).decode() if encoded else content.decode()

    kept = kept_of(found)
    stdout = bytes_of(found.output, found.output_encoding)
    expected = kept.get("expected")
    number = status_of(found, as_expected=expected is None or expected == digest_of(stdout))
    compiled = found.compile if isinstance(found.compile, msgspec.Struct) else None
    said = bytes_of(compiled.error, compiled.error_encoding) if compiled else b""
    usage = found.usage
    stderr = b"" if number == COMPILATION_ERROR else bytes_of(found.error, found.error_encoding)
    return {
        "stdout": part(stdout),
        "time": None if usage is None else f"{usage.cpu_time_ms / 1000:.3f}",
        "wall_time": None if usage is None else f"{usage.wall_time_ms / 1000:.3f}",
        "memory": None if usage is None else usage.memory_peak_kb,
        "stderr": part(stderr),
        "token": found.eval_id,
        "compile_output": part(said),
        "message": part((found.message or "").encode()),
        "status": {"id": number, "description": STATUSES[number]},
        "status_id": number,
        "language_id": kept.get("language_id"),
        "language": _named(kept.get("language_id")),
        "exit_code": found.exit_code,
        "exit_signal": found.signal,
        "created_at": found.created_at,
        "finished_at": found.finished_at,
    }


def callback_of(found: Evaluation) -> bytes | None:
    """The body of a callback, in base64 as Judge0's are; None where none was asked for."""
    if not kept_of(found).get("callback"):
        return None
    everything = submission_of(found, encoded=True)
    return msgspec.json.encode({name: everything[name] for name in FIELDS})


def _named(number: Any) -> dict[str, Any] | None:
    known = LANGUAGES.get(number) if isinstance(number, int) else None
    return None if known is None else {"id": number, "name": known.name}
