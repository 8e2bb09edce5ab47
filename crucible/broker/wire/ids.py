"""Random ids, and the names a process signs its messages with."""

from __future__ import annotations

import os
import re
import socket
import threading
import uuid
from functools import lru_cache

#: Ids made from one read of the system's randomness, which costs more than shaping them.
_BATCH = 256
_pool: list[str] = []
_GROUPS = re.compile(r"(.{8})(.{4})(.{4})(.{4})(.{12})")
#: The six fixed bits of a version 4 UUID (RFC 9562, 5.4), for all ids of a batch at once.
_FREE = int.from_bytes(bytes.fromhex("ffffffffffff0fff3fffffffffffffff") * _BATCH)
_FIXED = int.from_bytes(bytes.fromhex("00000000000040008000000000000000") * _BATCH)


def _refill() -> str:
    randomness = int.from_bytes(os.urandom(16 * _BATCH))
    digits = f"{randomness & _FREE | _FIXED:0{32 * _BATCH}x}"
    _pool.extend(map("-".join, _GROUPS.findall(digits)))
    return _pool.pop()


def new_id() -> str:
    """A fresh random UUID (version 4) in its usual text form."""
    try:
        return _pool.pop()
    except IndexError:
        return _refill()


# A forked child must not use the ids that its parent still holds.
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
