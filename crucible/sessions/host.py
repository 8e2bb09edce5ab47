"""A worker's side of sessions: it opens those that are wanted, and answers calls for its own."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import BrokerError, ExecutorError, ExecutorRefused
from crucible.executor.config import own_name
from crucible.executor.sessions import open_session
from crucible.executor.sessions.live import SessionLost
from crucible.redis_keys import (
    SESSION_ANSWERS_TTL_S,
    SESSION_HOST_TTL_S,
    SESSION_KEPT_TTL_S,
)
from crucible.sessions.wire import (
    TURN_S,
    WAITING_CALLS,
    Answer,
    Close,
    Execute,
    Open,
    Record,
    decode_call,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from crucible.executor import Executor
    from crucible.executor.sessions import Session
    from crucible.executor.sessions.models import Reason
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

#: Seconds of one blocking pop: with room again, wanted sessions are looked for at the next.
POP_S = 1.0
#: Seconds until the queue server is asked again that did not answer.
PAUSE_S = 0.5
#: Seconds that sessions have to end when the worker stops.
CLOSE_S = 5.0


class KeptSession:
    """One session here.

    Attributes:
        session: the interpreter.
        record: what is known of it.
        unanswered: calls that are answered once it has ended.
    """

    def __init__(self, session: Session, record: Record) -> None:
        self.session = session
        self.record = record
        self._calls: asyncio.Queue[tuple[float, Execute]] = asyncio.Queue(WAITING_CALLS)
        self._until_s = time.monotonic() + record.total_s
        self.unanswered: list[Execute | Close] = []

    def take(self, call: Execute) -> bool:
        """Put a call in line; False where too many are."""
        try:
            self._calls.put_nowait((time.monotonic(), call))
        except asyncio.QueueFull:
            return False
        return True

    def left(self) -> list[Execute]:
        """Calls that had no turn."""
        found = []
        while not self._calls.empty():
            found.append(self._calls.get_nowait()[1])
        return found

    async def next_call(self) -> tuple[float, Execute] | None:
        """The next call and when it came; None where the session is to end, or has ended."""
        session = self.session
        getting = asyncio.ensure_future(self._calls.get())
        left_s = self._until_s - time.monotonic()
        try:
            futures: set[asyncio.Future[Any]] = {getting, session.ended}
            await asyncio.wait(
                futures,
                timeout=max(0.0, min(self.record.idle_s, left_s)),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if getting.done():
                return getting.result()
            if not session.ended.done():
                session.end("expired" if left_s <= self.record.idle_s else "idle")
            return None
        finally:
            getting.cancel()


class SessionHost:
    """The sessions of one worker.

    Args:
        executor: has the sandboxes.
        client: of the task queue server.
        keys: key names.
        most: sessions that may be here at once.
    """

    def __init__(self, executor: Executor, client: Redis, keys: Keys, most: int) -> None:
        self._executor = executor
        self._client = client
        self._keys = keys
        self._most = most
        self.name = own_name()
        self._kept: dict[str, KeptSession] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Take calls until cancelled."""
        own = self._keys.session_calls(self.name)
        while True:
            lists = [own]
            if len(self._tasks) < self._most:
                lists.append(self._keys.sessions_wanted)
            try:
                with translated():
                    popped: Any = await self._client.brpop(lists, timeout=POP_S)
            except BrokerError as error:
                log.debug("sessions are not served for a moment: %s", error)
                await asyncio.sleep(PAUSE_S)
                continue
            if popped is not None:
                self._take(popped[1])

    def _take(self, body: bytes) -> None:
        try:
            call = decode_call(body)
        except msgspec.DecodeError as error:
            log.warning("not a call for a session: %s", error)
            return
        match call:
            case Open():
                self._start(self._open(call))
            case Execute():
                kept = self._kept.get(call.session)
                if kept is None:
                    self._start(self._say(call, Answer(call=call.call, lost="unknown")))
                elif not kept.take(call):
                    text = f"{WAITING_CALLS} cells are waiting in this session"
                    self._start(self._say(call, Answer(call=call.call, busy=text)))
            case Close():
                kept = self._kept.get(call.session)
                if kept is None:
                    self._start(self._say(call, Answer(call=call.call, lost="unknown")))
                else:
                    kept.unanswered.append(call)
                    kept.session.end("closed")

    def _start(self, work: Any) -> None:
        task = asyncio.create_task(work, name="crucible-session")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, asked: Open) -> None:
        record = Record(
            id=asked.session,
            tenant=asked.spec.tenant,
            name=asked.name,
            host=self.name,
            status="open",
            environment=asked.spec.environment,
            isolation=asked.spec.isolation,
            created_at=_now(),
            idle_s=asked.idle_s,
            total_s=asked.spec.limits.wall_time_s,
        )
        if not await self._is_wanted(record):
            return
        kept: KeptSession | None = None
        reason: Reason = "sandbox_lost"
        try:
            async with open_session(self._executor, asked.spec) as session:
                kept = self._kept[asked.session] = KeptSession(session, record)
                if await self._is_awaited(record):
                    await self._say(asked, Answer(call=asked.call))
                    await self._answer_calls(kept)
                else:
                    session.end("closed")
                reason = await asyncio.shield(session.ended)
        except ExecutorRefused as error:
            await self._say(asked, Answer(call=asked.call, refused=str(error)))
        except ExecutorError as error:
            if kept is None:
                await self._say(asked, Answer(call=asked.call, busy=str(error)))
        finally:
            self._kept.pop(asked.session, None)
            if kept is not None:
                await self._conclude(kept, reason)

    async def _is_wanted(self, record: Record) -> bool:
        """Whether somebody still waits for a session: reservations expire with the wait.

        By the server's clock, since those of the machines may differ by more than the wait.
        """
        try:
            with translated():
                return bool(await self._client.exists(self._keys.session(record.tenant, record.id)))
        except BrokerError as error:
            log.warning("session %s is not opened: %s", record.id, error)
            return False

    async def _is_awaited(self, record: Record) -> bool:
        """Store that a session is open; False where its reservation was given up meanwhile."""
        key = self._keys.session(record.tenant, record.id)
        left_s = int(record.total_s) + SESSION_KEPT_TTL_S
        try:
            with translated():
                return bool(await self._client.set(key, encode(record), ex=left_s, xx=True))
        except BrokerError as error:
            log.warning("that session %s is open is not stored: %s", record.id, error)
            return False

    async def _answer_calls(self, kept: KeptSession) -> None:
        """Run the cells of a session, one after the other, until it is to end."""
        while not kept.session.ended.done() and (found := await kept.next_call()) is not None:
            came_s, call = found
            if time.monotonic() - came_s > TURN_S:
                text = f"it had no turn within {TURN_S:g} s"
                await self._say(call, Answer(call=call.call, busy=text))
                continue
            try:
                result = await kept.session.execute(call.cell)
            except SessionLost:
                kept.record = _after_cell(kept.record)
                # Answered once the end is stored, so that who hears of it finds it.
                kept.unanswered.append(call)
                return
            kept.record = _after_cell(kept.record)
            await self._say(call, Answer(call=call.call, result=result), kept.record)

    async def _conclude(self, kept: KeptSession, reason: Reason) -> None:
        """Store that a session has ended, and say so to whoever waits for it."""
        record = msgspec.structs.replace(
            kept.record, status="ended", reason=reason, ended_at=_now()
        )
        await self._store(record)
        for waiting in (*kept.unanswered, *kept.left()):
            await self._say(waiting, Answer(call=waiting.call, lost=reason))

    async def _store(self, record: Record) -> None:
        key = self._keys.session(record.tenant, record.id)
        try:
            with translated():
                async with self._client.pipeline(transaction=False) as pipe:
                    pipe.set(key, encode(record), ex=SESSION_KEPT_TTL_S)
                    pipe.zrem(self._keys.sessions_of(record.tenant), record.id)
                    await pipe.execute()
        except BrokerError as error:
            log.warning("the end of session %s is not stored: %s", record.id, error)

    async def _say(
        self, call: Open | Execute | Close, answer: Answer, record: Record | None = None
    ) -> None:
        answers = self._keys.session_answers(call.reply_to)
        try:
            with translated():
                async with self._client.pipeline(transaction=False) as pipe:
                    if record is not None:
                        key = self._keys.session(record.tenant, record.id)
                        left_s = int(record.total_s) + SESSION_KEPT_TTL_S
                        pipe.set(key, encode(record), ex=left_s)
                    pipe.lpush(answers, encode(answer))
                    pipe.expire(answers, SESSION_ANSWERS_TTL_S)
                    await pipe.execute()
        except BrokerError as error:
            log.warning("an answer of session %s is lost: %s", call.session, error)

    async def beat(self) -> None:
        """Say that this worker lives, until cancelled."""
        while True:
            try:
                with translated():
                    key = self._keys.session_host(self.name)
                    await self._client.set(key, len(self._kept), px=int(SESSION_HOST_TTL_S * 1000))
            except BrokerError as error:
                log.debug("no heartbeat for sessions: %s", error)
            await asyncio.sleep(SESSION_HOST_TTL_S / 3)

    async def close(self) -> None:
        """End every session, and say so."""
        for kept in list(self._kept.values()):
            kept.session.end("worker_stopped")
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


def _after_cell(record: Record) -> Record:
    return msgspec.structs.replace(record, cells=record.cells + 1, last_used_at=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@asynccontextmanager
async def serving_sessions(
    executor: Executor, broker_url: str, keys: Keys, most: int
) -> AsyncIterator[None]:
    """Keep sessions while the context is open.

    Args:
        executor: has the sandboxes.
        broker_url: the task queue server.
        keys: key names.
        most: sessions that may be here at once; 0 keeps none.
    """
    if not most:
        yield
        return
    async with open_client(broker_url, name="sessions") as client:
        host = SessionHost(executor, client, keys, most)
        serving = [
            asyncio.create_task(host.beat(), name="crucible-sessions-heartbeat"),
            asyncio.create_task(host.serve(), name="crucible-sessions"),
        ]
        try:
            yield
        finally:
            serving[1].cancel()
            await host.close()
            serving[0].cancel()
            await asyncio.gather(*serving, return_exceptions=True)
