"""A session in a sandbox of this machine: its interpreter as the one long program of it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.errors import ExecutorRefused, ExecutorUnavailable, InputError
from crucible.executor.admission import check_environment, check_files
from crucible.executor.sandbox import NotStarted
from crucible.executor.sessions.models import (
    DISPLAY_BYTES,
    FILE_BYTES,
    INTERRUPT_S,
    Cell,
    CellError,
    CellResult,
    Reason,
)
from crucible.executor.sessions.program import source
from crucible.executor.talk import Talk
from crucible.models import Outcome, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.environments import Environment
    from crucible.executor.docker import DockerExecutor
    from crucible.executor.languages import Language
    from crucible.executor.sessions.models import SessionSpec

#: Seconds that the interpreter may take to come up once it has its sandbox.
START_S = 15.0
#: Seconds past a cell's own time, and its interruption, after which the sandbox is killed from
#: outside: the driver inside could be held up by hostile code.
MARGIN_S = 1.0
#: KiB that a session may send in all.
SAID_KB = 1 << 20
#: Largest answer: display, both streams and files, as JSON has them.
MAX_ANSWER_BYTES = 48 << 20
#: Times another sandbox is tried where one was lost before the session began.
TRIES = 3
_OF_VERDICTS: dict[Verdict, Reason] = {
    Verdict.TIMEOUT: "expired",
    Verdict.MEMORY_LIMIT: "memory_limit",
    Verdict.CPU_LIMIT: "cpu_limit",
    Verdict.DISK_LIMIT: "disk_limit",
    Verdict.OUTPUT_LIMIT: "output_limit",
}


class SessionLost(Exception):  # noqa: N818 - a state, named as clients see it
    """A session has ended, and its state with it.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class Answer(msgspec.Struct, kw_only=True):
    """What the driver says; ``died`` instead of a result where the interpreter has ended."""

    id: int = 0
    ready: bool = False
    died: str = ""
    error: CellError | None = None
    display: list[dict[str, Any]] | None = None
    interrupted: bool = False
    cut: bool = False
    stdout: str = ""
    stderr: str = ""
    files: dict[str, str] = {}
    omitted: dict[str, str] = {}
    ms: int = 0


_decode = msgspec.json.Decoder(Answer).decode
_encode = msgspec.json.Encoder().encode


class LiveSession:
    """One interpreter. Cells are run in the order in which they come.

    Attributes:
        ended: done once it has ended, with the reason.
        holding: holds its sandbox.
    """

    def __init__(self) -> None:
        self.holding: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self._turn = asyncio.Lock()
        self._talk = Talk(self._said, lambda _: None, lambda: None, kept_bytes=0)
        self._buffer = bytearray()
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._number = 0
        self._reason: Reason | None = None

    async def execute(self, cell: Cell) -> CellResult:
        """Run a cell once those before it are done.

        Cancelling the call ends the session: what the cell has done is not known then.

        Raises:
            SessionLost: it has ended, before or because of the cell.
        """
        async with self._turn:
            if self.ended.done():
                raise SessionLost(self.ended.result())
            self._number += 1
            self._answer = asyncio.get_running_loop().create_future()
            self._talk.tell(_request(self._number, cell))
            try:
                async with asyncio.timeout(cell.timeout_s + INTERRUPT_S + MARGIN_S):
                    await _first_of(self._answer, self.ended)
            except BaseException as error:
                self.end("cell_timeout")
                if not isinstance(error, TimeoutError):
                    raise
            if not self._answer.done() or self._answer.result().died:
                raise SessionLost(await asyncio.shield(self.ended))
            return _result(self._answer.result())

    def end(self, reason: Reason) -> None:
        """Have it end, for a reason unless it has one."""
        self._reason = self._reason or reason
        self._talk.stop()
        if self.holding is not None and not self.holding.done():
            # A supervisor that does not end is ended from outside, with its sandbox.
            asyncio.get_running_loop().call_later(MARGIN_S, self.holding.cancel)

    def _said(self, data: bytes) -> None:
        """Take in what the driver writes; whatever does not belong there ends the session."""
        self._buffer += data
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "big")
            if size > MAX_ANSWER_BYTES:
                self.end("interpreter_died")
                self._buffer.clear()
                return
            if len(self._buffer) < 4 + size:
                return
            body = bytes(self._buffer[4 : 4 + size])
            del self._buffer[: 4 + size]
            try:
                self._take(_decode(body))
            except msgspec.DecodeError:
                self.end("interpreter_died")

    def _take(self, answer: Answer) -> None:
        expected = answer.ready if self._number == 0 else answer.id == self._number
        if answer.died:
            self._reason = self._reason or (
                "cell_timeout" if answer.died == "cell_timeout" else None
            )
        elif not expected:
            return  # of what ran in the background
        if not self._answer.done():
            self._answer.set_result(answer)

    async def run(
        self, executor: DockerExecutor, spec: SessionSpec, place: tuple[Environment, Language]
    ) -> None:
        """Hold a sandbox until the session ends.

        Raises:
            ExecutorError: there was no sandbox for it.
        """
        environment, language = place
        program = _program(spec)
        reason: Reason = "sandbox_lost"
        try:
            outcome = await self._in_sandbox(executor, program, environment, language)
            reason = _reason_of(outcome)
        finally:
            if not self.ended.done():
                self.ended.set_result(self._reason or reason)

    async def _in_sandbox(
        self,
        executor: DockerExecutor,
        program: Program,
        environment: Environment,
        language: Language,
    ) -> Outcome:
        lost: ExecutorUnavailable | None = None
        for _ in range(TRIES):
            lending = executor.pools.lend(environment, program, program.limits.disk_mb)
            try:
                async with lending as sandbox:
                    await sandbox.fit(program.limits)
                    try:
                        return await sandbox.run(program, language, None, self._talk)
                    finally:
                        # Nothing runs where a session has been.
                        sandbox.clean = False
            except NotStarted as error:
                lost = error
        raise lost or ExecutorUnavailable("no sandbox stayed alive until the session began")

    async def until_ready(self, wait_s: float) -> None:
        """Return once the interpreter takes cells.

        Raises:
            ExecutorError: it did not come up.
        """
        holding, answer = self.holding, self._answer
        assert holding is not None
        await _first_of(holding, answer, timeout_s=wait_s)
        if holding.done():
            await holding
        if not answer.done():
            raise ExecutorUnavailable("an interpreter did not come up in time")


