"""Programs sent to executor services: another process, another machine, or several of them.

Each service has a circuit breaker. While it is not closed no program goes there; whether the
service is back is asked in the background, so no program is the one that tries it.

A program goes to another service only while it is certain that it did not start: the connection
was refused, or the service said so with 503. Once it may have started, losing the connection is
an error for the caller, who knows whether running twice matters.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import msgspec

from crucible.errors import ExecutorUnavailable
from crucible.executor.admission import compile_limits_of
from crucible.executor.artifact import Compilation, CompiledProgram
from crucible.executor.languages import compiled_language
from crucible.executor.remote_service import NotAccepted, RemoteService, Unreachable
from crucible.executor.sessions.remote import open_at
from crucible.models import ISOLATIONS, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from crucible.environments import EnvironmentState
    from crucible.executor.artifact import Artifact
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.sessions.models import SessionSpec
    from crucible.executor.sessions.remote import RemoteSession
    from crucible.grading.models import Grading, Judgement
    from crucible.models import Isolation, Program

T = TypeVar("T")

#: Seconds past wait and wall limit after which a silent service is given up.
MARGIN_S = 5.0
#: Seconds a service that could not be reached is not called, unless there is no other.
REST_S = 2.0
#: Seconds a circuit stays open at most: asking a service whether it is back costs no program.
OPEN_S = 1.0
#: Seconds between two looks for circuits that may be tried.
TRIAL_S = 0.25
_ENCODER = msgspec.msgpack.Encoder()
_OUTCOME = msgspec.msgpack.Decoder(Outcome)
_COMPILATION = msgspec.msgpack.Decoder(Compilation)


class RemoteExecutor:
    """Runs programs on the least busy of several executor services.

    Attributes:
        breakers: one for each service.
    """

    def __init__(self, remotes: list[RemoteService], config: ExecutorConfig) -> None:
        self._remotes = remotes
        self._config = config
        self.breakers = [remote.breaker for remote in remotes]

    @classmethod
    @asynccontextmanager
    async def open(cls, config: ExecutorConfig) -> AsyncIterator[RemoteExecutor]:
        """Open sessions with every service; none is contacted yet."""
        headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
        policy = replace(config.breaker, open_s=min(config.breaker.open_s, OPEN_S))
        async with AsyncExitStack() as stack:
            remotes = []
            for url in config.urls:
                connector: aiohttp.BaseConnector
                if url.startswith("unix:"):
                    connector = aiohttp.UnixConnector(url.removeprefix("unix://"), limit=0)
                else:
                    connector = aiohttp.TCPConnector(limit=0)
                session = aiohttp.ClientSession(connector=connector, headers=headers)
                await stack.enter_async_context(session)
                remotes.append(RemoteService(url, session, policy))
            executor = cls(remotes, config)
            trying = asyncio.create_task(executor._keep_trying(), name="crucible-executors")
            try:
                yield executor
            finally:
                trying.cancel()
                await asyncio.gather(trying, return_exceptions=True)

    async def _keep_trying(self) -> None:
        while True:
            await asyncio.sleep(TRIAL_S)
            await asyncio.gather(*(remote.try_again() for remote in self._remotes))

    async def check(self) -> None:
        """Return when at least one service can run programs now.

        Raises:
            ExecutorUnavailable: none can.
        """
        answers = await asyncio.gather(*(r.check() for r in self._remotes), return_exceptions=True)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        if len(errors) == len(self._remotes):
            raise errors[0] if errors else ExecutorUnavailable("no executor is configured")

    async def environments(self) -> list[EnvironmentState]:
        """The environments of the first service that answers: all are to serve the same.

        Raises:
            ExecutorUnavailable: none does.
        """
        refusal: Unreachable | None = None
        for remote in self._by_preference():
            try:
                return await remote.environments()
            except Unreachable as error:
                refusal = error
        raise refusal or ExecutorUnavailable("no executor is configured")

    async def isolations(self) -> tuple[Isolation, ...]:
        """What programs can have on each of the services that answer, whichever gets them.

        Raises:
            ExecutorUnavailable: none answers.
        """
        asked = (remote.isolations() for remote in self._remotes)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, Unreachable):
                raise answer
        able = [set(answer) for answer in answers if isinstance(answer, tuple)]
        if not able:
            raise ExecutorUnavailable("no executor says which isolations it has")
        return tuple(name for name in ISOLATIONS if all(name in one for one in able))

    async def run(self, program: Program, artifact: Artifact | None = None) -> Outcome:
        """Run one program on one of the services.

        Raises:
            ExecutorRefused: it can never run as asked.
            ExecutorUnavailable: no service took it, or the one that did was lost.
        """
        if artifact is None:
            return await self._ask("run", program, _time_of(program), _OUTCOME)
        compiled = CompiledProgram(program=program, artifact=artifact)
        return await self._ask("run/compiled", compiled, program.limits.wall_time_s, _OUTCOME)

    async def compile(self, program: Program) -> Compilation:
        """Compile one program on one of the services; errors as of ``run``."""
        return await self._ask("compile", program, _time_of(program), _COMPILATION)

    async def grade(
        self, grading: Grading, judged: Callable[[Judgement], None]
    ) -> Compilation | None:
        """Grade one program on one of the services; errors as of ``run``."""
        body = _ENCODER.encode(grading)
        deadline_s = self._config.acquire_s + grading.time_s + MARGIN_S
        return await self._on_one(lambda remote: remote.grade(body, deadline_s, judged))

    @asynccontextmanager
    async def open_session(self, spec: SessionSpec) -> AsyncIterator[RemoteSession]:
        """A session of the first service that takes it, ended when the context is left.

        Raises:
            ExecutorRefused: it can never be as asked.
            ExecutorUnavailable: no service takes it.
        """

        async def opened(remote: RemoteService) -> RemoteSession:
            return await stack.enter_async_context(open_at(remote, spec, self._config.acquire_s))

        async with AsyncExitStack() as stack:
            yield await self._on_one(opened)

    async def _ask(
        self,
        path: str,
        asked: Program | CompiledProgram,
        time_s: float,
        decoder: msgspec.msgpack.Decoder[T],
    ) -> T:
        """Have the first service that takes it do something with a program."""
        body = _ENCODER.encode(asked)
        deadline_s = self._config.acquire_s + time_s + MARGIN_S
        return await self._on_one(lambda remote: remote.ask(path, body, deadline_s, decoder))

    async def _on_one(self, call: Callable[[RemoteService], Awaitable[T]]) -> T:
        """Call the services, the best first, until one accepts."""
        refusal: NotAccepted | None = None
        for remote in self._by_preference():
            remote.running += 1
            try:
                return await call(remote)
            except NotAccepted as error:
                remote.resting_until_s = time.monotonic() + REST_S
                refusal = error
            finally:
                remote.running -= 1
        raise refusal or ExecutorUnavailable("no executor is configured")

    def _by_preference(self) -> list[RemoteService]:
        now_s = time.monotonic()
        return sorted(self._remotes, key=lambda r: (r.resting_until_s > now_s, r.running))


def _time_of(program: Program) -> float:
    """Seconds that compiling and running a program may take, by its limits."""
    run_s = program.limits.wall_time_s
    language = compiled_language(program.language)
    if language is None:
        return run_s
    # It may wait for a compile of the same that comes to nothing, and then be compiled itself.
    return run_s + 2 * compile_limits_of(program, language).wall_time_s
