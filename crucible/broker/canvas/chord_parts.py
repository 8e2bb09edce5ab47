"""Parts of a chord: each counted once; the worker that counts the last one sends the body.

Source: celery 5.7 ``backends/redis.py`` ``on_chord_part_return``; workers of every version count in
the same keys.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.effect_store import ChordState, PartCount
from crucible.broker.results.lookup import read_meta
from crucible.broker.results.meta import FAILURE, REVOKED
from crucible.broker.wire.jsontypes import dumps, loads
from crucible.redis_keys import CHORD_MARK_TTL_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crucible.broker.redis.commands import Commands
    from crucible.broker.redis.effect_store import EffectStore
    from crucible.broker.results.meta import Meta
    from crucible.redis_keys import Keys

#: Longest wait for another worker that holds the dispatch mark. Stock holds it 21 s at most.
_PATIENCE_S = 60.0
#: Seconds between looks at a mark that may go away before its time.
_LOOK_S = 0.5
#: Parts that are read by one command.
_PAGE = 500
#: Member of a failed part's result: the errbacks that were notified of that failure. A chord that
#: is part of another one has the errbacks of the other as well, and each is notified once. Stock
#: passes over it.
NOTIFIED = "crucible_errbacks"


class ChordFailed(Exception):  # noqa: N818 - the state of the chord
    """The header cannot be joined.

    Attributes:
        message: what the body's ChordError says.
        culprit: the failed part's exception as results carry it, or None.
        notified: errbacks that were notified of what its parts failed with.
    """

    def __init__(self, message: str, culprit: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.culprit = culprit
        self.notified: frozenset[str] = frozenset()


@dataclass(slots=True, frozen=True)
class Part:
    """The result of one task of a header.

    Attributes:
        task_id: the task that ended.
        group_id: the chord's id.
        index: its position in the header, None where it has none.
        state: how it ended.
        result: its value, or its exception as results carry it.
    """

    task_id: str
    group_id: str
    index: int | None
    state: str
    result: Any


@dataclass(slots=True, frozen=True)
class CompleteChord:
    """A header that is complete, and whose body is ours to send.

    Attributes:
        token: under which it is ours.
        structure: the header's saved structure, empty where it is flat.
        parts: as stored, in the header's order.
    """

    token: str
    structure: bytes
    parts: Sequence[bytes]

    def values(self) -> list[Any]:
        """What the body is given.

        Raises:
            ChordFailed: a part failed, or cannot be read.
        """
        parts: list[Any] = []
        try:
            parts = [loads(part) for part in self.parts]
            if not self.structure:
                return [_value(part) for part in parts]
            return _nested(loads(self.structure)["result"], {part[1]: part for part in parts})
        except ChordFailed as failed:
            failed.notified = frozenset().union(*map(_notified, parts))
            raise
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise ChordFailed(f"Join error: {error!r}") from error


class ChordParts:
    """Counts parts.

    Args:
        store: atomic operations on the result server.
        keys: key names.
        ttl_s: seconds the keys of a chord are kept, 0 for ever.
        queue: commands on the queue server where that is another.
    """

    def __init__(
        self, store: EffectStore, keys: Keys, ttl_s: int, queue: Commands | None = None
    ) -> None:
        self._store = store
        self._keys = keys
        self._ttl_s = ttl_s
        self._queue = queue

    async def count(self, part: Part, token: str, claim: str) -> CompleteChord | None:
        """Count one part; doing it again is safe.

        Only the owner of the claim counts its part: a worker that was declared dead may have
        another result than the worker that runs the task now. With results on another server
        the claim is looked at just before, not in the same step.

        Args:
            part: the part to count.
            token: who counts; the same when a reply was lost and it is done again.
            claim: field of the claim under which the task ended.

        Returns:
            The header, if this made it complete, or the worker that did has died since; None while
            others are missing, once the body was sent, or when the claim is lost.

        Raises:
            TypeError: the result is of a kind JSON cannot carry.
            BrokerError: it may or may not be counted.
        """
        if self._queue is not None:
            if not await self._queue.command("HEXISTS", self._keys.unacked, claim):
                return None
            claim = ""
        counted = PartCount(
            part.group_id,
            part.task_id,
            dumps([1, part.task_id, part.state, part.result]),
            dumps([1, part.task_id])[:-1] + ",",
            "+inf" if part.index is None else str(part.index),
            token,
            claim,
        )
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE_S
        while True:
            reply = await self._store.count_chord_part(
                self._keys, counted, ttl_s=self._ttl_s, mark_ttl_s=CHORD_MARK_TTL_S
            )
            if reply.state is ChordState.CLAIMED:
                parts = await self._parts(part.group_id, reply.size)
                if len(parts) == reply.size:
                    return CompleteChord(token, reply.structure, parts)
                # Its keys expired meanwhile: it is counted, and looked at, once more.
            elif reply.state is ChordState.TAKEN:
                # The header was complete before: this is a repetition. The worker that holds the
                # mark sends the body, or dies; only then it is ours.
                await asyncio.sleep(min(max(reply.left_ms, 0) / 1000 + 0.01, _LOOK_S))
            else:
                return None
            if loop.time() >= until:
                return None

    async def _parts(self, group_id: str, size: int) -> list[bytes]:
        """The parts of a complete header, in its order, a page at a time.

        They stay where they are: nothing is added to a complete header, and what replaces a part
        begins as it does, so that it takes its place.
        """
        key = self._keys.chord(group_id).parts
        parts: list[bytes] = []
        for start in range(0, size, _PAGE):
            parts += await self._store.command("ZRANGE", key, start, start + _PAGE - 1)
        return parts

    async def metas(self, task_ids: Sequence[str]) -> list[Meta | None]:
        """What is stored of each task, in order. Raises BrokerError."""
        if not task_ids:
            return []
        keys = [self._keys.result(task_id) for task_id in task_ids]
        values = await self._store.command("MGET", *keys)
        return [None if value is None else read_meta(value) for value in values]


def _notified(part: Sequence[Any]) -> frozenset[str]:
    """The errbacks that were notified of a part's failure."""
    result = part[3]
    names = result.get(NOTIFIED) if part[2] == FAILURE and isinstance(result, dict) else None
    return frozenset(map(str, names)) if isinstance(names, list) else frozenset()


