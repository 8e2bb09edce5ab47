"""Transactions of redis-py that watch keys."""

from __future__ import annotations

from typing import Any

from redis.exceptions import WatchError

from crucible.broker.redis.translation import broken_off


async def executed(pipe: Any) -> list[Any] | None:
    """The replies of a transaction; None where another change came before, so nothing was done.

    redis-py says both with one error: that others have changed what is watched, and that the
    connection has broken off. In the second case nobody knows whether it was done, and what is done
    again may find its own change.

    Args:
        pipe: a pipeline that watches keys, with the commands of the transaction.

    Raises:
        RedisError: the connection has broken off, or the server refuses.
        OSError: likewise.
    """
    try:
        replies: list[Any] = await pipe.execute()
    except WatchError as error:
        cause = broken_off(error)
    else:
        return replies
    if cause is None:
        return None
    # Outside of the block above: else each of the two would be the other's context.
    raise cause
