"""Whether a request's pattern names this worker, in a time that the pattern cannot draw out.

Source: kombu ``matcher.py``. A client's regular expression runs on the worker's event loop, and
some double their time with each character; what may be one of those is refused unmatched.
"""

from __future__ import annotations

import math
import re
from fnmatch import fnmatch
from typing import Any

from crucible.errors import MessageError

#: Longest pattern that is matched.
_MAX_PATTERN = 255
#: Ways to share the name among the pattern's repetitions that may be tried: tens of milliseconds.
_MAX_WAYS = 1_000_000
#: Escapes, classes and the openings of groups, whose characters are no repetitions.
_NO_REPETITIONS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?(?:P?<\w+>|P[=>]\w+|<?[=!]|[:>]|[aiLmsu-]+:?)", re.DOTALL
)
_REPEATED_GROUP = re.compile(r"\)[*+{]")
_CHOICES = re.compile(r"[*+?{|]")


def matches(node: str, pattern: Any, matcher: Any) -> bool:
    """Whether a pattern matches a node name.

    Args:
        node: the name.
        pattern: as the request has it.
        matcher: ``glob`` or ``pcre``.

    Raises:
        MessageError: it cannot be matched, or might take too long.
    """
    if not isinstance(pattern, str) or len(pattern) > _MAX_PATTERN:
        raise MessageError("pattern is not a short string")
    if matcher == "glob":
        return fnmatch(node, pattern)
    if matcher != "pcre":
        raise MessageError(f"no matcher {matcher!r}")
    _check_time(node, pattern)
    try:
        return re.match(pattern, node) is not None
    except (re.error, RecursionError, OverflowError) as error:
        raise MessageError(f"bad pattern: {error}") from error


def _check_time(node: str, pattern: str) -> None:
    bare = _NO_REPETITIONS.sub(lambda found: "(" if found[0][0] == "(" else "x", pattern)
    if "(?" in bare:
        raise MessageError("pattern with an extension that is not matched here")
    if _REPEATED_GROUP.search(bare):
        raise MessageError("pattern that repeats a group")
    choices = len(_CHOICES.findall(bare))
    if math.comb(len(node) + choices, choices) > _MAX_WAYS:
        raise MessageError("pattern with too many repetitions")
