"""The one place that knows what errors of redis-py, sockets and servers mean.

A server says in the first word of an error what is the matter. redis-py takes that word off where
it has a class for it. An error inside a script has a place in front of it, and up to Redis 6.2 the
word comes after a text of its own: ``Error running script (call to f_…): @user_script:12:
@user_script: 12: -OOM command not allowed …``, which a script sees as ``@user_script: 12: -OOM …``.
redis-py puts the command with its arguments in front of an error of a pipeline: ``Command # 1 (SET
key value) of pipeline caused error: ('MISCONF Errors writing …',)``. Those may be a secret, and are
taken off.
"""

from __future__ import annotations

import ast
import asyncio
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from redis import exceptions as redis_errors

from crucible.errors import BrokerError, BrokerUnavailable, MemoryFull, NothingStored, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Everything ``translate`` is for.
FOREIGN = (redis_errors.RedisError, OSError, asyncio.TimeoutError)
#: States in which a server runs no command that writes, whatever the command is. All of them are
#: found out before the first write of a script or transaction, so nothing of it was done.
STATES = {
    "BUSY": "it runs a script that does not end",
    "CLUSTERDOWN": "its cluster is down",
    "CROSSSLOT": "it is in cluster mode, which is not supported",
    "ASK": "it is in cluster mode, which is not supported",
    "DENIED": "it is in protected mode",
    "LOADING": "it is reading its file",
    "MASTERDOWN": "it is a replica without its master",
    "MISCONF": "it cannot write to its disk",
    "MOVED": "it is in cluster mode, which is not supported",
    "NOAUTH": "it wants a password",
    "NOPERM": "its ACL does not let this user do it",
    "NOREPLICAS": "too few replicas follow it",
    "OOM": "its memory is full",
    "READONLY": "it is a replica",
    "TRYAGAIN": "its cluster is moving keys",
    "UNBLOCKED": "it has broken off what waits there",
    "WRONGPASS": "it refuses the password",
}
#: Words that redis-py took off.
_BY_CLASS: dict[type[Exception], str] = {
    redis_errors.AuthenticationError: "WRONGPASS",
    redis_errors.BusyLoadingError: "LOADING",
    redis_errors.ClusterCrossSlotError: "CROSSSLOT",
    redis_errors.ClusterDownError: "CLUSTERDOWN",
    redis_errors.MasterDownError: "MASTERDOWN",
    redis_errors.NoPermissionError: "NOPERM",
    redis_errors.OutOfMemoryError: "OOM",
    redis_errors.ReadOnlyError: "READONLY",
    redis_errors.TryAgainError: "TRYAGAIN",
}
#: Errors that come without such a word, or with ERR.
_BY_TEXT = (
    # Inside scripts up to Redis 7.0.
    ("The user executing the script can't", "NOPERM"),
    ("ACL failure in script", "NOPERM"),
    ("non local key in a cluster node", "CROSSSLOT"),
    ("Keys in request don't hash to the same slot", "CROSSSLOT"),
    ("invalid password", "WRONGPASS"),
)
_WRAPPED = re.compile(r"(?:^|: )-([A-Z]+) (.*)", re.DOTALL)
_LEADING = re.compile(r"-?([A-Z]{2,}) (.*)", re.DOTALL)
#: Greedy: an argument of the command may read like this too, and comes before.
_OF_PIPELINE = re.compile(r"Command # \d+ \(.*\) of pipeline caused error: (.*)", re.DOTALL)


def state_of(error: Exception) -> str:
    """The state of the server that an error tells of, such as ``OOM``; empty for any other."""
    return _read(error)[0]


def translate(error: Exception) -> BrokerError:
    """What an error of redis-py, a socket or a deadline means to a caller."""
    error = broken_off(error) or error
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, redis_errors.TimeoutError)):
        if (refusal := _refusal_before(error)) is not None:
            return BrokerUnavailable(f"the queue server is not available: {refusal}")
        return BrokerUnavailable("the queue server did not answer in time")
    state, text = _read(error)
    if state == "OOM":
        return MemoryFull(f"the memory of the queue server is full: {state} {text}")
    if state:
        kind = NotPermitted if state == "NOPERM" else NothingStored
        return kind(f"the queue server is not available, {STATES[state]}: {state} {text}")
    if isinstance(error, (redis_errors.ConnectionError, OSError)):
        return BrokerUnavailable(f"the queue server is not available: {text}")
    return BrokerError(f"the queue server refused: {text}")


def broken_off(error: Exception) -> Exception | None:
    """What broke the connection of a transaction that watched keys.

    redis-py says so with a ``WatchError`` as where others have changed them; what really happened
    is its context, such as a deadline, a reset, or a server that has begun to load its file. None
    for any other error.
    """
    if isinstance(error, redis_errors.WatchError) and not error.__suppress_context__:
        cause = error.__context__
        if isinstance(cause, FOREIGN):
            return cause
    return None


def _refusal_before(error: BaseException) -> redis_errors.ConnectionError | None:
    """The failure to connect that was being waited out when a deadline passed; None for silence."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, redis_errors.ConnectionError):
        cause = cause.__cause__ or cause.__context__
    return cause


@contextmanager
def translated() -> Iterator[None]:
    """Turns what redis-py raises inside into the errors of ``crucible.errors``.

    Raises:
        BrokerUnavailable: no reply in time, or a server that cannot serve now.
        BrokerError: the server refused the command itself.
    """
    try:
        yield
    except FOREIGN as error:
        raise translate(error) from error


def _read(error: Exception) -> tuple[str, str]:
    """State and text; the state is empty where the error is about the command itself."""
    text = _said(str(error)) or type(error).__name__
    if (found := _WRAPPED.search(text) or _LEADING.match(text)) and found[1] in STATES:
        return found[1], found[2]
    word = getattr(error, "status_code", None) or _BY_CLASS.get(type(error), "")
    if word in STATES:
        return word, text
    for part, state in _BY_TEXT:
        if part in text:
            return state, text
    return "", text


def _said(text: str) -> str:
    """What the server said, without the command of a pipeline that it was said about."""
    if (found := _OF_PIPELINE.fullmatch(text)) is None:
        return text
    try:
        # The error's arguments, as Python writes a tuple.
        said = ast.literal_eval(found[1])
    except (SyntaxError, ValueError):
        return found[1]
    return str(*said[:1]) if isinstance(said, tuple) else found[1]
