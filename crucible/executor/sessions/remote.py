"""A session of an executor service, as its client has it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from crucible.errors import ExecutorUnavailable
from crucible.executor.sessions.live import MARGIN_S, START_S, SessionLost
from crucible.executor.sessions.models import INTERRUPT_S
from crucible.executor.sessions.served import MSGPACK, SIGN_S, Ended, Opened, Ran

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.executor.remote_service import RemoteService
    from crucible.executor.sessions.models import Cell, CellResult, Reason, SessionSpec

#: Seconds without a sign of life after which a service counts as lost.
SILENT_S = 3 * SIGN_S
#: Seconds for a cell's answer to arrive.
ANSWER_S = 10.0


class RemoteSession:
    """A session that is kept elsewhere; it ends with its stream.

    Attributes:
        ended: done once it has ended, with the reason.
    """

    def __init__(self, service: RemoteService, session_id: str) -> None:
        self.ended: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self._service = service
        self._id = session_id
        self._turn = asyncio.Lock()

    async def execute(self, cell: Cell) -> CellResult:
        """Run a cell once those before it are done.

        Raises:
            SessionLost: it has ended, before or because of the cell.
        """
        async with self._turn:
            if self.ended.done():
                raise SessionLost(self.ended.result())
            asking = asyncio.create_task(self._ask(cell))
            try:
                futures: set[asyncio.Future[Any]] = {asking, self.ended}
                await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
                if not asking.done():
                    # It ended for a reason that the stream knows; what the answer says is the same.
                    raise SessionLost(self.ended.result())
                ran = asking.result()
            finally:
                asking.cancel()
        if ran.result is None:
            if ran.lost != "unknown":
                self.end(ran.lost or "executor_lost")
            raise SessionLost(ran.lost or "executor_lost")
        return ran.result

    async def _ask(self, cell: Cell) -> Ran:
        wait_s = cell.timeout_s + INTERRUPT_S + MARGIN_S + ANSWER_S
        try:
            async with self._service.session.post(
                f"{self._service.base}/sessions/{self._id}/execute",
                data=msgspec.msgpack.encode(cell),
                headers={"Content-Type": MSGPACK},
                timeout=aiohttp.ClientTimeout(total=wait_s),
            ) as response:
                body = await response.read()
                if response.status != 200:
                    return Ran(lost="executor_lost")
            return msgspec.msgpack.decode(body, type=Ran)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            return Ran(lost="executor_lost")

    def end(self, reason: Reason) -> None:
        """Have it end, for a reason unless it has one."""
        if not self.ended.done():
            self.ended.set_result(reason)

    async def follow(self, stream: aiohttp.StreamReader) -> None:
        """Read its stream until it ends."""
        reason: Reason = "executor_lost"
        try:
            while line := await stream.readline():
                if line.strip():
                    reason = msgspec.json.decode(line, type=Ended).reason
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
            reason = "executor_lost"
        finally:
            self.end(reason)


@asynccontextmanager
async def open_at(
    service: RemoteService, spec: SessionSpec, acquire_s: float
) -> AsyncIterator[RemoteSession]:
    """A session of a service, ended when the context is left.

    Raises:
        ExecutorRefused: it can never be as asked.
        ExecutorUnavailable: it cannot be had there now.
    """
    body = msgspec.msgpack.encode(spec)
    async with service.stream("sessions", body, SILENT_S + acquire_s + START_S) as response:
        try:
            first = msgspec.json.decode(await response.content.readline(), type=Opened)
        except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
            raise ExecutorUnavailable(f"{service.url}: no session: {error}") from error
        session = RemoteSession(service, first.id)
        following = asyncio.create_task(session.follow(response.content))
        try:
            yield session
        finally:
            session.end("closed")
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