async def _first_of(*futures: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


def _program(spec: SessionSpec) -> Program:
    limits = msgspec.structs.replace(spec.limits, output_kb=SAID_KB)
    return Program(
        language="python",
        code=source(),
        files=spec.files,
        limits=limits,
        environment=spec.environment,
        isolation=spec.isolation,
        tenant=spec.tenant,
    )


def _request(number: int, cell: Cell) -> bytes:
    body = _encode(
        {
            "id": number,
            "code": cell.code,
            "timeout_s": cell.timeout_s,
            "interrupt_s": INTERRUPT_S,
            "output_bytes": cell.output_kb * 1024,
            "display_bytes": DISPLAY_BYTES,
            "file_bytes": FILE_BYTES,
            "output_files": cell.output_files,
        }
    )
    return len(body).to_bytes(4, "big") + body


def _result(answer: Answer) -> CellResult:
    status = "timeout" if answer.interrupted else "error" if answer.error else "ok"
    return CellResult(
        status=status,  # type: ignore[arg-type]  # one of the three
        stdout=answer.stdout,
        stderr=answer.stderr,
        display=answer.display or [],
        error=answer.error,
        output_truncated=answer.cut,
        files=answer.files,
        files_omitted=answer.omitted,
        duration_ms=answer.ms,
    )


def _reason_of(outcome: Outcome) -> Reason:
    return _OF_VERDICTS.get(outcome.verdict, "interpreter_died")


@asynccontextmanager
async def open_here(executor: DockerExecutor, spec: SessionSpec) -> AsyncIterator[LiveSession]:
    """A session in a sandbox of this machine, ended when the context is left.

    Raises:
        ExecutorRefused: it can never be as asked.
        ExecutorUnavailable: it cannot be had now.
    """
    place = _admitted(executor, spec)
    session = LiveSession()
    holding = asyncio.create_task(session.run(executor, spec, place), name="crucible-session")
    session.holding = holding
    try:
        await session.until_ready(executor.config.acquire_s + START_S)
        yield session
    finally:
        session.end("closed")
        await asyncio.gather(holding, return_exceptions=True)


def _admitted(executor: DockerExecutor, spec: SessionSpec) -> tuple[Environment, Language]:
    try:
        environment, language = executor.served.find("python", spec.environment)
        check_environment(environment, spec.limits)
        check_files(spec.files, language.file_name)
    except InputError as error:
        raise ExecutorRefused(str(error)) from error
    return environment, language