def _plain(result: Any) -> Any:
    """A failed part's result without that."""
    if not isinstance(result, dict) or NOTIFIED not in result:
        return result
    return {name: value for name, value in result.items() if name != NOTIFIED}


def _value(part: Sequence[Any]) -> Any:
    _, task_id, state, result = part
    if state in (FAILURE, REVOKED):
        raise ChordFailed(f"Dependency {task_id} raised {shown(result)}", _plain(result))
    return result


def _nested(node: Sequence[Any], parts: Mapping[str, Sequence[Any]]) -> list[Any]:
    """Values in the shape of a saved group: a group in it becomes a list."""
    values = []
    for (task_id, _), children in node[1]:
        if children is not None:
            values.append(_nested([[task_id, None], children], parts))
            continue
        _, _, state, result = parts[task_id]
        if state in (FAILURE, REVOKED):
            raise ChordFailed(f"Join error: {shown(result)}", _plain(result))
        values.append(result)
    return values


def shown(result: Any) -> str:
    """The repr of the exception that a stored result stands for."""
    if not isinstance(result, dict) or "exc_type" not in result:
        return repr(result)
    message = result.get("exc_message")
    arguments = message if isinstance(message, (list, tuple)) else [message]
    name = str(result["exc_type"]).rpartition(".")[2]
    if name == "Reject" and len(arguments) == 2:  # the one of Celery's that shows itself otherwise
        return f"reject requeue={arguments[1]}: {arguments[0]}"
    return f"{name}({', '.join(map(repr, arguments))})"
