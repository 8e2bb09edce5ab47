"""Threads for plain functions.

Nothing can stop a thread. One whose run was ended without it goes on, so each call gets a thread of
its own, idle or new, and waits for no other. They are daemons: the process ends without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from contextvars import Context, copy_context
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Call:
    """One function to be called in a thread, and the future that waits for it."""

    work: Callable[[], Any]
    started: Callable[[], None] | None
    context: Context
    loop: asyncio.AbstractEventLoop
    ended: asyncio.Future[tuple[Any, BaseException | None]]

    def run(self) -> None:
        if self.ended.cancelled():
            return
        if self.started is not None:
            self._schedule(self.started)
        self._schedule(self._resolve, self._call_work())

    def _call_work(self) -> tuple[Any, BaseException | None]:
        try:
            return self.context.run(self.work), None
        except BaseException as error:  # noqa: BLE001 - whatever it raises goes to the caller
            return None, error

    def _resolve(self, returned: tuple[Any, BaseException | None]) -> None:
        if not self.ended.done():
            self.ended.set_result(returned)

    def _schedule(self, callback: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits any more
            self.loop.call_soon_threadsafe(callback, *args)


class Threads:
    """Calls plain functions in threads.

    Args:
        most: threads at once; calls beyond wait. Only functions that never return get there.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    async def call(self, work: Callable[[], Any], started: Callable[[], None] | None = None) -> Any:
        """Call a function in a thread, in a copy of the context; what it returned.

        Cancelled, it returns at once; the function is not called any more, or goes on and what it
        returns is dropped.

        Args:
            work: the function.
            started: called in the loop when it is about to be called.

        Raises:
            RuntimeError: the system gives no more threads.
            BaseException: whatever the function raised.
        """
        loop = asyncio.get_running_loop()
        call = _Call(work, started, copy_context(), loop, loop.create_future())
        self._calls.put(call)
        if not self._idle.acquire(blocking=False):
            try:
                self._grow()
            except RuntimeError:
                call.ended.cancel()  # or a thread that becomes free would still call it
                raise
        value, error = await call.ended
        if error is None:
            return value
        try:
            raise error
        finally:
            del error, call  # or they and this frame would keep each other alive

    def _grow(self) -> None:
        if self._count >= self._most:
            logger.error("%d plain functions do not return; the next has to wait", self._count)
            return
        name = f"crucible-task-{self._count + 1}"
        threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._count += 1

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
            del call  # or it would keep arguments and result until the next
            self._idle.release()

    def close(self) -> None:
        """Let the threads end that are idle, and the others when their functions return."""
        for _ in range(self._count):
            self._calls.put(None)
