"""Random ids, and the names a process signs its messages with."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from functools import lru_cache

#: Ids made from one read of the system's randomness, which costs more than shaping them.
_BATCH = 256
_pool: list[str] = []
#: Two bits of the digit are fixed, two are random (RFC 9562, 4.1).
_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def _refill() -> str:
    digits = os.urandom(16 * _BATCH).hex()
    made = [_shape(digits[start : start + 32]) for start in range(0, len(digits), 32)]
    last = made.pop()
    _pool.extend(made)
    return last


def _shape(digits: str) -> str:
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def new_id() -> str:
    """A fresh random UUID (version 4) in its usual text form."""
    try:
        return _pool.pop()
    except IndexError:
        return _refill()


# A child must not hand out the ids its parent still holds.
os.register_at_fork(after_in_child=_pool.clear)


def default_origin() -> str:
    """``gen<pid>@<host>``, what stock Celery writes as ``origin``."""
    return _origin(os.getpid())


@lru_cache(maxsize=4)
def _origin(pid: int) -> str:
    return f"gen{pid}@{socket.gethostname()}"


def default_reply_to() -> str:
    """A UUID that is stable for this process; stock Celery derives one from the thread too.

    Only ``rpc://`` result backends look at it.
    """
    return _reply_to(os.getpid(), threading.get_ident())


@lru_cache(maxsize=64)
def _reply_to(pid: int, thread: int) -> str:
    return str(uuid.uuid3(uuid.NAMESPACE_OID, f"{uuid.getnode():x}-{pid:x}-{thread:x}"))
