"""Which queues a named exchange hands a message to, from its bindings as kombu keeps them.

Source: kombu ``transport/redis.py`` ``_queue_bind`` and ``virtual/exchange.py``. A binding is
``<routing key> SEP <pattern> SEP <queue>``; only those of topic exchanges have a pattern.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crucible.redis_keys import SEP

if TYPE_CHECKING:
    from collections.abc import Iterable

#: ``*`` stands for one word, ``#`` for whatever there is between two dots.
_WILDCARDS = {"*": r"[^.]+", "#": r".*?"}
#: More wildcards than this are not matched: the time it takes grows with their power.
_MOST_WILDCARDS = 8


def bound_queues(members: Iterable[bytes], routing_key: str) -> list[str]:
    """The queues bound to ``routing_key``, sorted; members that are no binding are passed over."""
    queues: set[str] = set()
    for member in members:
        parts = member.decode(errors="replace").split(SEP)
        if len(parts) == 3 and parts[2] and _matches(parts[0], parts[1], routing_key):
            queues.add(parts[2])
    return sorted(queues)


def _matches(bound_key: str, pattern: str, routing_key: str) -> bool:
    if not pattern:
        return bound_key == routing_key
    # Made anew from the key: the pattern is an untrusted regular expression.
    words = bound_key.split(".")
    if sum(word in _WILDCARDS for word in words) > _MOST_WILDCARDS:
        return False
    expression = r"\.".join(_WILDCARDS.get(word) or re.escape(word) for word in words)
    return re.fullmatch(expression, routing_key) is not None
