"""Group commit: what waits is sent together, one round trip for all of it.

Callers append a write and wait for its result. One task takes all that piled up while the flush
before was under way. A write is plain data; the ``Sender`` decides how it reaches the server:
``lua_sender.py``, or ``transaction_sender.py`` without scripts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from crucible.broker.outage import Outage
from crucible.broker.publishing.quota import QuotaState  # noqa: TC001 - msgspec reads annotations
from crucible.errors import BrokerError, BrokerUnavailable, MemoryFull, NothingStored, NotPermitted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.publishing.quota import Quota

_log = logging.getLogger(__name__)

#: Bounds of one flush; a single write larger than the bytes goes alone.
MAX_FLUSH_MESSAGES = 1000
MAX_FLUSH_BYTES = 2 * 1024 * 1024
#: A write with less time than this before its deadline is refused: sent, its caller would give up
#: without knowing whether it arrived.
_TOO_LATE_S = 0.05
_TOO_LATE = "the queue server did not answer in time"


class IdempotencyRecord(msgspec.Struct, frozen=True, gc=False):
    """Makes a publication happen once, however often it is repeated.

    Attributes:
        key: full name of its Redis key.
        value: what the key holds, and what a repetition is given.
        ttl_s: seconds it is kept.
    """

    key: str
    value: bytes
    ttl_s: float

    @property
    def ttl_ms(self) -> int:
        """Milliseconds it is kept, at least one."""
        return max(1, int(self.ttl_s * 1000))


class PublishCallback(Protocol):
    """Receives the result of a write; ``asyncio.Future[PublishResult]`` is one."""

    def done(self) -> bool:
        """Whether nobody waits any more; a write that was not sent by then is dropped."""

    def set_result(self, result: PublishResult, /) -> None:
        """Receive it. Called within the flush, so it must be quick."""

    def set_exception(self, error: BrokerError, /) -> None:
        """The same, where the flush as a whole failed."""


class Write(msgspec.Struct, eq=False):
    """Messages for one list, and the callback for their result.

    Attributes:
        queue: the queue's name without any prefix.
        list_key: the list they are pushed to.
        messages: encoded, in the order they are to be served.
        idempotency: for a single message only.
        callback: receives the result.
        expires_at: loop time by which the result is due.
        size: bytes of all messages.
        quota: bounds it; only with an idempotency record.
    """

    queue: str
    list_key: str
    messages: Sequence[bytes]
    idempotency: IdempotencyRecord | None
    callback: PublishCallback
    expires_at: float
    size: int
    quota: Quota | None = None


class PublishResult(msgspec.Struct, frozen=True):
    """The result of a write.

    Attributes:
        pushed: messages now in the list.
        existing: the value of the idempotency record that was there; nothing was pushed then.
        error: why not all were pushed.
        quota: what is left of the quota, where one bounds it.
    """

    pushed: int = 0
    existing: bytes | None = None
    error: BrokerError | None = None
    quota: QuotaState | None = None


class Sender(Protocol):
    """Sends one flush."""

    @property
    def reached(self) -> bool:
        """The server may have got something of the flush under way, or of the last one."""

    async def send(self, writes: Sequence[Write]) -> Sequence[PublishResult]:
        """One result a write. Raises BrokerError when the flush as a whole failed."""


class PublishHook(Protocol):
    """Observes flushes, for metrics and tracing."""

    def flushed(self, messages: int, size_bytes: int, took_s: float, *, failed: bool) -> None:
        """One flush ended.

        Args:
            messages: that were in it.
            size_bytes: of them.
            took_s: seconds from sending to the reply, or to giving up.
            failed: the flush as a whole; messages refused one by one do not count.
        """


class GroupCommit:
    """Collects writes and flushes them. Open it with ``async with``."""

    def __init__(self, sender: Sender, deadline_s: float, hook: PublishHook | None = None) -> None:
        self._sender = sender
        self._deadline_s = deadline_s
        self._hook = hook
        self._waiting: deque[Write] = deque()
        self._flusher: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop
        self._closed = False
        self._outage = Outage("messages cannot be sent, and whoever sends one is told so")

    async def __aenter__(self) -> Self:
        # Asked for once: in Python 3.11 each question is a system call (getpid).
        self._loop = asyncio.get_running_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let what waits be sent, within the deadline it has anyway."""
        self._closed = True
        flusher = self._flusher
        if flusher is not None:
            # Each write keeps its own deadline, so this ends within the latest of them.
            await asyncio.wait([flusher], timeout=2 * self._deadline_s)
            flusher.cancel()
            await asyncio.gather(flusher, return_exceptions=True)
        self._refuse_waiting("the publisher was closed")

    def add(
        self,
        queue: str,
        list_key: str,
        messages: Sequence[bytes],
        idempotency: IdempotencyRecord | None = None,
        quota: Quota | None = None,
    ) -> asyncio.Future[PublishResult]:
        """Queue a write for the next flush.

        Raises:
            BrokerUnavailable: the group commit is closed.
        """
        done: asyncio.Future[PublishResult] = self._loop.create_future()
        self.put(queue, list_key, messages, idempotency, done, quota)
        return done

    def put(
        self,
        queue: str,
        list_key: str,
        messages: Sequence[bytes],
        idempotency: IdempotencyRecord | None,
        callback: PublishCallback,
        quota: Quota | None = None,
    ) -> None:
        """Queue a write for the next flush, whose result ``callback`` receives.

        Raises:
            BrokerUnavailable: the group commit is closed.
        """
        if self._closed:
            raise NothingStored("the publisher is closed")
        expires_at = self._loop.time() + self._deadline_s
        size = len(messages[0]) if len(messages) == 1 else sum(map(len, messages))
        self._waiting.append(
            Write(queue, list_key, messages, idempotency, callback, expires_at, size, quota)
        )
        if self._flusher is None:
            self._flusher = self._loop.create_task(self._flush_all(), name="crucible-group-commit")

    async def _flush_all(self) -> None:
        try:
            while self._waiting:
                writes = self._take()
                if writes:
                    await self._flush(writes)
        finally:
            # No await between the last look at what waits and this: nothing can slip through.
            self._flusher = None

    def _take(self) -> list[Write]:
        """The next flush, without those whose caller went away or whose time is up."""
        now = self._loop.time()
        taken: list[Write] = []
        count = size = 0
        while self._waiting:
            write = self._waiting[0]
            if taken and (
                count + len(write.messages) > MAX_FLUSH_MESSAGES
                or size + write.size > MAX_FLUSH_BYTES
            ):
                break
            self._waiting.popleft()
            if write.callback.done():
                continue
            if write.expires_at - now < _TOO_LATE_S:
                _notify(write.callback, NothingStored(_TOO_LATE))
                continue
            taken.append(write)
            count += len(write.messages)
            size += write.size
        return taken

    async def _flush(self, writes: Sequence[Write]) -> None:
        clock = self._loop.time
        started = clock()
        results = await self._send(writes)
        if self._hook is not None:
            count, size = sum(len(w.messages) for w in writes), sum(w.size for w in writes)
            self._hook.flushed(count, size, clock() - started, failed=results is None)
        if results is not None:
            for write, result in zip(writes, results, strict=True):
                _notify(write.callback, result)

    async def _send(self, writes: Sequence[Write]) -> Sequence[PublishResult] | None:
        """The results; None when the flush failed, which all its callbacks know then."""
        try:
            async with asyncio.timeout_at(writes[0].expires_at):
                results = await self._sender.send(writes)
        except TimeoutError:
            late = BrokerUnavailable(_TOO_LATE)
            self._outage.failed(late)
            self._fail_flush(writes, late)
            # What waited behind this flush would only wait for the same server again.
            self._refuse_waiting(_TOO_LATE)
        except BrokerError as error:
            if isinstance(error, BrokerUnavailable):
                self._outage.failed(error)
            self._fail_flush(writes, error)
        except asyncio.CancelledError:
            self._fail_flush(writes, BrokerUnavailable("the publisher was closed"))
            raise
        except Exception as error:  # noqa: BLE001 - supervision, see below
            # A defect of our own: its callers must learn of it, and the next flush must run.
            _log.exception("a flush of %d writes failed", len(writes))
            _fail(writes, BrokerError(f"publishing failed: {error!r}"))
        else:
            # A server that stores nothing refuses each write by itself: the first tells of all.
            if isinstance(refusal := results[0].error, BrokerUnavailable):
                self._outage.failed(refusal)
            else:
                self._outage.succeeded()
            return results
        return None

    def _fail_flush(self, writes: Sequence[Write], error: BrokerError) -> None:
        """Report a flush that failed; a server that never got any of it stored nothing."""
        if isinstance(error, BrokerUnavailable) and not self._sender.reached:
            unsent = NothingStored(str(error))
            unsent.__cause__ = error.__cause__
            error = unsent
        _fail(writes, error)

    def _refuse_waiting(self, text: str) -> None:
        _fail(self._waiting, NothingStored(text))
        self._waiting.clear()


def _notify(callback: PublishCallback, result: PublishResult | BrokerError) -> None:
    if callback.done():
        return
    try:
        if isinstance(result, PublishResult):
            callback.set_result(result)
        else:
            callback.set_exception(result)
    except Exception:  # noqa: BLE001 - supervision: the other callbacks of the flush must run too
        _log.exception("the callback of a write failed: %r", callback)


def _fail(writes: Sequence[Write] | deque[Write], error: BrokerError) -> None:
    for write in writes:
        # One each: a raised exception collects the frames of every caller that raises it.
        _notify(write.callback, _copy(error))


def _copy(error: BrokerError) -> BrokerError:
    kinds = (MemoryFull, NotPermitted, NothingStored, BrokerUnavailable)
    kind = next((kind for kind in kinds if isinstance(error, kind)), BrokerError)
    copied = kind(str(error))
    copied.__cause__ = error.__cause__
    return copied
