"""Group commit: what waits is sent together, one round trip for all of it.

Callers append a write and wait for its outcome. One task takes all that piled up while the flush
before was under way. A write is plain data; how it reaches the server is the ``Sender``'s matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from crucible.errors import BrokerError, BrokerUnavailable, NothingStored

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

#: Bounds of one flush; a single write larger than the bytes goes alone.
MAX_FLUSH_MESSAGES = 1000
MAX_FLUSH_BYTES = 2 * 1024 * 1024
#: Less time than this before its deadline, and a write is refused instead of sent into doubt.
_TOO_LATE_S = 0.05
_TOO_LATE = "the queue server did not answer in time"


class Once(msgspec.Struct, frozen=True):
    """Makes a publication happen once.

    Attributes:
        key: full name of the Redis key that remembers it.
        value: what the key holds, and what a repetition is handed.
        ttl_s: seconds it is remembered.
    """

    key: str
    value: bytes
    ttl_s: float


class Told(Protocol):
    """Who waits for a write; a future of its outcome is one."""

    def done(self) -> bool:
        """Nobody waits any more; a write that was not sent by then is not."""

    def set_result(self, outcome: Outcome, /) -> None:
        """What became of it. Called within the flush, so it must be quick."""

    def set_exception(self, error: BrokerError, /) -> None:
        """The same, where the flush as a whole failed."""


class Write:
    """Messages for one list, and who waits for them.

    Attributes:
        queue: the queue's name without any prefix.
        list_key: the list they are pushed to.
        messages: encoded, in the order they are to be served.
        once: for a single message only.
        done: the outcome, for whoever waits.
        expires_at: loop time by which the outcome is due.
        size: bytes of all messages.
    """

    __slots__ = ("done", "expires_at", "list_key", "messages", "once", "queue", "size")

    def __init__(
        self,
        queue: str,
        list_key: str,
        messages: Sequence[bytes],
        once: Once | None,
        done: Told,
        expires_at: float,
    ) -> None:
        self.queue = queue
        self.list_key = list_key
        self.messages = messages
        self.once = once
        self.done = done
        self.expires_at = expires_at
        self.size = len(messages[0]) if len(messages) == 1 else sum(map(len, messages))


class Outcome(msgspec.Struct, frozen=True):
    """What became of a write.

    Attributes:
        pushed: messages now in the list.
        existing: the value found under the once key; nothing was pushed then.
        error: why not all were pushed.
    """

    pushed: int = 0
    existing: bytes | None = None
    error: BrokerError | None = None


class Sender(Protocol):
    """Sends one flush."""

    @property
    def reached(self) -> bool:
        """The server may have got something of the flush under way, or of the last one."""

    async def send(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """One outcome a write. Raises BrokerError when the flush as a whole failed."""


class PublishHook(Protocol):
    """Told about every flush; metrics and tracing hang on here."""

    def flushed(self, messages: int, size_bytes: int, took_s: float, *, failed: bool) -> None:
        """One flush ended.

        Args:
            messages: that were in it.
            size_bytes: of them.
            took_s: seconds from sending to the answer, or to giving up.
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
        self, queue: str, list_key: str, messages: Sequence[bytes], once: Once | None = None
    ) -> asyncio.Future[Outcome]:
        """Queue a write for the next flush.

        Raises:
            BrokerUnavailable: the outbox is closed.
        """
        done: asyncio.Future[Outcome] = self._loop.create_future()
        self.put(queue, list_key, messages, once, done)
        return done

    def put(
        self,
        queue: str,
        list_key: str,
        messages: Sequence[bytes],
        once: Once | None,
        told: Told,
    ) -> None:
        """Queue a write for the next flush, and say who is to be told its outcome.

        Raises:
            BrokerUnavailable: the outbox is closed.
        """
        if self._closed:
            raise NothingStored("the publisher is closed")
        expires_at = self._loop.time() + self._deadline_s
        self._waiting.append(Write(queue, list_key, messages, once, told, expires_at))
        if self._flusher is None:
            self._flusher = self._loop.create_task(self._flush_all(), name="crucible-outbox")

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
            if write.done.done():
                continue
            if write.expires_at - now < _TOO_LATE_S:
                _tell(write.done, NothingStored(_TOO_LATE))
                continue
            taken.append(write)
            count += len(write.messages)
            size += write.size
        return taken

    async def _flush(self, writes: Sequence[Write]) -> None:
        clock = self._loop.time
        started = clock()
        outcomes = await self._outcomes(writes)
        if self._hook is not None:
            count, size = sum(len(w.messages) for w in writes), sum(w.size for w in writes)
            self._hook.flushed(count, size, clock() - started, failed=outcomes is None)
        if outcomes is not None:
            for write, outcome in zip(writes, outcomes, strict=True):
                _tell(write.done, outcome)

    async def _outcomes(self, writes: Sequence[Write]) -> Sequence[Outcome] | None:
        """What the sender says; None when it failed, which all who wait were told then."""
        try:
            async with asyncio.timeout_at(writes[0].expires_at):
                return await self._sender.send(writes)
        except TimeoutError:
            self._fail_flush(writes, BrokerUnavailable(_TOO_LATE))
            # They waited behind a server that does not answer; another wait would not help them.
            self._refuse_waiting(_TOO_LATE)
        except BrokerError as error:
            self._fail_flush(writes, error)
        except asyncio.CancelledError:
            self._fail_flush(writes, BrokerUnavailable("the publisher was closed"))
            raise
        except Exception as error:  # noqa: BLE001 - supervision, see below
            # A defect of our own: whoever waits must learn of it, and the next flush must run.
            _log.exception("a flush of %d writes failed", len(writes))
            _fail(writes, BrokerError(f"publishing failed: {error!r}"))
        return None

    def _fail_flush(self, writes: Sequence[Write], error: BrokerError) -> None:
        """Tell of a flush that failed; a server that never got any of it stored nothing."""
        if isinstance(error, BrokerUnavailable) and not self._sender.reached:
            unsent = NothingStored(str(error))
            unsent.__cause__ = error.__cause__
            error = unsent
        _fail(writes, error)

    def _refuse_waiting(self, text: str) -> None:
        _fail(self._waiting, NothingStored(text))
        self._waiting.clear()


def _tell(told: Told, outcome: Outcome | BrokerError) -> None:
    if told.done():
        return
    try:
        if isinstance(outcome, Outcome):
            told.set_result(outcome)
        else:
            told.set_exception(outcome)
    except Exception:  # noqa: BLE001 - supervision: the others of the flush must be told too
        _log.exception("%r could not be told the outcome of its write", told)


def _fail(writes: Sequence[Write] | deque[Write], error: BrokerError) -> None:
    for write in writes:
        # Each its own: a raised exception collects the frames of whoever raises it.
        _tell(write.done, _copy(error))


def _copy(error: BrokerError) -> BrokerError:
    kinds = (NothingStored, BrokerUnavailable)
    kind = next((kind for kind in kinds if isinstance(error, kind)), BrokerError)
    copied = kind(str(error))
    copied.__cause__ = error.__cause__
    return copied
