"""One container, one program at a time: prepared, run once, then recycled or removed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.errors import ExecutorUnavailable
from crucible.executor import frames, jail
from crucible.executor.frames import FrameError, FrameReader
from crucible.executor.interrupted import Interrupted
from crucible.executor.live import listener
from crucible.executor.output import Output, SpokenOutput
from crucible.executor.sandbox_options import SUPERVISOR_PIDS, create_body, update_body
from crucible.executor.verdicts import (
    compilation_of,
    interrupted,
    outcome_of,
    outcome_of_lost,
)
from crucible.models import Limits, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.executor.artifact import Artifact, Compilation
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Attachment, Engine
    from crucible.executor.frames import End
    from crucible.executor.languages import Language
    from crucible.executor.talk import Talk
    from crucible.models import Isolation, Outcome, Program

#: Seconds for the last bytes of a killed container to arrive.
_LAST_BYTES_S = 2.0
#: Seconds that the engine may take to say that a killed container was out of memory, and between
#: two questions about it.
_LATE_NEWS_S = 0.5
_NEWS_LOOK_S = 0.05
_KILLED = 128 + signal.SIGKILL


class NotStarted(ExecutorUnavailable):
    """The sandbox was lost before it said that the program started; another may run it.

    An engine that is killed may take that word with it, and then the program has begun twice
    within one attempt.
    """


class ProgramLost(ExecutorUnavailable):
    """The sandbox was lost while its program ran; it may have run to any point."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a container is fixed when it is created.

    Attributes:
        disk_mb: size of its temporary file system.
        image: the image's name; empty for that of the default environment.
        preload: Python modules that its waiting interpreter has imported.
    """

    disk_mb: int
    image: str = ""
    preload: tuple[str, ...] = ()


class Sandbox:
    """A container made for one set of limits.

    Attributes:
        isolation: what its programs have.
        container_id: the engine's name for it.
        uid: user id of everything in it.
        shape: what cannot be changed about it.
        limits: what it has now.
        jitter: a number in 0..1 of its own, so that not all age at once.
        uses: programs it has served.
        ready_at: monotonic second since which it has been waiting.
        image_id: the image it was made from; empty before that.
        clean: the last run ended as planned, so that a restart gives a fresh sandbox.
    """

    isolation: Isolation = "container"
    #: What of the supervisor runs inside, and its processes that count against the limit of pids.
    parts: tuple[str, ...] = jail.SINGLE
    overhead_pids = SUPERVISOR_PIDS
    #: Memory on top of the limit.
    overhead_bytes = 0

    def __init__(self, engine: Engine, config: ExecutorConfig, shape: Shape, uid: int) -> None:
        self.container_id = ""
        self.uid = uid
        self.shape = shape
        self.limits = Limits(disk_mb=shape.disk_mb)
        self.jitter = random.random()  # noqa: S311 - spreads load, guards nothing
        self.uses = 0
        self.ready_at = 0.0
        self.clean = True
        self.image_id = ""
        self._engine = engine
        self._config = config
        self._attachment: Attachment | None = None
        self._reader = FrameReader()
        self._again = False

    async def create(self) -> None:
        """Create the container, not yet started."""
        self.image_id = await self._engine.pinned(self.shape.image or self._config.image)
        self.container_id = await self._engine.create(await self._body())

    async def prepare(self, deadline_s: float = 15.0) -> None:
        """Attach, start, and wait until the supervisor says it is ready.

        Raises:
            ExecutorUnavailable: it did not come up in time.
        """
        await self._hang_up()
        self._reader = FrameReader()
        self._attachment = await self._engine.attach(self.container_id)
        # Before the start: it waits in the engine, and the container for nothing.
        await self._attachment.write(await self._script())
        await self._engine.start(self.container_id)
        output = Output(0)
        try:
            async with asyncio.timeout(deadline_s):
                alive = await self._read(output, lambda: output.ready)
        except TimeoutError as error:
            raise ExecutorUnavailable("a sandbox did not come up in time") from error
        if not alive:
            text = output.complaint.decode("utf-8", "replace")
            raise ExecutorUnavailable(f"a sandbox did not come up: {text}")
        if output.code:
            jail.remember(self.image_id, output.code, self.parts)
        self.ready_at = time.monotonic()

    def fits(self, limits: Limits) -> bool:
        """Whether it has the memory and pids that a program may use."""
        return (limits.memory_mb, limits.pids) == (self.limits.memory_mb, self.limits.pids)

    async def fit(self, limits: Limits) -> None:
        """Give the container the memory and pids that a program may use."""
        if self.fits(limits):
            return
        await self._engine.update(
            self.container_id, update_body(limits, self.overhead_pids, self.overhead_bytes)
        )
        self.limits = msgspec.structs.replace(
            self.limits, memory_mb=limits.memory_mb, pids=limits.pids
        )

    @property
    def reusable(self) -> bool:
        """Whether it takes another program as it is."""
        return self.clean and self._again

    async def run(
        self,
        program: Program,
        language: Language,
        artifact: Artifact | None = None,
        talk: Talk | None = None,
    ) -> Outcome:
        """Run one program; the container is of no further use until recycled.

        Args:
            program: what to run.
            language: its entry in the table.
            artifact: what was compiled of it, where the language has a compiler.
            talk: what it is told while it runs, and who hears what it says.

        Raises:
            NotStarted: the sandbox was lost before it said that the program started.
            ProgramLost: it was lost afterwards.
            ExecutorUnavailable: the engine was lost on the way.
            Interrupted: cancelled while the program ran.
        """
        self._again = False
        file_bytes = self._config.file_mb << 20
        request = frames.encode_request(
            program,
            language,
            cpus=self._config.cpus,
            file_bytes=file_bytes,
            artifact=artifact,
            talks=talk is not None,
        )
        cap = program.limits.output_kb * 1024
        if talk is None:
            return await self._serve(request, program.limits, Output(cap, file_bytes, listener()))
        return await self._serve_talk(request, program.limits, SpokenOutput(cap, talk), talk)

    async def compile(
        self, program: Program, language: Language, limits: Limits, *, again: bool
    ) -> Compilation:
        """Compile one program.

        Args:
            program: what to compile.
            language: its entry in the table, which has a compiler.
            limits: of the compiler.
            again: the sandbox is to be ``reusable`` for running it.

        Raises:
            Interrupted: cancelled while the compiler ran.

        Other errors as of ``run``.
        """
        self._again = again
        request = frames.encode_compile(
            program, language, limits, cpus=self._config.cpus, again=again
        )
        output = Output(limits.output_kb * 1024)
        return compilation_of(await self._serve(request, limits, output), output)

    async def _serve(self, request: bytes, limits: Limits, output: Output) -> Outcome:
        """Have the supervisor do what it is asked, and judge how it ended."""
        self.uses += 1
        self.clean = False
        started = time.monotonic()
        timed_out = False
        try:
            async with asyncio.timeout(limits.wall_time_s + self._config.grace_s):
                await self._write(request)
                await self._read(output, lambda: output.end is not None)
        except TimeoutError:
            timed_out = True
            await self._cut_short(output)
        except asyncio.CancelledError:
            if not output.started:
                raise
            run_s = time.monotonic() - started
            raise Interrupted(interrupted(limits, output.stdout, output.stderr, run_s)) from None
        run_s = time.monotonic() - started
        if output.end is None:
            outcome = await self._conclude_lost(output, limits, run_s, timed_out)
        else:
            outcome = self._conclude(output, output.end, limits)
        return msgspec.structs.replace(outcome, run_s=run_s)

    async def _serve_talk(
        self, request: bytes, limits: Limits, output: Output, talk: Talk
    ) -> Outcome:
        """``_serve``, and pass on what the program is told meanwhile."""
        passing = asyncio.create_task(talk.pass_on(self._write))
        try:
            outcome = await self._serve(request, limits, output)
        except BaseException:
            passing.cancel()
            await asyncio.wait({passing})
            raise
        # The supervisor reads to the end of it, whether or not the program did.
        talk.close()
        _, late = await asyncio.wait({passing}, timeout=_LAST_BYTES_S)
        if late:
            self.clean = False
            passing.cancel()
            await asyncio.wait(late)
        return outcome

    async def _body(self) -> dict[str, Any]:
        """What the engine is asked to create."""
        return create_body(
            self.limits,
            self._config,
            uid=self.uid,
            image_id=self.image_id,
            preload=self.shape.preload,
        )

    async def _script(self) -> bytes:
        """What the container reads first."""
        return jail.script(self.image_id, self.parts)

    async def wait_stopped(self) -> None:
        """Wait until the engine has seen the container end after a clean run."""
        await self._hang_up()
        await self._engine.wait(self.container_id)

    async def remove(self) -> None:
        """Kill and remove the container."""
        await self._hang_up()
        if self.container_id:
            await self._engine.remove(self.container_id)

    async def _hang_up(self) -> None:
        if self._attachment is not None:
            await self._attachment.close()
            self._attachment = None

    def _attached(self) -> Attachment:
        if self._attachment is None:
            raise ExecutorUnavailable("the sandbox is not attached")
        return self._attachment

    async def _write(self, data: bytes) -> None:
        # A supervisor that is gone reads nothing; the end of its output says why.
        with contextlib.suppress(ExecutorUnavailable):
            await self._attached().write(data)

    async def _read(self, output: Output, done: Callable[[], bool]) -> bool:
        """Read frames until ``done``; False when the container ended before that."""
        attachment = self._attached()
        while not done():
            piece = await attachment.read()
            if piece is None:
                return False
            descriptor, data = piece
            if descriptor != 1:
                output.complain(data)
                continue
            try:
                for kind, payload in self._reader.feed(data):
                    output.take(kind, payload)
            except FrameError as error:
                raise ProgramLost(f"a sandbox sent garbage: {error}") from error
        return True

    async def _cut_short(self, output: Output) -> None:
        """The wall limit passed outside: kill the container, keep what it wrote."""
        await self._engine.kill(self.container_id)
        with contextlib.suppress(TimeoutError, ExecutorUnavailable):
            async with asyncio.timeout(_LAST_BYTES_S):
                await self._read(output, lambda: False)

    def _conclude(self, output: Output, end: End, limits: Limits) -> Outcome:
        if end.reason == "abandoned":
            raise ProgramLost("the connection to a sandbox was lost")
        self.clean = True
        return outcome_of(end, limits, output)

    async def _conclude_lost(
        self, output: Output, limits: Limits, wall_s: float, timed_out: bool
    ) -> Outcome:
        """Judge a run without an end frame: cut short here, or its supervisor was lost.

        From inside, only the kernel's out-of-memory killer can end process 1; the engine has it
        from the container's own control group. A SIGKILL that was neither that nor ours came from
        an operator or a stopping engine, and is no verdict; nor is exit code 0, which is process 1
        seeing its own input end. Any other is its crash.
        """
        if timed_out and output.started:
            return outcome_of_lost(
                Verdict.TIMEOUT, limits, output.stdout, output.stderr, wall_s=wall_s
            )
        if self._attachment is None:
            raise ProgramLost("the sandbox was taken down while its program ran")
        try:
            exit_code, out_of_memory = await self._how_it_ended()
        except ExecutorUnavailable as error:
            raise self._lost(output) from error
        if out_of_memory:
            verdict = Verdict.MEMORY_LIMIT
        elif exit_code in (None, 0, _KILLED) or not output.started:
            raise self._lost(output)
        else:
            verdict = Verdict.INTERNAL_ERROR
        return outcome_of_lost(verdict, limits, output.stdout, output.stderr, wall_s=wall_s)

    async def _how_it_ended(self) -> tuple[int | None, bool]:
        """Exit code of process 1, None while it runs; whether its container was out of memory.

        The reports of such a kill and of the exit race inside the engine: it is asked again for a
        moment before a SIGKILL is attributed to another process.
        """
        # The engine reports an exit only once it has seen it.
        await self._engine.wait(self.container_id)
        deadline_s = time.monotonic() + _LATE_NEWS_S
        while True:
            state = await self._engine.state(self.container_id)
            if state.get("Running"):
                return None, False  # what it says of memory is about the run before
            exit_code, out_of_memory = int(state.get("ExitCode") or 0), bool(state.get("OOMKilled"))
            if out_of_memory or exit_code != _KILLED or time.monotonic() > deadline_s:
                return exit_code, out_of_memory
            await asyncio.sleep(_NEWS_LOOK_S)

    @staticmethod
    def _lost(output: Output) -> ExecutorUnavailable:
        if not output.started:
            return NotStarted("the sandbox was lost before the program started")
        return ProgramLost("a sandbox was lost while its program ran")
