"""Random ids, and the names a process signs its messages with."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from functools import lru_cache
from struct import Struct

#: Ids made from one read of the system's randomness, which costs more than shaping them.
_BATCH = 256
_pool: list[str] = []
_tags: list[str] = []
_GROUPS = Struct("8s4s4s4s12s")
#: The six fixed bits of a version 4 UUID (RFC 9562, 5.4), for all ids of a batch at once.
_FREE = int.from_bytes(bytes.fromhex("ffffffffffff0fff3fffffffffffffff") * _BATCH)
_FIXED = int.from_bytes(bytes.fromhex("00000000000040008000000000000000") * _BATCH)


def _refill() -> str:
    randomness = int.from_bytes(os.urandom(16 * _BATCH))
    digits = (randomness & _FREE | _FIXED).to_bytes(16 * _BATCH).hex().encode()
    # Joined and split as a whole: a batch costs a few calls, not a few for each id.
    _pool.extend(b" ".join(map(b"-".join, _GROUPS.iter_unpack(digits))).decode().split(" "))
    return _pool.pop()


def new_id() -> str:
    """A fresh random UUID (version 4) in its usual text form."""
    try:
        return _pool.pop()
    except IndexError:
        return _refill()


#: The last two digits of the tags of a batch.
_LAST_DIGITS = tuple(f"{number:02x}" for number in range(_BATCH))


def new_tag() -> str:
    """A delivery tag: no other has it, and it looks like a random UUID, as stock's are.

    Nobody has to guess one, so a batch of them shares one id but for its last two digits.
    """
    try:
        return _tags.pop()
    except IndexError:
        shared = new_id()[:-2]
        _tags.extend([shared + digits for digits in _LAST_DIGITS])
        return _tags.pop()


def _forget() -> None:
    _pool.clear()
    _tags.clear()


# A forked child must not use the ids that its parent still holds.
os.register_at_fork(after_in_child=_forget)


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
