"""Comparing an output with the expected answer. Pure, and in memory that does not grow with words.

Whitespace is ASCII's: space, tab, newline, carriage return, vertical tab, form feed.

=========== =====================================================================================
``exact``   the same bytes; ``presentation_error`` where only whitespace between words differs
``trim``    the same lines, whitespace at their ends and blank lines at the end left aside
``tokens``  the same words, whatever whitespace is between them
``float``   the same words, numbers within ``abs`` or ``rel`` of the expected; NaN equals nothing
``sorted``  the same lines in any order, whitespace at their ends and blank lines left aside
=========== =====================================================================================
"""

from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING

from crucible.grading.models import Comparison, Ruling
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_WORD = re.compile(rb"[^ \t\n\r\v\f]+")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
_SPACE = b" \t\n\r\v\f"
#: What ``float`` takes as a number; Python's own reader takes underscores as well.
_NUMBER = re.compile(
    rb"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE
)
#: Characters shown of a word or a line that differs.
_SHOWN = 40


def compare(comparison: Comparison, expected: bytes, output: bytes) -> Ruling:
    """What the output of a test is worth.

    Args:
        comparison: how; its mode is none that needs a checker.
        expected: the answer.
        output: what the program wrote.
    """
    match comparison.mode:
        case "exact":
            return _exact(expected, output)
        case "trim":
            return _by_pairs(_trimmed(expected), _trimmed(output), bytes.__eq__, "line")
        case "tokens":
            return _by_pairs(_words(expected), _words(output), bytes.__eq__, "word")
        case "float":
            return _by_pairs(_words(expected), _words(output), _close(comparison), "word")
        case _:
            return _sorted(expected, output)


def _exact(expected: bytes, output: bytes) -> Ruling:
    if expected == output:
        return Ruling(Verdict.ACCEPTED)
    words = _by_pairs(_words(expected), _words(output), bytes.__eq__, "word")
    if words.verdict is Verdict.ACCEPTED:
        return Ruling(Verdict.PRESENTATION_ERROR, "only whitespace differs")
    return words


def _sorted(expected: bytes, output: bytes) -> Ruling:
    # Most wrong outputs are of another size, which is known before anything is held in memory.
    sizes = [sum(map(len, _full_lines(text))) for text in (expected, output)]
    if sizes[0] == sizes[1]:
        ours, theirs = (sorted(_full_lines(text)) for text in (expected, output))
        if ours == theirs:
            return Ruling(Verdict.ACCEPTED)
    return Ruling(Verdict.WRONG_ANSWER, "the lines are not those expected, in any order")


def _words(text: bytes) -> Iterator[bytes]:
    return (match[0] for match in _WORD.finditer(text))


def _lines(text: bytes) -> Iterator[bytes]:
    return (match[0].rstrip(_SPACE) for match in _LINE.finditer(text))


def _trimmed(text: bytes) -> Iterator[bytes]:
    return _lines(text.rstrip(_SPACE))


def _full_lines(text: bytes) -> Iterator[bytes]:
    return filter(None, _lines(text))


def _by_pairs(
    expected: Iterable[bytes],
    output: Iterable[bytes],
    same: Callable[[bytes, bytes], bool],
    what: str,
) -> Ruling:
    """Compare one by one, up to the first difference."""
    for number, (wanted, seen) in enumerate(itertools.zip_longest(expected, output), start=1):
        if seen is None:
            return Ruling(
                Verdict.WRONG_ANSWER, f"{what} {number}: expected {_shown(wanted)}, found the end"
            )
        if wanted is None:
            return Ruling(
                Verdict.WRONG_ANSWER, f"{what} {number}: expected the end, found {_shown(seen)}"
            )
        if not same(wanted, seen):
            text = f"{what} {number}: expected {_shown(wanted)}, found {_shown(seen)}"
            return Ruling(Verdict.WRONG_ANSWER, text)
    return Ruling(Verdict.ACCEPTED)


def _close(comparison: Comparison) -> Callable[[bytes, bytes], bool]:
    """Whether two words are the same, or numbers that are close enough."""

    def close(wanted: bytes, seen: bytes) -> bool:
        one, other = _number(wanted), _number(seen)
        if one is None or other is None:
            return wanted == seen
        if math.isinf(one) or math.isinf(other):
            return one == other
        return abs(one - other) <= max(comparison.abs, comparison.rel * abs(one))

    return close


def _number(word: bytes) -> float | None:
    return float(word) if _NUMBER.fullmatch(word) else None


def _shown(text: bytes) -> str:
    shown = text[:_SHOWN].decode("utf-8", "replace")
    return repr(shown + "…" if len(text) > _SHOWN else shown)
