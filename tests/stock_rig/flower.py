"""A real Flower beside the workers, read over its HTTP API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from crucible.embedded.server import free_port
from stock_rig.child import Child
from stock_rig.environments import NEWEST, process_environment, python_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

READY_DEADLINE_S = 60.0
#: Seconds between two requests to Flower's API, which has no way to wait for changes.
LOOK_EVERY_S = 0.1


class FlowerError(Exception):
    """Flower responded with an error status."""


class Flower(Child):
    """``celery -A <app> flower`` on a free loopback port, ready once entered.

    Attributes:
        version: the Celery environment it runs in: 5.3.6 has Flower 2.0.1, 5.7.0 has 2.2.0.
        url: its URL without a path.
    """

    def __init__(
        self,
        broker_url: str,
        version: str = NEWEST,
        *,
        app: str = "stock_rig.rig_app",
        config: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
    ) -> None:
        """Describe the process; entering starts it. Arguments as those of ``StockWorker``."""
        self.version = version
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        # Without this variable the API requires a login.
        extra = {"FLOWER_UNAUTHENTICATED_API": "true", **(environment or {})}
        super().__init__(
            [
                *(str(python_of(version)), "-m", "celery", "-A", app, "flower"),
                *(f"--port={port}", "--address=127.0.0.1", *arguments),
            ],
            process_environment(broker_url, config=config, extra=extra),
        )
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30))
        try:
            await self.wait_for_log(r"Visit me at|Connected to redis", READY_DEADLINE_S)
            await self.until("/api/workers", lambda _answer: True, READY_DEADLINE_S)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
        await super().__aexit__(exc_type, exc, traceback)

    async def get(self, path: str, **parameters: str) -> Any:
        """The JSON at ``path``, such as ``/api/workers`` with ``refresh="true"``.

        Raises:
            FlowerError: any status but 200.
        """
        assert self._session is not None
        async with self._session.get(self.url + path, params=parameters) as response:
            return await self._content(response)

    async def post(self, path: str, content: Any = None, **parameters: str) -> Any:
        """POST JSON to ``path``, such as ``/api/task/send-task/rig.add``.

        Raises:
            FlowerError: any status but 200.
        """
        assert self._session is not None
        async with self._session.post(self.url + path, json=content, params=parameters) as response:
            return await self._content(response)

    async def page(self, path: str) -> str:
        """The HTML at ``path``, such as ``/worker/<node>``, as a browser would get it."""
        assert self._session is not None
        async with self._session.get(self.url + path) as response:
            text = await response.text()
            if response.status != 200:
                raise FlowerError(f"{response.status} {response.url.path}: {text[:500]}")
            return text

    async def _content(self, response: aiohttp.ClientResponse) -> Any:
        if response.status != 200:
            text = await response.text()
            raise FlowerError(f"{response.status} {response.url.path}: {text[:500]}")
        return await response.json(content_type=None)

    async def until(
        self, path: str, wanted: Callable[[Any], bool], timeout: float = 20.0, **parameters: str
    ) -> Any:
        """Poll ``path`` until a response satisfies ``wanted``; returns it.

        Raises:
            AssertionError: none did within ``timeout`` seconds; has the last one and the log.
        """
        last: Any = None
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        last = await self.get(path, **parameters)
                        if wanted(last):
                            return last
                    except (aiohttp.ClientConnectionError, FlowerError) as error:
                        last = error
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise AssertionError(f"{path} stayed {last!r} for {timeout} s\n{self.log}") from None

    async def until_worker(self, node: str, timeout: float = 20.0) -> dict[str, Any]:
        """Flower's data of worker ``node``, once it has queues and statistics."""
        known: dict[str, Any] = await self.until(
            "/api/workers",
            lambda workers: bool(workers.get(node, {}).get("stats")),
            timeout,
            refresh="true",
        )
        worker: dict[str, Any] = known[node]
        return worker

    async def until_task(
        self, task_id: str, state: str = "SUCCESS", timeout: float = 20.0
    ) -> dict[str, Any]:
        """Flower's data of one task, once it is in ``state``."""
        known: dict[str, Any] = await self.until(
            f"/api/task/info/{task_id}", lambda task: bool(task.get("state") == state), timeout
        )
        return known
