"""A stock Celery client of any version, driven from the test's own event loop."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from crucible.embedded.lifeline import end_with_parent
from stock_rig.environments import process_environment, python_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

#: Seconds a reply may take on top of the timeout of the request itself.
ANSWER_DEADLINE_S = 30.0
#: Longest reply line, bytes.
ANSWER_LIMIT = 32 << 20


class StockClientError(Exception):
    """The call raised in the stock client; the text is ``<class>: <message>``."""


class StockClient:
    """A client process that runs while the context is open; ``client_program`` has its verbs.

    Attributes:
        version: the Celery version it runs, or ``PROJECT``.
    """

    def __init__(
        self,
        version: str,
        broker_url: str,
        *,
        app: str = "stock_rig.rig_app:app",
        backend_url: str | None = None,
        config: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Describe the client; entering starts it. Arguments as those of ``StockWorker``."""
        self.version = version
        self._environment = process_environment(
            broker_url,
            backend_url=backend_url,
            config=config,
            extra={"RIG_APP": app, **(environment or {})},
        )
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            str(python_of(self.version)),
            *("-m", "stock_rig.client_program"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,
            preexec_fn=end_with_parent,
            limit=ANSWER_LIMIT,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()

    async def ask(self, do: str, *, deadline_s: float = ANSWER_DEADLINE_S, **request: Any) -> Any:
        """The reply to one request.

        Raises:
            StockClientError: the call raised in the stock client.
            TimeoutError: no reply within ``deadline_s`` seconds.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn, asyncio.timeout(deadline_s):
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            await self._process.stdin.drain()
            line = await self._process.stdout.readline()
        if not line:
            raise StockClientError(f"the {self.version} client exited: {self._process.returncode}")
        answer = json.loads(line)
        if "error" in answer:
            raise StockClientError(answer["error"])
        return answer["ok"]

    async def send_task(
        self, task: str, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> str:  # fmt: skip
        """``app.send_task``; the task's id. Values as in ``stock_rig.values``."""
        call = {"task": task, "args": list(args), "kwargs": kwargs or {}, "options": options}
        return str((await self.send(call))["id"])

    async def send(self, call: dict[str, Any], via: str = "send_task") -> dict[str, Any]:
        """Publish a call of the golden table; returns the ids of all its parts."""
        sent: dict[str, Any] = await self.ask("send", call=call, via=via)
        return sent

    async def get(self, task_id: str, timeout: float = 10.0) -> Any:
        """``AsyncResult.get``; for a failed task raises StockClientError with its exception."""
        return await self.ask(
            "get", id=task_id, timeout=timeout, deadline_s=timeout + ANSWER_DEADLINE_S
        )

    async def state(self, task_id: str) -> dict[str, Any]:
        """What an ``AsyncResult`` shows without waiting: state, info, worker, children …"""
        shown: dict[str, Any] = await self.ask("state", id=task_id)
        return shown

    async def inspect(
        self,
        method: str,
        *args: Any,
        destination: Sequence[str] | None = None,
        timeout: float = 1.0,
    ) -> Any:
        """``app.control.inspect().<method>(*args)``: replies by node name, or None."""
        return await self.ask(
            "inspect", method=method, args=args, destination=destination, timeout=timeout
        )

    async def control(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """``app.control.<method>(*args, **kwargs)``."""
        return await self.ask("control", method=method, args=args, kwargs=kwargs)

    async def run(self, code: str, given: Any = None) -> Any:
        """Run a snippet with ``app`` and ``given``; returns the value of its ``answer``."""
        return await self.ask("run", code=code, given=given)

    async def versions(self) -> dict[str, str]:
        """The versions of Celery, kombu, redis-py and Python in its environment."""
        installed: dict[str, str] = await self.ask("versions")
        return installed
