"""Confirmation by replicas: what makes a write survive the death of the master.

A replica takes over when the master dies, without the writes that it had not received by then.
``WAIT`` answers how many replicas have all that its own connection wrote, so it is sent on the
connection that carried the flush, after the script or transaction: inside them it does not block.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import msgspec
from redis.exceptions import ResponseError

from crucible.errors import NotReplicated

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from crucible.broker.publishing.group_commit import PublishResult, Write

    Call = Callable[..., Awaitable[Any]]

_log = logging.getLogger(__name__)

#: Seconds of a write's deadline that are left for the answer of ``WAIT`` to arrive.
_MARGIN_S = 0.3


class Replication:
    """Asks after each flush whether enough replicas have it.

    Args:
        replicas: how many have to confirm.
    """

    def __init__(self, replicas: int) -> None:
        self._replicas = replicas

    async def confirm(
        self, call: Call, writes: Sequence[Write], results: Sequence[PublishResult]
    ) -> Sequence[PublishResult]:
        """The results, with ``NotReplicated`` for what too few replicas have.

        Args:
            call: sends one command on the connection that carried the flush, and no other.
            writes: the flush.
            results: of the script or transaction.

        Raises:
            redis.exceptions.RedisError: the connection failed; callers translate.
        """
        depend = [at for at, result in enumerate(results) if _depends(result)]
        if not depend:
            return results
        try:
            if not any(result.pushed for result in results):
                await self._write_again(call, writes[depend[0]], results[depend[0]])
            confirmed = await self._wait(call, writes[0].expires_at)
        except ResponseError as error:
            # The flush is stored: what the server says of a later command says nothing of that.
            _log.warning("replicas cannot be asked: %s", error)
            confirmed = 0
        if confirmed >= self._replicas:
            return results
        lacking = list(results)
        for at in depend:
            # One each: a raised exception collects the frames of every caller that raises it.
            lacking[at] = msgspec.structs.replace(
                results[at],
                pushed=0,
                existing=None,
                error=NotReplicated(confirmed, self._replicas),
            )
        return lacking

    async def _wait(self, call: Call, expires_at: float) -> int:
        left_s = expires_at - asyncio.get_running_loop().time() - _MARGIN_S
        # 0 would be for ever.
        return int(await call("WAIT", self._replicas, max(1, int(left_s * 1000))))

    async def _write_again(self, call: Call, write: Write, result: PublishResult) -> None:
        """Store a record as it is once more, and nothing where it has expired.

        ``WAIT`` looks at what its own connection wrote. A flush that found all of its records in
        place wrote nothing, so its answer would be true of any replica, and whether the record
        itself has arrived there would not be asked.
        """
        assert write.idempotency is not None
        assert result.existing is not None
        await call("SET", write.idempotency.key, result.existing, "XX", "KEEPTTL")


def _depends(result: PublishResult) -> bool:
    """Whether a caller is about to rely on something that is stored."""
    return result.pushed > 0 or result.existing is not None
