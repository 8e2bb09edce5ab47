"""Judge0's numbers: its statuses, its languages. Pure."""

from __future__ import annotations

import signal
from typing import NamedTuple

from crucible.models import Evaluation, Status, Verdict

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

_SIGNALS = {
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
            return _SIGNALS.get(signal.Signals(found.signal or 9), 12)
        case Verdict.INTERNAL_ERROR | Verdict.CANCELLED | Verdict.EXPIRED:
            return 13
        case _:
            return 12
