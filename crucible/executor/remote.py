"""Programs sent to executor services: another process, another machine, or several of them.

Each service has a circuit breaker. While it is not closed no program goes there; whether the
service is back is asked in the background, so no program is the one that tries it.

A program goes to another service only while it is certain that it did not start: the connection
was refused, or the service said so with 503. Once it may have started, losing the connection is
an error for the caller, who knows whether running twice matters.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import aiohttp
import msgspec

from crucible.breaker import BreakerState, CircuitBreaker
from crucible.environments import EnvironmentState
from crucible.errors import ExecutorRefused, ExecutorUnavailable
from crucible.executor.admission import compile_limits_of
from crucible.executor.artifact import Compilation, CompiledProgram
from crucible.executor.languages import compiled_language
from crucible.executor.sandbox import ProgramLost
from crucible.executor.service import MSGPACK
from crucible.models import ISOLATIONS, Isolation, Outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.breaker import BreakerPolicy
    from crucible.executor.artifact import Artifact
    from crucible.executor.config import ExecutorConfig
    from crucible.models import Program

log = logging.getLogger(__name__)

#: Seconds past wait and wall limit after which a silent service is given up.
MARGIN_S = 5.0
CONNECT_S = 2.0
#: Seconds a service that could not be reached is not called, unless there is no other.
REST_S = 2.0
#: Seconds a circuit stays open at most: asking a service whether it is back costs no program.
OPEN_S = 1.0
#: Seconds between two looks for circuits that may be tried.
TRIAL_S = 0.25
_OUTCOME = msgspec.msgpack.Decoder(Outcome)
_COMPILATION = msgspec.msgpack.Decoder(Compilation)
_STATES = msgspec.json.Decoder(list[EnvironmentState])
_ISOLATIONS = msgspec.json.Decoder(tuple[Isolation, ...])
_ENCODER = msgspec.msgpack.Encoder()

T = TypeVar("T")


class NotAccepted(ExecutorUnavailable):
    """A service did not start the program."""


class Unreachable(NotAccepted):
    """A service does not answer, or cannot run programs."""


class _Remote:
    """One executor service."""

    def __init__(self, url: str, session: aiohttp.ClientSession, policy: BreakerPolicy) -> None:
        self.url = url
        self.base = "http://executor" if url.startswith("unix:") else url.rstrip("/")
        self.session = session
        self.running = 0
        self.resting_until_s = 0.0
        # A service that is merely busy says so with 503, and that is no failure of it.
        self.breaker = CircuitBreaker(
            f"executor:{_without_credentials(url)}", Unreachable, ProgramLost, policy=policy
        )

    async def ask(
        self, path: str, body: bytes, deadline_s: float, decoder: msgspec.msgpack.Decoder[T]
    ) -> T:
        """Have the service run or compile a program; its answer.

        Raises:
            NotAccepted: it certainly did not start.
            Unreachable: the same, and the service does not answer or its circuit is open.
            ProgramLost: it may have started, and nothing came of it.
            ExecutorRefused: it can never run as asked.
        """
        closed = self.breaker.state is BreakerState.CLOSED
        permit = self.breaker.permit() if closed else None
        if permit is None:
            raise Unreachable(f"{self.url}: failed repeatedly and is not called for now")
        with permit:
            answer = await self._post(path, body, deadline_s)
            try:
                return decoder.decode(answer)
            except msgspec.DecodeError as error:
                raise ProgramLost(f"{self.url}: another kind of answer: {error}") from error

    async def _post(self, path: str, body: bytes, deadline_s: float) -> bytes:
        timeout = aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S)
        try:
            async with self.session.post(
                f"{self.base}/{path}", data=body, headers={"Content-Type": MSGPACK}, timeout=timeout
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"{self.url}: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise ProgramLost(f"{self.url}: {text}") from error
        return _checked(self.url, response.status, answer)

    async def check(self) -> None:
        """Ask whether programs can run there now; a no counts as a failure.

        Raises:
            Unreachable: they cannot.
        """
        try:
            await self._ask()
        except Unreachable:
            closed = self.breaker.state is BreakerState.CLOSED
            # A yes counts for nothing: a service may answer well and lose every program.
            with (self.breaker.permit() if closed else None) or nullcontext():
                raise

    async def try_again(self) -> None:
        """Ask a service whose circuit is half open; it closes or opens by the answer."""
        if self.breaker.state is not BreakerState.HALF_OPEN:
            return
        permit = self.breaker.permit()
        if permit is None:
            return
        try:
            with permit:
                await self._ask()
        except Unreachable as error:
            log.debug("circuit still open: %s", error)

    async def environments(self) -> list[EnvironmentState]:
        """Ask which environments are served there.

        Raises:
            Unreachable: it does not say.
        """
        answer = await self._ask("environments")
        try:
            return _STATES.decode(answer)
        except msgspec.DecodeError as error:
            raise Unreachable(f"{self.url}: not a list of environments: {error}") from error

    async def isolations(self) -> tuple[Isolation, ...]:
        """Ask what programs can have there.

        Raises:
            Unreachable: it does not say.
        """
        answer = await self._ask("isolations")
        try:
            return _ISOLATIONS.decode(answer)
        except msgspec.DecodeError as error:
            raise Unreachable(f"{self.url}: not a list of isolations: {error}") from error

    async def _ask(self, what: str = "ready") -> bytes:
        timeout = aiohttp.ClientTimeout(total=5.0, sock_connect=CONNECT_S)
        try:
            async with self.session.get(f"{self.base}/{what}", timeout=timeout) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise Unreachable(f"{self.url}: {text}") from error
        if response.status != 200:
            raise Unreachable(f"{self.url}: {_detail(answer)}")
        return answer


def _time_of(program: Program) -> float:
    """Seconds that compiling and running a program may take, by its limits."""
    run_s = program.limits.wall_time_s
    language = compiled_language(program.language)
    if language is None:
        return run_s
    # It may wait for a compile of the same that comes to nothing, and then be compiled itself.
    return run_s + 2 * compile_limits_of(program, language).wall_time_s


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _detail(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer, type=dict[str, object])["detail"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return answer[:200].decode("utf-8", "replace")


def _checked(url: str, status: int, answer: bytes) -> bytes:
    if status == 200:
        return answer
    text = f"{url}: {_detail(answer)}"
    if status == 503:
        raise NotAccepted(text)
    if 400 <= status < 500:
        raise ExecutorRefused(text)
    raise ProgramLost(text)


class RemoteExecutor:
    """Runs programs on the least busy of several executor services.

    Attributes:
        breakers: one for each service.
    """

    def __init__(self, remotes: list[_Remote], config: ExecutorConfig) -> None:
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
                remotes.append(_Remote(url, session, policy))
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
        refusal: NotAccepted | None = None
        for remote in self._by_preference():
            remote.running += 1
            try:
                return await remote.ask(path, body, deadline_s, decoder)
            except NotAccepted as error:
                remote.resting_until_s = time.monotonic() + REST_S
                refusal = error
            finally:
                remote.running -= 1
        raise refusal or ExecutorUnavailable("no executor is configured")

    def _by_preference(self) -> list[_Remote]:
        now_s = time.monotonic()
        return sorted(self._remotes, key=lambda r: (r.resting_until_s > now_s, r.running))
