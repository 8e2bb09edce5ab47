"""Shared sandboxes: many trusted programs of one tenant in one container, by request only.

Each program has a process tree, a user id, a working folder and limits of its own; kernel, memory
pool, ``/tmp`` names and process table are common to the tenant. Never used across tenants, and
never unless a program asks for ``isolation="shared"``.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import ExecutorError, ExecutorUnavailable
from crucible.executor import frames, jail
from crucible.executor.frames import FrameError, FrameReader
from crucible.executor.interrupted import Interrupted
from crucible.executor.output import Output
from crucible.executor.sandbox import NotStarted, ProgramLost
from crucible.executor.sandbox_options import FIRST_SHARED_UID, SHARED_UIDS, shared_body
from crucible.executor.verdicts import interrupted, outcome_of, outcome_of_lost
from crucible.models import Verdict

if TYPE_CHECKING:
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Attachment, Engine
    from crucible.executor.languages import Language
    from crucible.models import Outcome, Program

#: Seconds past the wall limit after which a supervisor that reports nothing is given up.
OVERDUE_S = 2.0


class _Run:
    """One program under way."""

    def __init__(self, cap: int) -> None:
        self.output = Output(cap)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SharedSandbox:
    """One container with many programs side by side.

    Attributes:
        container_id: the engine's name for it.
        uses: programs it was given so far.
        used_at: monotonic second of the last one's end.
        alive: it may be given programs.
    """

    def __init__(self, engine: Engine, config: ExecutorConfig, uid_range: int) -> None:
        self.container_id = ""
        self.uses = 0
        self.used_at = time.monotonic()
        self.alive = False
        self._engine = engine
        self._config = config
        self._first_uid = FIRST_SHARED_UID + uid_range * SHARED_UIDS
        self._places = asyncio.Semaphore(config.shared_concurrency)
        self._numbers = itertools.count(1)
        self._runs: dict[int, _Run] = {}
        self._attachment: Attachment | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        """Programs under way."""
        return len(self._runs)

    async def open(self) -> None:
        """Create and start the container, and wait until its supervisor is ready.

        Raises:
            ExecutorError: it did not come up.
        """
        image_id = await self._engine.pinned(self._config.image)
        self.container_id = await self._engine.create(shared_body(self._config, image_id))
        self._attachment = await self._engine.attach(self.container_id)
        await self._attachment.write(jail.script(image_id, jail.SHARED))
        await self._engine.start(self.container_id)
        ready = self._runs[0] = _Run(0)
        self._reader = asyncio.create_task(self._read(), name="shared-sandbox")
        try:
            async with asyncio.timeout(self._config.engine_s):
                await ready.ended
        except TimeoutError as error:
            raise ExecutorUnavailable("a shared sandbox did not come up in time") from error
        finally:
            self._runs.pop(0, None)
        if ready.output.code:
            jail.remember(image_id, ready.output.code, jail.SHARED)
        self.alive = True

    async def close(self) -> None:
        """Remove the container; programs under way are lost."""
        self.alive = False
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        self._fail_all("a shared sandbox was taken down")
        if self._attachment is not None:
            await self._attachment.close()
        if self.container_id:
            await self._engine.remove(self.container_id)

    async def run(self, program: Program, language: Language) -> Outcome:
        """Run one program beside the others.

        Raises:
            NotStarted: the sandbox was lost before it had the program.
            ProgramLost: it was lost afterwards.
        """
        async with self._places:
            if not self.alive or self._attachment is None:
                raise NotStarted("a shared sandbox is gone")
            self.uses += 1
            number = next(self._numbers)
            run = self._runs[number] = _Run(program.limits.output_kb * 1024)
            started_s = time.monotonic()
            try:
                await self._attachment.write(self._request(program, language, number))
                async with asyncio.timeout(program.limits.wall_time_s + OVERDUE_S):
                    await run.ended
            except TimeoutError:
                return await self._give_up(program, run, started_s)
            except asyncio.CancelledError:
                await self._stop(number)
                if not run.output.started:
                    raise
                raise self._interrupted(program, run, started_s) from None
            finally:
                self._runs.pop(number, None)
                self.used_at = time.monotonic()
        return self._conclude(program, run, time.monotonic() - started_s)

    def _request(self, program: Program, language: Language, number: int) -> bytes:
        limits = program.limits
        return frames.encode_request(
            program,
            language,
            cpus=self._config.shared_cpus,
            file_bytes=self._config.file_mb << 20,
            extra={
                "number": number,
                "uid": self._first_uid + number % SHARED_UIDS,
                "disk_bytes": limits.disk_mb << 20,
                "pids": limits.pids,
            },
        )

    def _conclude(self, program: Program, run: _Run, run_s: float) -> Outcome:
        output = run.output
        if output.end is None or output.end.reason == "abandoned":
            raise ProgramLost("a shared sandbox was lost while its program ran")
        outcome = outcome_of(output.end, program.limits, output)
        return msgspec.structs.replace(outcome, isolation="shared", run_s=run_s)

    async def _give_up(self, program: Program, run: _Run, started_s: float) -> Outcome:
        """The supervisor kept no time: kill the container. Those beside it are run again."""
        self.alive = False
        await self._engine.kill(self.container_id)
        run_s = time.monotonic() - started_s
        outcome = outcome_of_lost(
            Verdict.TIMEOUT, program.limits, run.output.stdout, run.output.stderr, wall_s=run_s
        )
        return msgspec.structs.replace(outcome, isolation="shared", run_s=run_s)

    def _interrupted(self, program: Program, run: _Run, started_s: float) -> Interrupted:
        run_s = time.monotonic() - started_s
        outcome = interrupted(program.limits, run.output.stdout, run.output.stderr, run_s)
        return Interrupted(msgspec.structs.replace(outcome, isolation="shared"))

    async def _stop(self, number: int) -> None:
        """Have the supervisor kill a program nobody waits for any more."""
        if self._attachment is not None:
            with contextlib.suppress(ExecutorError):
                await self._attachment.write(frames.encode_message({"stop": number}))

    def _fail_all(self, why: str) -> None:
        self.alive = False
        for run in self._runs.values():
            if not run.ended.done():
                error = ProgramLost if run.output.started else NotStarted
                run.ended.set_exception(error(why))

    async def _read(self) -> None:
        """Hand every frame to the program it is of."""
        reader = FrameReader()
        why = "a shared sandbox ended"
        try:
            while self._attachment is not None:
                piece = await self._attachment.read()
                if piece is None:
                    break
                if piece[0] == 1:
                    for kind, payload in reader.feed(piece[1]):
                        self._dispatch(kind, payload)
                else:
                    why = f"a shared sandbox ended: {piece[1][-500:].decode('utf-8', 'replace')}"
        except (ExecutorError, FrameError) as error:
            why = f"a shared sandbox was lost: {error}"
        self._fail_all(why)

    def _dispatch(self, kind: bytes, payload: bytes) -> None:
        run = self._runs.get(int.from_bytes(payload[:4], "big"))
        if run is None:
            return
        run.output.take(kind, payload[4:])
        if (run.output.end is not None or kind == frames.READY) and not run.ended.done():
            run.ended.set_result(None)
