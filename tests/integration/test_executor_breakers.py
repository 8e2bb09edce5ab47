"""The circuit breaker before each executor service: when it opens, and what closes it again."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Self

import msgspec
import pytest
from aiohttp import web
from support.migration_rig import until

from crucible.breaker import BreakerPolicy, BreakerState
from crucible.errors import ExecutorUnavailable
from crucible.executor import Executor, ExecutorConfig, circuits_of, open_executor
from crucible.models import Outcome, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HELLO = Program(language="python", code="print(6 * 7)")
#: Two failures open it; it is tried again almost at once.
QUICK = BreakerPolicy(failures=2, open_s=0.05)


class Service:
    """An executor service that fails on command.

    Attributes:
        answer: ``well``, ``busy`` (503), or ``lost``: it takes programs and hangs up.
        programs: how many it was sent.
        asked: how often it was asked whether it is ready.
    """

    def __init__(self) -> None:
        self.answer = "well"
        self.programs = self.asked = 0
        self.url = ""
        self._port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Serve, at the same port as before."""
        app = web.Application()
        app.add_routes([web.post("/run", self._run), web.get("/ready", self._ready)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Refuse connections."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _run(self, request: web.Request) -> web.Response:
        self.programs += 1
        await request.read()
        if self.answer == "busy":
            return web.json_response({"detail": "no room"}, status=503)
        if self.answer == "lost":
            assert request.transport is not None
            request.transport.abort()
        outcome = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"42\n")
        return web.Response(
            body=msgspec.msgpack.encode(outcome), content_type="application/msgpack"
        )

    async def _ready(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({}, status=503 if self.answer == "unready" else 200)


@asynccontextmanager
async def executor_of(*services: Service, policy: BreakerPolicy = QUICK) -> AsyncIterator[Executor]:
    """An executor that sends programs to these."""
    config = ExecutorConfig(urls=tuple(one.url for one in services), breaker=policy)
    async with open_executor(config) as executor:
        yield executor


def state_of(executor: Executor, service: Service) -> BreakerState:
    """Where its circuit stands."""
    return circuits_of(executor)[f"executor:{service.url}"].state


async def failing(executor: Executor) -> None:
    """One program that nobody runs."""
    with pytest.raises(ExecutorUnavailable):
        await executor.run(HELLO)


async def test_a_service_that_is_gone_is_let_alone_and_comes_back_by_itself() -> None:
    """Open after the failures set; closed again by a question, so that no program tries it."""
    async with Service() as service, executor_of(service) as executor:
        await executor.run(HELLO)
        await service.stop()
        for _ in range(2):
            await failing(executor)
        assert state_of(executor, service) is not BreakerState.CLOSED
        with pytest.raises(ExecutorUnavailable, match="not called for now"):
            await executor.run(HELLO)
        await service.start()
        await until(lambda: state_of(executor, service) is BreakerState.CLOSED)
        assert service.programs == 1
        assert service.asked >= 1
        assert (await executor.run(HELLO)).stdout == b"42\n"


async def test_a_service_that_loses_programs_is_let_alone_and_the_other_takes_all() -> None:
    """Programs that were lost count as failures; then every one goes to the healthy service."""
    async with Service() as bad, Service() as good, executor_of(bad, good) as executor:
        bad.answer = "lost"
        # The first of two idle services is asked first.
        for _ in range(2):
            await failing(executor)
        bad.answer = "unready"  # so that the circuit does not close
        for _ in range(5):
            await executor.run(HELLO)
        assert (bad.programs, good.programs) == (2, 5)
        assert state_of(executor, bad) is not BreakerState.CLOSED


async def test_a_busy_service_is_not_at_fault() -> None:
    """503 moves programs on, ever so often, and the circuit stays closed."""
    async with Service() as busy, Service() as other, executor_of(busy, other) as executor:
        busy.answer = "busy"
        await asyncio.gather(*(executor.run(HELLO) for _ in range(20)))
        assert busy.programs >= 2
        assert state_of(executor, busy) is BreakerState.CLOSED
        assert other.programs == 20


async def test_a_service_that_says_it_cannot_run_programs_opens_its_circuit() -> None:
    """The question a worker asks every two seconds counts, so an idle worker finds out, too."""
    async with Service() as service, executor_of(service) as executor:
        service.answer = "unready"
        for _ in range(2):
            with pytest.raises(ExecutorUnavailable):
                await executor.check()
        assert circuits_of(executor)[f"executor:{service.url}"].opened_total >= 1
        service.answer = "well"
        await until(lambda: state_of(executor, service) is BreakerState.CLOSED)


async def test_credentials_in_a_url_are_not_told() -> None:
    """What is shown in /ready and /metrics has no secrets in it."""
    config = ExecutorConfig(urls=("http://me:secret@127.0.0.1:1",))
    async with open_executor(config) as executor:
        assert list(circuits_of(executor)) == ["executor:http://127.0.0.1:1"]
