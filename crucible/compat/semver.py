"""Ranges of versions as npm's ``semver`` takes them, for versions without a prerelease. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

Numbers = tuple[int, int, int]

_VERSION = re.compile(r"\d+(?:\.\d+){0,2}")
_PART = r"(0|[1-9]\d{0,8}|[xX*])"
_PARTIAL = rf"v?{_PART}(?:\.{_PART}(?:\.{_PART}(?:[-+][0-9A-Za-z.+-]+)?)?)?"
_HYPHEN = re.compile(rf"\s*({_PARTIAL})\s+-\s+({_PARTIAL})\s*")
_COMPARATOR = re.compile(rf"(\^|~>?|[<>]=?|=|)\s*{_PARTIAL}")
#: White space between an operator and its version means nothing.
_GAP = re.compile(r"([\^~<>=])\s+")
#: Characters of a range that are read; what is longer matches nothing.
MAX_RANGE = 256


class _Span(NamedTuple):
    """Versions from ``low`` up to, but without, ``high``; None where nothing bounds them."""

    low: Numbers | None = None
    high: Numbers | None = None

    def has(self, version: Numbers) -> bool:
        return (self.low is None or self.low <= version) and (
            self.high is None or version < self.high
        )


_NOTHING = _Span(high=(0, 0, 0))


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is in a range: ``3``, ``3.x``, ``^3.1``, ``>=3 <4``, ``1 - 3 || 5``.

    Args:
        version: one to three numbers with dots; what follows them does not count.
        wanted: the range; one that cannot be read has no versions in it.
    """
    found = _VERSION.match(version)
    if found is None or len(wanted) > MAX_RANGE:
        return False
    numbers = [int(number) for number in found[0].split(".")]
    own: Numbers = (numbers[0], *([*numbers[1:], 0, 0][:2]))  # type: ignore[assignment]  # three
    choices = [_spans(choice) for choice in wanted.split("||")]
    # One that cannot be read spoils the others, as there.
    if None in choices:
        return False
    return any(all(span.has(own) for span in choice or ()) for choice in choices)


def _spans(choice: str) -> list[_Span] | None:
    """What a version has to be in at once; None where that cannot be read."""
    if hyphen := _HYPHEN.fullmatch(choice):
        low, high = _numbers(*hyphen.group(2, 3, 4)), _numbers(*hyphen.group(6, 7, 8))
        return [_Span(low=_filled(low)), _compared("<=", high)]
    spans = []
    for word in _GAP.sub(r"\1", choice).split():
        comparator = _COMPARATOR.fullmatch(word)
        if comparator is None:
            return None
        operator, *parts = comparator.groups()
        spans.append(_compared(operator, _numbers(*parts)))
    return spans


def _numbers(*parts: str | None) -> tuple[int, ...]:
    """The numbers of a version up to the first that may be any."""
    found: list[int] = []
    for part in parts:
        if part is None or not part.isdigit():
            break
        found.append(int(part))
    return tuple(found)


def _filled(numbers: tuple[int, ...]) -> Numbers:
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return major, minor, patch


def _after(numbers: tuple[int, ...]) -> Numbers | None:
    """The first version behind all that begin with some numbers."""
    return _filled((*numbers[:-1], numbers[-1] + 1)) if numbers else None


def _compared(operator: str, numbers: tuple[int, ...]) -> _Span:
    low, after = _filled(numbers), _after(numbers)
    match operator:
        case ">":
            return _NOTHING if after is None else _Span(low=after)
        case ">=":
            return _Span(low=low)
        case "<":
            return _Span(high=low)
        case "<=":
            return _Span(high=after)
        case "~" | "~>":
            return _Span(low, _after(numbers[:2]))
        case "^":
            # Up to the next change of the first number that is not zero.
            zeros = next((n for n, number in enumerate(numbers) if number), len(numbers) - 1)
            return _Span(low, _after(numbers[: zeros + 1]))
        case _:
            return _Span(low, after)
