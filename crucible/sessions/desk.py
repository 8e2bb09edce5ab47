"""The api's side of sessions: whose there are, and calls to the workers that keep them."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import uuid
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import (
    BrokerError,
    InputError,
    NotFound,
    SessionGone,
    SessionQuota,
    SessionUnavailable,
)
from crucible.executor.sessions.models import INTERRUPT_S
from crucible.redis_keys import SESSION_CALLS_LIMIT, SESSION_CALLS_TTL_S, SESSION_OPENING_TTL_S
from crucible.sessions.wire import (
    OPEN_S,
    TURN_S,
    Answer,
    Close,
    Execute,
    Open,
    Record,
    decode_answer,
    decode_record,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator

    from redis.asyncio import Redis

    from crucible.executor.sessions.models import Cell, CellResult, SessionSpec
    from crucible.redis_keys import Keys

log = logging.getLogger(__name__)

POP_S = 2.0
PAUSE_S = 0.5
#: Seconds between two looks at whether the worker of a session still lives.
LOOK_S = 2.0
#: Seconds past all that a cell may take.
MARGIN_S = 10.0
#: Seconds from a worker's taking a session to its first cell.
STARTING_S = 60.0
#: Seconds that a session has to end when it is closed.
CLOSE_S = 10.0


class SessionDesk:
    """Opens sessions, and asks those that are there.

    Args:
        client: of the task queue server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._called = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def connect(cls, broker_url: str, keys: Keys) -> AsyncIterator[SessionDesk]:
        """Take answers while the context is open."""
        async with open_client(broker_url, name="sessions") as client:
            desk = cls(client, keys)
            hearing = asyncio.create_task(desk._hear(), name="crucible-session-answers")
            try:
                yield desk
            finally:
                hearing.cancel()
                await asyncio.gather(hearing, return_exceptions=True)

    async def _hear(self) -> None:
        answers = self._keys.session_answers(self._name)
        while True:
            # Without a call there is no answer, and the server is left in peace.
            self._called.clear()
            if not self._waiting:
                await self._called.wait()
            try:
                with translated():
                    popped: Any = await self._client.brpop([answers], timeout=POP_S)
                if popped is not None:
                    self._take(popped[1])
            except BrokerError as error:
                log.debug("no answers of sessions for a moment: %s", error)
                await asyncio.sleep(PAUSE_S)

    def _take(self, body: bytes) -> None:
        try:
            answer = decode_answer(body)
        except msgspec.DecodeError as error:
            log.warning("not an answer of a session: %s", error)
            return
        waiter = self._waiting.get(answer.call)
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    async def open(
        self,
        spec: SessionSpec,
        idle_s: float,
        most: int,
        *,
        session_id: str = "",
        name: str = "",
        wait_s: float = OPEN_S,
    ) -> Record:
        """Open a session.

        Args:
            spec: what it is to be like.
            idle_s: seconds without a cell after which it ends.
            most: sessions its tenant may have.
            session_id: its id; a new one by default.
            name: what a facade's client calls it.
            wait_s: seconds to wait for a worker that has room.

        Raises:
            SessionQuota: its tenant has as many.
            SessionUnavailable: no worker has room for it.
            InputError: it can never be as asked.
            BrokerError: the queue server does not answer.
        """
        record = Record(
            id=session_id or f"s_{uuid.uuid4().hex}",
            tenant=spec.tenant,
            name=name,
            environment=spec.environment,
            isolation=spec.isolation,
            created_at=_now(),
            idle_s=idle_s,
            total_s=spec.limits.wall_time_s,
        )
        await self._reserve(record, most, wait_s)
        asked: Open | None = None
        try:
            with self._call() as (number, answer):
                asked = Open(
                    call=number,
                    reply_to=self._name,
                    session=record.id,
                    spec=spec,
                    idle_s=idle_s,
                    name=name,
                )
                await self._push(self._keys.sessions_wanted, asked)
                await asyncio.wait({answer}, timeout=wait_s)
                if not answer.done() and await self._withdrawn(asked):
                    raise SessionUnavailable("no worker has room for another session")
                # A worker has taken it: it is no use to ask another.
                await asyncio.wait({answer}, timeout=STARTING_S)
                if not answer.done():
                    raise SessionUnavailable("a worker took the session and did not open it")
                if answer.result().refused:
                    raise InputError("", answer.result().refused)
                if answer.result().busy:
                    raise SessionUnavailable(answer.result().busy)
        except BaseException:
            if asked is not None:
                await self._withdrawn(asked)
            await self._forget(record)
            raise
        return await self.look_up(record.tenant, record.id)

    async def _withdrawn(self, asked: Open) -> bool:
        """Take a wanted session back; False where a worker has taken it already."""
        with translated():
            removed: Any = await self._client.lrem(self._keys.sessions_wanted, 1, encode(asked))  # type: ignore[arg-type]  # redis-py's
        return bool(removed)

    async def _reserve(self, record: Record, most: int, wait_s: float) -> None:
        """Count a session before it is there, so that two at once cannot both be the last."""
        index = self._keys.sessions_of(record.tenant)
        with translated():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.set(
                    self._keys.session(record.tenant, record.id),
                    encode(record),
                    ex=int(max(SESSION_OPENING_TTL_S, wait_s + STARTING_S + MARGIN_S)),
                )
                pipe.zadd(index, {record.id: time.time()})
                pipe.expire(index, SESSION_CALLS_TTL_S + int(record.total_s))
                await pipe.execute()
        if len(await self.of_tenant(record.tenant)) > most:
            await self._forget(record)
            raise SessionQuota(most)

    async def turn_to_open(self, tenant: str, session_id: str) -> bool:
        """Whether the caller is the one to open a session of a known id; then it has a minute.

        Raises:
            BrokerError: the queue server does not answer.
        """
        key = self._keys.session(tenant, f"{session_id}:opening")
        with translated():
            return bool(await self._client.set(key, self._name, nx=True, ex=SESSION_OPENING_TTL_S))

    async def opened(self, tenant: str, session_id: str) -> None:
        """The turn of ``turn_to_open`` is over.

        Raises:
            BrokerError: the queue server does not answer.
        """
        with translated():
            await self._client.delete(self._keys.session(tenant, f"{session_id}:opening"))

    async def _forget(self, record: Record) -> None:
        """Give a reservation up; a worker that opened the session already is to end it.

        One that has not yet finds no reservation, and ends it by itself.
        """
        key = self._keys.session(record.tenant, record.id)
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.get(key)
                pipe.delete(key)
                pipe.zrem(self._keys.sessions_of(record.tenant), record.id)
                stored, *_ = await pipe.execute()
        opened = _decoded(stored)
        if opened is not None and opened.host:
            number = next(self._numbers)
            await self._push(
                self._keys.session_calls(opened.host),
                Close(call=number, reply_to=self._name, session=record.id),
            )

    async def of_tenant(self, tenant: str) -> list[Record]:
        """The sessions of a tenant that have not ended, the oldest first.

        Raises:
            BrokerError: the queue server does not answer.
        """
        index = self._keys.sessions_of(tenant)
        with translated():
            found: Any = await self._client.zrange(index, 0, -1)
            ids = [name.decode() for name in found]
            stored: Any = (
                await self._client.mget([self._keys.session(tenant, one) for one in ids])
                if ids
                else []
            )
        records = [_decoded(value) for value in stored]
        alive = await self._alive(one.host for one in records if one is not None and one.host)
        open_: list[Record] = []
        gone = []
        for session_id, record in zip(ids, records, strict=True):
            if record is None or record.status == "ended" or _is_lost(record, alive):
                gone.append(session_id)
            else:
                open_.append(record)
        if gone:
            with translated():
                await self._client.zrem(index, *gone)
        return open_

    async def look_up(self, tenant: str, session_id: str) -> Record:
        """What is known of a session; of one that has ended for an hour.

        Raises:
            NotFound: its tenant has none with this id.
            BrokerError: the queue server does not answer.
        """
        with translated():
            stored = await self._client.get(self._keys.session(tenant, session_id))
        record = _decoded(stored)
        if record is None:
            raise NotFound(f"no session has the id {session_id!r}")
        if record.status == "open" and _is_lost(record, await self._alive([record.host])):
            return msgspec.structs.replace(record, status="ended", reason="worker_lost")
        return record

    async def execute(self, tenant: str, session_id: str, cell: Cell) -> CellResult:
        """Run a cell in a session, once those before it are done.

        Raises:
            NotFound: its tenant has none with this id.
            SessionGone: it has ended, before or because of the cell.
            SessionUnavailable: too many cells wait for it.
            BrokerError: the queue server does not answer.
        """
        record = await self._open_one(tenant, session_id)
        with self._call() as (number, answer):
            asked = Execute(call=number, reply_to=self._name, session=session_id, cell=cell)
            await self._push(self._keys.session_calls(record.host), asked)
            wait_s = TURN_S + cell.timeout_s + INTERRUPT_S + MARGIN_S
            await self._wait(record, answer, wait_s)
            if not answer.done():
                # What became of the cell is not known: this session is of no use any more.
                await self._push(
                    self._keys.session_calls(record.host),
                    Close(call=number, reply_to=self._name, session=session_id),
                )
                raise SessionGone("worker_lost")
            said = answer.result()
        if said.busy:
            raise SessionUnavailable(said.busy)
        if said.result is None:
            raise SessionGone(await self._reason(tenant, session_id, said))
        return said.result

    async def close(self, tenant: str, session_id: str) -> Record:
        """End a session; one that has ended stays as it is.

        Raises:
            NotFound: its tenant has none with this id.
            BrokerError: the queue server does not answer.
        """
        try:
            record = await self._open_one(tenant, session_id)
        except SessionGone:
            return await self.look_up(tenant, session_id)
        with self._call() as (number, answer):
            asked = Close(call=number, reply_to=self._name, session=session_id)
            await self._push(self._keys.session_calls(record.host), asked)
            await self._wait(record, answer, CLOSE_S)
        return await self.look_up(tenant, session_id)

    async def _open_one(self, tenant: str, session_id: str) -> Record:
        record = await self.look_up(tenant, session_id)
        if record.status == "ended":
            raise SessionGone(record.reason or "unknown")
        if not record.host:
            raise SessionUnavailable("the session is not open yet")
        return record

    async def _reason(self, tenant: str, session_id: str, said: Answer) -> str:
        if said.lost != "unknown":
            return said.lost or "unknown"
        # It ended a moment before the call came: its record says why.
        return (await self.look_up(tenant, session_id)).reason or "unknown"

    async def _wait(self, record: Record, answer: asyncio.Future[Answer], wait_s: float) -> None:
        """Wait for an answer as long as there is somebody to give it.

        Raises:
            SessionGone: the worker is lost.
        """
        until_s = time.monotonic() + wait_s
        while (left_s := until_s - time.monotonic()) > 0:
            await asyncio.wait({answer}, timeout=min(LOOK_S, left_s))
            if answer.done():
                return
            if _is_lost(record, await self._alive([record.host])):
                raise SessionGone("worker_lost")

    async def _alive(self, hosts: Iterable[str]) -> set[str]:
        """Those of the workers that give signs of life."""
        names = sorted(set(hosts))
        if not names:
            return set()
        with translated():
            stored: Any = await self._client.mget([self._keys.session_host(one) for one in names])
        return {name for name, value in zip(names, stored, strict=True) if value is not None}

    async def _push(self, key: str, call: Open | Execute | Close) -> None:
        with translated():
            if int(await self._client.llen(key)) >= SESSION_CALLS_LIMIT:
                raise SessionUnavailable("too many calls are waiting")
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.lpush(key, encode(call))
                pipe.expire(key, SESSION_CALLS_TTL_S)
                await pipe.execute()

    @contextmanager
    def _call(self) -> Iterator[tuple[int, asyncio.Future[Answer]]]:
        """A number for a call, and its answer to come while the context is open."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._called.set()
        try:
            yield number, future
        finally:
            del self._waiting[number]


def _is_lost(record: Record, alive: set[str]) -> bool:
    return bool(record.host) and record.host not in alive


def _decoded(stored: Any) -> Record | None:
    try:
        return None if stored is None else decode_record(stored)
    except msgspec.DecodeError:
        return None  # of another version


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
