"""Waiting for results by push: one subscription a process, any number of waiters.

A result is published on the channel named like its key, in the same transaction that stores it.
The order that leaves no gap: subscribe, see it confirmed, look once, then wait. A message lost
with a link is found by the look after the reconnect, and by a look every few seconds anyway.

A short program ends sooner than all of that takes, so what is not urgent is done for many at once:
for a task that is sent only after the subscription, the look, and for whoever has left, the end of
the subscription. Each was a round trip for every task.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from crucible.broker.outage import Outage
from crucible.broker.redis.link import pack
from crucible.broker.redis.translation import FOREIGN, translate
from crucible.broker.results.lookup import BATCH, read_meta
from crucible.errors import BrokerError, BrokerUnavailable, ResultTimeout

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from redis.asyncio.connection import AbstractConnection

    from crucible.broker.redis.link import Link
    from crucible.broker.results.lookup import Lookup
    from crucible.broker.results.meta import Meta
    from crucible.redis_keys import Keys


#: Seconds between looks at everything waited for, in case a publication was lost with a link.
SAFETY_LOOK_S = 3.0
#: Seconds until tasks that were sent after the subscription are looked at: only where the server
#: took the submission first, and its result as well, is there anything to find.
LATE_LOOK_S = 0.1
#: Seconds until a subscription ends that nobody needs, should none begin before.
_LINGER_S = 0.1
#: Seconds between PINGs on the subscription.
PING_S = 2.0
#: Seconds without any answer, to a PING too, after which the subscription is opened anew.
SILENCE_S = 5.0
#: Seconds to wait before connecting again: the first time, and at most.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Waiter:
    """Delivers results as they are published. Open it with ``async with``.

    Nothing is connected before the first wait.
    """

    def __init__(self, link: Link, lookup: Lookup, keys: Keys) -> None:
        self._link = link
        self._lookup = lookup
        self._prefix = keys.result("")
        self._waiting: dict[str, set[asyncio.Future[Meta]]] = {}
        #: Ids whose subscription may have to change, and ids to look at.
        self._changed: set[str] = set()
        self._to_look: set[str] = set()
        self._subscribed: set[str] = set()
        #: Ids subscribed before they were sent: not confirmed yet, and confirmed and not looked at.
        self._unsent: set[str] = set()
        self._late: set[str] = set()
        #: What is to happen a little later, by what does it.
        self._timers: dict[Callable[[], None], asyncio.TimerHandle] = {}
        self._change = asyncio.Event()
        self._look = asyncio.Event()
        self._heard_at = 0.0
        self._outage = Outage("ends of tasks are not heard of, who waits for one waits on")
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for timer in self._timers.values():
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(BrokerUnavailable("the publisher was closed"))

    async def wait(self, task_id: str, timeout: float) -> Meta:
        """The last state of a task, as soon as it is stored.

        Args:
            task_id: whose.
            timeout: seconds.

        Raises:
            ResultTimeout: it did not end in time, or the server could not be asked.
            BrokerUnavailable: closed meanwhile.
        """
        with self._joined(task_id) as coming:
            if task_id in self._unsent or task_id in self._late:
                # Another is sending it just now; this one may ask for what has ended long ago.
                self._unsent.discard(task_id)
                self._late.discard(task_id)
                self._look_at([task_id])
            try:
                async with asyncio.timeout(timeout):
                    return await coming
            except TimeoutError:
                raise ResultTimeout(f"task {task_id} did not end within {timeout} s") from None

    @contextmanager
    def expecting(self, task_id: str) -> Iterator[asyncio.Future[Meta]]:
        """Listen for a task's last state while the context lasts, from before it is sent.

        Subscribing then happens beside the sending and not after it.

        Raises:
            BrokerUnavailable: closed.
        """
        if task_id not in self._waiting and task_id not in self._subscribed:
            self._unsent.add(task_id)
        with self._joined(task_id) as future:
            yield future

    @contextmanager
    def _joined(self, task_id: str) -> Iterator[asyncio.Future[Meta]]:
        if self._closed:
            raise BrokerUnavailable("the publisher is closed")
        future = self._join(task_id)
        try:
            yield future
        finally:
            self._leave(task_id, future)

    def _join(self, task_id: str) -> asyncio.Future[Meta]:
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._stay_subscribed(), name="crucible-waiter"),
                asyncio.create_task(self._keep_looking(), name="crucible-waiter-look"),
            ]
        future: asyncio.Future[Meta] = asyncio.get_running_loop().create_future()
        futures = self._waiting.get(task_id)
        if futures is None:
            self._waiting[task_id] = {future}
            self._changed.add(task_id)
            self._change.set()
        else:
            futures.add(future)
        return future

    def _leave(self, task_id: str, future: asyncio.Future[Meta]) -> None:
        futures = self._waiting.get(task_id)
        if futures is None:
            return
        futures.discard(future)
        if not futures:
            self._drop(task_id)

    def _drop(self, task_id: str) -> None:
        del self._waiting[task_id]
        self._unsent.discard(task_id)
        self._late.discard(task_id)
        self._changed.add(task_id)
        self._soon(_LINGER_S, self._change.set)

    def _soon(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do something in a while, once for all who ask meanwhile."""
        if action not in self._timers:

            def act() -> None:
                del self._timers[action]
                action()

            self._timers[action] = asyncio.get_running_loop().call_later(delay_s, act)

    def _deliver(self, task_id: str, meta: Meta) -> None:
        futures = self._waiting.get(task_id)
        if futures is None or not meta.ready:
            return
        self._drop(task_id)
        for future in futures:
            if not future.done():
                future.set_result(meta)

    # The subscription

    async def _stay_subscribed(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            started = asyncio.get_running_loop().time()
            try:
                async with self._link.connection(patient=False) as held:
                    await self._serve(held)
            except FOREIGN as error:
                self._outage.failed(translate(error))
            self._subscribed.clear()
            if asyncio.get_running_loop().time() - started > _LONGEST_PAUSE_S:
                pause_s = _FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _serve(self, held: AbstractConnection) -> None:
        """Run one connection until it breaks; everything waited for is subscribed anew."""
        self._subscribed.clear()
        # Those that were sent meanwhile may have ended unheard.
        self._unsent.clear()
        self._changed = set(self._waiting)
        self._change.set()
        self._heard_at = asyncio.get_running_loop().time()
        both = [asyncio.create_task(self._read(held)), asyncio.create_task(self._write(held))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
            # Subscribed, it must not go back to the pool for commands.
            await held.disconnect(nowait=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _write(self, held: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(PING_S):
                    await self._change.wait()
            except TimeoutError:
                if loop.time() - self._heard_at > SILENCE_S:
                    raise ConnectionError("no answer to PING") from None
                await held.send_command("PING", check_health=False)
                continue
            self._change.clear()
            changed, self._changed = self._changed, set()
            joined = [task_id for task_id in changed if task_id in self._waiting]
            new = [task_id for task_id in joined if task_id not in self._subscribed]
            # Subscribed still, for one who left: what came in between was not kept for this one.
            self._look_at([task_id for task_id in joined if task_id in self._subscribed])
            left = [i for i in changed if i not in self._waiting and i in self._subscribed]
            self._subscribed.update(new)
            self._subscribed.difference_update(left)
            commands = [*self._packed("SUBSCRIBE", new), *self._packed("UNSUBSCRIBE", left)]
            if commands:
                await held.send_packed_command(b"".join(commands), check_health=False)

    def _packed(self, command: str, task_ids: Sequence[str]) -> Iterator[bytes]:
        for start in range(0, len(task_ids), BATCH):
            channels = [self._prefix + task_id for task_id in task_ids[start : start + BATCH]]
            yield pack([command, *channels])

    async def _read(self, held: AbstractConnection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            answer: Any = await held.read_response(timeout=math.inf)
            self._heard_at = loop.time()
            self._outage.succeeded()
            if not isinstance(answer, list):
                continue
            kind, channel = answer[0], answer[1]
            if kind == b"message":
                self._published(channel, answer[2])
            elif kind == b"subscribe":
                self._confirmed(channel.decode().removeprefix(self._prefix))

    def _confirmed(self, task_id: str) -> None:
        """The server sends what is published from now on."""
        if task_id in self._unsent:
            self._unsent.discard(task_id)
            self._late.add(task_id)
            self._soon(LATE_LOOK_S, self._look_at_late)
        else:
            self._look_at([task_id])

    def _published(self, channel: bytes, raw: bytes) -> None:
        meta = read_meta(raw)
        if meta is not None:
            self._deliver(channel.decode().removeprefix(self._prefix), meta)

    # Looking

    def _look_at_late(self) -> None:
        late, self._late = self._late, set()
        self._look_at(late)

    def _look_at(self, task_ids: Collection[str]) -> None:
        if task_ids:
            self._to_look.update(task_ids)
            self._look.set()

    async def _keep_looking(self) -> None:
        """Look at what was just subscribed, and every few seconds at everything."""
        now = asyncio.get_running_loop().time
        safety_at = now() + SAFETY_LOOK_S
        while True:
            # Not counted from the last look: new waiters may come more often than that.
            with suppress(TimeoutError):
                async with asyncio.timeout_at(safety_at):
                    await self._look.wait()
            if now() >= safety_at:
                safety_at = now() + SAFETY_LOOK_S
                self._to_look.update(self._waiting)
            self._look.clear()
            looked_at, self._to_look = self._to_look, set()
            wanted = [task_id for task_id in looked_at if task_id in self._waiting]
            try:
                metas = await self._lookup.metas(wanted)
            except BrokerError as error:
                # The next safety look covers them.
                self._outage.failed(error)
                await asyncio.sleep(_LONGEST_PAUSE_S)
                continue
            for task_id, meta in zip(wanted, metas, strict=True):
                if meta is not None:
                    self._deliver(task_id, meta)
