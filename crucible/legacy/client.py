"""The client of the legacy queue service, for api processes, operators and workers.

The one place where errors of aiohttp are translated: a failed request is a ``LegacyUnavailable``,
and a refusal by the service is the error it named.
"""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec

from crucible.errors import (
    LegacyTaskUnknown,
    LegacyUnavailable,
    LegacyUnreached,
    ResultTimeout,
    SettingsError,
)
from crucible.legacy.problems import error_of
from crucible.legacy.wire import (
    ENDED_STATES,
    RESERVED_ID,
    Drain,
    QueueStats,
    StatusChange,
    Submission,
    TakenTask,
    TaskList,
    TaskResult,
    TaskState,
    TaskView,
    Wanted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from crucible.breaker import Circuit
    from crucible.models import Outcome, Program

#: Seconds one request may take.
DEADLINE_S = 5.0
#: Seconds between two polls for a result: the first and the longest.
POLL_S, POLL_MOST_S = 0.02, 0.5

T = TypeVar("T")


class LegacyClient:
    """A client of one legacy queue service; an async context manager.

    Every method raises ``LegacyUnavailable`` when no usable answer comes in time, and those about
    one task raise ``LegacyTaskUnknown`` when the service has no such task.
    """

    def __init__(self, url: str, *, token: str = "", deadline_s: float = DEADLINE_S) -> None:
        """Prepare a client.

        Args:
            url: base URL of the service, such as ``http://127.0.0.1:8002``.
            token: bearer token, where the service wants one.
            deadline_s: seconds one request may take.

        Raises:
            SettingsError: ``url`` is not an HTTP URL.
        """
        if not url.startswith(("http://", "https://")):
            raise SettingsError("QUEUE_SERVICE_URL", "must start with http:// or https://")
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool; nothing is sent yet."""
        self._session = aiohttp.ClientSession(
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=self._deadline_s),
            connector=aiohttp.TCPConnector(limit=100),
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def submit(self, task_id: str, program: Program) -> TaskView:
        """Put a program in the queue; the same again returns the first.

        Raises:
            ConflictError: the id was used before with another program.
            InputError: the service refused the id or the program.
            LegacyRefused: it is draining or full.
        """
        return await self._call("POST", "/tasks", TaskView, Submission(id=task_id, program=program))

    async def get(self, task_id: str) -> TaskView:
        """Where a task stands."""
        return await self._call("GET", _path(task_id), TaskView)

    async def result(self, task_id: str) -> TaskResult:
        """A task with its outcome, which is None until it has completed."""
        return await self._call("GET", _path(task_id, "/result"), TaskResult)

    async def wait(self, task_id: str, timeout: float) -> TaskResult:
        """Poll until a task has ended, at growing intervals.

        Args:
            task_id: the task.
            timeout: seconds to wait at most.

        Raises:
            ResultTimeout: it had not ended within ``timeout``.
        """
        pause = POLL_S
        try:
            async with asyncio.timeout(timeout):
                while (found := await self.result(task_id)).status not in ENDED_STATES:
                    await asyncio.sleep(pause)
                    pause = min(pause * 1.5, POLL_MOST_S)
                return found
        except TimeoutError:
            raise ResultTimeout(f"{task_id} has not ended within {timeout:g} s") from None

    async def cancel(self, task_id: str) -> TaskView:
        """Cancel a queued task.

        Raises:
            LegacyWrongState: it is running or has ended.
        """
        return await self._call("DELETE", _path(task_id), TaskView)

    async def tasks(self, status: TaskState | None = None, limit: int = 100) -> list[TaskView]:
        """Tasks the service remembers, oldest first."""
        query = {"limit": str(limit)} | ({"status": status.value} if status else {})
        return (await self._call("GET", "/tasks", TaskList, query=query)).tasks

    async def find(self, ids: Sequence[str]) -> list[TaskView]:
        """Those of some tasks, at most 1000, that the service knows."""
        return (await self._call("POST", "/tasks/find", TaskList, Wanted(ids=list(ids)))).tasks

    async def stats(self) -> QueueStats:
        """Depths and totals."""
        return await self._call("GET", "/stats", QueueStats)

    async def drain(self, draining: bool = True) -> None:
        """Refuse new tasks and run the rest, or accept new ones again."""
        await self._call("PUT", "/drain", Drain, Drain(draining=draining))

    async def take(
        self, worker: str, circuits: Mapping[str, Circuit] | None = None
    ) -> TakenTask | None:
        """The oldest queued task, running on this worker now; None when there is none.

        Args:
            worker: who asks.
            circuits: the worker's circuit breakers, by downstream; the queue's stats show them.
        """
        query = {"worker": worker}
        if circuits:
            query["circuits"] = msgspec.json.encode(circuits).decode()
        body = await self._send("GET", "/tasks/next", query=query)
        return self._decode(body, TakenTask) if body else None

    async def finish(self, task_id: str, outcome: Outcome) -> TaskView:
        """Send the outcome of a program.

        Raises:
            LegacyWrongState: the task is not running.
        """
        return await self._call("POST", _path(task_id, "/result"), TaskView, outcome)

    async def fail(self, task_id: str, message: str) -> TaskView:
        """Report that a task could not be run.

        Raises:
            LegacyWrongState: the task is not running.
        """
        change = StatusChange(status="failed", message=message[:2000])
        return await self._call("POST", _path(task_id, "/status"), TaskView, change)

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[T],
        body: object = None,
        query: dict[str, str] | None = None,
    ) -> T:
        return self._decode(await self._send(method, path, body, query), kind)

    async def _send(
        self, method: str, path: str, body: object = None, query: dict[str, str] | None = None
    ) -> bytes:
        if self._session is None:
            raise LegacyUnreached("the client is not open")
        # As a file: aiohttp writes large ones in pieces and warns about large bytes.
        data = io.BytesIO(msgspec.json.encode(body)) if body is not None else None
        headers = {"Content-Type": "application/json"} if data is not None else {}
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=data,
                params=query,
                headers=headers,
                allow_redirects=False,
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = str(error) or type(error).__name__
            unsent = isinstance(
                error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
            )
            kind = LegacyUnreached if unsent else LegacyUnavailable
            raise kind(f"the legacy queue does not answer: {reason}") from error
        if answer.status >= 300:
            raise error_of(answer.status, content)
        return content

    @staticmethod
    def _decode(content: bytes, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise LegacyUnavailable(
                f"the answer of the legacy queue cannot be decoded: {error}"
            ) from error


def _path(task_id: str, below: str = "") -> str:
    """Where a task is; asking for the reserved id would take somebody else's task.

    Raises:
        LegacyTaskUnknown: no task can have this id.
    """
    if task_id in ("", ".", "..", RESERVED_ID):
        raise LegacyTaskUnknown(f"no task can be called {task_id!r}")
    return f"/tasks/{quote(task_id, safe='')}{below}"
