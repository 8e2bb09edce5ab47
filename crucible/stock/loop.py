"""An event loop in a thread beside a stock worker's own, for tasks that are coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    from crucible.worker.registry import TaskRegistry

#: Seconds a registry's lifespan may take to open or to close.
LIFESPAN_S = 60.0


class LoopThread:
    """One event loop in its own thread, with a registry's lifespans open on it.

    Started at first use in each process: threads do not survive a fork, so a prefork child cannot
    use its parent's.
    """

    def __init__(self, registry: TaskRegistry) -> None:
        self._registry = registry
        self._starting = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stack = AsyncExitStack()
        self._states: dict[Hashable, Any] = {}

    @property
    def is_open(self) -> bool:
        """Whether this process has started it, as those do that run tasks."""
        return self._loop is not None and self._pid == os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """The coroutine's result, from any thread; an exception here cancels it."""
        loop = self._started()
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            # Celery raises time limits in this thread; the coroutine must stop too.
            future.cancel()
            raise

    def state_of(self, home: Hashable) -> Any:
        """What the registry's lifespan yielded."""
        self._started()
        return self._states[home]

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None or self._pid != os.getpid():
                self._start()
            assert self._loop is not None
            return self._loop

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="crucible-loop", daemon=True)
        thread.start()
        try:
            opening = asyncio.run_coroutine_threadsafe(self._open(), loop)
            self._stack, self._states = opening.result(LIFESPAN_S)
        except BaseException:
            _end(loop, thread)
            raise
        self._loop, self._thread, self._pid = loop, thread, os.getpid()

    async def _open(self) -> tuple[AsyncExitStack, dict[Hashable, Any]]:
        states: dict[Hashable, Any] = {}
        async with AsyncExitStack() as stack:
            for home in self._registry.homes:
                lifespan: Callable[[], Any] | None = home.lifespan
                states[home] = await stack.enter_async_context(lifespan()) if lifespan else None
            return stack.pop_all(), states

    def close(self) -> None:
        """Close the lifespans and stop the thread, if this process started one."""
        with self._starting:
            if self._loop is None or self._thread is None or self._pid != os.getpid():
                return
            closing = asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop)
            try:
                closing.result(LIFESPAN_S)
            finally:
                _end(self._loop, self._thread)
                self._loop = None


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    loop.call_soon_threadsafe(loop.stop)
    thread.join(LIFESPAN_S)
    loop.close()
