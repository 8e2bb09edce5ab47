"""One executor service, as its client: what its answers mean, and when it is not called."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, NoReturn, TypeVar

import aiohttp
import msgspec

from crucible.breaker import BreakerState, CircuitBreaker
from crucible.environments import EnvironmentState
from crucible.errors import ExecutorRefused, ExecutorUnavailable
from crucible.executor.grading.stream import Ended, MessageReader, StreamError
from crucible.executor.sandbox import ProgramLost
from crucible.executor.service import MSGPACK
from crucible.models import Isolation
from crucible.tracing import TRACEPARENT, current

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from crucible.breaker import BreakerPolicy
    from crucible.executor.artifact import Compilation
    from crucible.grading.models import Judgement

log = logging.getLogger(__name__)

CONNECT_S = 2.0
T = TypeVar("T")
_STATES = msgspec.json.Decoder(list[EnvironmentState])
_ISOLATIONS = msgspec.json.Decoder(tuple[Isolation, ...])


class NotAccepted(ExecutorUnavailable):
    """A service did not start the program."""


class Unreachable(NotAccepted):
    """A service does not answer, or cannot run programs."""


class RemoteService:
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
        with self._permitted(), self._translated():
            async with self._post(path, body, deadline_s) as response:
                answer = await response.read()
            if response.status != 200:
                _refuse(self.url, response.status, answer)
            try:
                return decoder.decode(answer)
            except msgspec.DecodeError as error:
                raise ProgramLost(f"{self.url}: another kind of answer: {error}") from error

    async def grade(
        self, body: bytes, deadline_s: float, told: Callable[[Judgement], None]
    ) -> Compilation | None:
        """Have the service grade a program; ``told`` hears of each judgement.

        Raises:
            ExecutorError: as of ``ask``; some may have been judged.
        """
        with self._permitted(), self._translated():
            async with self._post("grade", body, deadline_s) as response:
                if response.status != 200:
                    _refuse(self.url, response.status, await response.read())
                return await self._hear(response, told)

    @asynccontextmanager
    async def stream(
        self, what: str, body: bytes, silent_s: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Have the service do something for as long as the context is open.

        Args:
            what: the path.
            body: msgpack.
            silent_s: seconds without a byte after which reading its answer fails.

        Raises:
            ExecutorError: as of ``ask``.
        """
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=silent_s)
        headers = {"Content-Type": MSGPACK}
        async with AsyncExitStack() as stack:
            with self._permitted(), self._translated():
                response = await stack.enter_async_context(
                    self.session.post(
                        f"{self.base}/{what}", data=body, headers=headers, timeout=timeout
                    )
                )
                if response.status != 200:
                    _refuse(self.url, response.status, await response.read())
            yield response

    async def _hear(
        self, response: aiohttp.ClientResponse, told: Callable[[Judgement], None]
    ) -> Compilation | None:
        reader = MessageReader()
        try:
            async for data in response.content.iter_any():
                for message in reader.feed(data):
                    if isinstance(message, Ended):
                        return self._ended(message)
                    told(message.judgement)
        except StreamError as error:
            raise ProgramLost(f"{self.url}: {error}") from error
        raise ProgramLost(f"{self.url}: the judgements end early")

    def _ended(self, message: Ended) -> Compilation | None:
        if message.failure == "refused":
            raise ExecutorRefused(f"{self.url}: {message.detail}")
        if message.failure:
            raise ProgramLost(f"{self.url}: {message.detail}")
        return message.compilation

    def _post(
        self, what: str, body: bytes, deadline_s: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.session.post(
            f"{self.base}/{what}",
            data=body,
            headers={"Content-Type": MSGPACK, **_trace_headers()},
            timeout=aiohttp.ClientTimeout(total=deadline_s, sock_connect=CONNECT_S),
        )

    def _permitted(self) -> AbstractContextManager[object]:
        closed = self.breaker.state is BreakerState.CLOSED
        permit = self.breaker.permit() if closed else None
        if permit is None:
            raise Unreachable(f"{self.url}: failed repeatedly and is not called for now")
        return permit

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the connection as the executor's."""
        try:
            yield
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(f"{self.url}: {error}") from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise ProgramLost(f"{self.url}: {text}") from error

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


def _trace_headers() -> dict[str, str]:
    trace = current.get()
    return {} if trace is None else {TRACEPARENT: trace.traceparent}


def _without_credentials(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _detail(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer, type=dict[str, object])["detail"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return answer[:200].decode("utf-8", "replace")


def _refuse(url: str, status: int, answer: bytes) -> NoReturn:
    """Raise what an answer that is no 200 means."""
    text = f"{url}: {_detail(answer)}"
    if status == 503:
        raise NotAccepted(text)
    if 400 <= status < 500:
        raise ExecutorRefused(text)
    raise ProgramLost(text)
