"""What is done for one program: a sandbox found, it compiled where it has to be, and run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import msgspec

from crucible.errors import ExecutorUnavailable
from crucible.executor import frames
from crucible.executor.compile_cache import CompileCache, key_of
from crucible.executor.hooks import CompileLookup, ProgramEnded
from crucible.executor.interrupted import Interrupted
from crucible.executor.sandbox import NotStarted
from crucible.executor.verdicts import outcome_of_failed, with_all_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.environments import Environment
    from crucible.executor.artifact import Artifact, Compilation
    from crucible.executor.compile_cache import Flight
    from crucible.executor.config import ExecutorConfig
    from crucible.executor.engine import Engine
    from crucible.executor.environment_pools import EnvironmentPools
    from crucible.executor.hooks import ExecutorHooks
    from crucible.executor.languages import Language
    from crucible.executor.sandbox import Sandbox
    from crucible.executor.talk import Talk
    from crucible.models import CompileReport, Limits, Outcome, Program


T = TypeVar("T")


@dataclass(slots=True)
class Job:
    """An admitted program.

    Attributes:
        program: what is to be run.
        environment: where.
        language: its entry in the table.
        compile_limits: of its compiler.
        sandbox_s: seconds spent so far waiting for and preparing sandboxes.
    """

    program: Program
    environment: Environment
    language: Language
    compile_limits: Limits
    sandbox_s: float = 0.0


class JobRunner:
    """Runs and compiles programs in sandboxes of an executor's pools.

    Attributes:
        cache: what was compiled before.
    """

    def __init__(
        self,
        engine: Engine,
        pools: EnvironmentPools,
        config: ExecutorConfig,
        hooks: ExecutorHooks,
    ) -> None:
        self._engine = engine
        self._pools = pools
        self._config = config
        self._hooks = hooks
        self.cache = CompileCache(config.compile_cache_mb << 20)

    async def run(
        self, job: Job, artifact: Artifact | None = None, talk: Talk | None = None
    ) -> Outcome:
        """Run a program in a fresh sandbox; it has no compiler, or is compiled."""
        work = partial(self._run_in, job, artifact, None, talk=talk)
        return await self._in_a_sandbox(job, job.program.limits, work)

    async def compile(self, job: Job) -> Compilation:
        """Compile a program, unless the same was before."""
        image_id, key, found = await self._look_up(job)
        if found is not None:
            return found
        with self.cache.fly(key, job.compile_limits) as flight:
            work = partial(self._compile_in, job, flight, image_id, again=False)
            return await self._in_a_sandbox(job, job.compile_limits, work)

    async def compile_and_run(self, job: Job) -> Outcome:
        """Run a program, compiled before unless the same was.

        A compiler's sandbox is emptied and runs the program as well, where it may be: what was
        compiled has been taken out of it before.
        """
        image_id, key, found = await self._look_up(job)
        if found is not None:
            return await self._run_compiled(job, found)
        with self.cache.fly(key, job.compile_limits) as flight:
            work = partial(self._compile_and_run_in, job, flight, image_id)
            compilation, outcome = await self._in_a_sandbox(job, job.compile_limits, work)
        return outcome or await self._run_compiled(job, compilation)

    async def _run_compiled(self, job: Job, compilation: Compilation) -> Outcome:
        """Run a program in a sandbox that did not compile it, if it was compiled."""
        if compilation.artifact is None:
            return self.ended(job, outcome_of_failed(compilation))
        run = partial(self._run_in, job, compilation.artifact, compilation.report)
        return await self._in_a_sandbox(job, job.program.limits, run)

    async def _look_up(self, job: Job) -> tuple[str, bytes, Compilation | None]:
        """The image of a job's compiler, the key of what it makes, and that if it is known.

        Where it is not, the caller is to call ``fly`` before it awaits anything.
        """
        image_id = await self._engine.pinned(self._config.image_of(job.environment))
        program = job.program
        key = key_of(
            tenant=program.tenant,
            image_id=image_id,
            language=job.language,
            env=program.env,
            files=frames.contents_of(program, job.language),
            executable=[file.name for file in program.files if file.executable],
        )
        found = await self.cache.find(key, job.compile_limits)
        self._hooks.compile_looked_up(CompileLookup(hit=found is not None))
        return image_id, key, found

    async def _in_a_sandbox(
        self, job: Job, limits: Limits, work: Callable[[Sandbox], Awaitable[T]]
    ) -> T:
        """Do something in a sandbox with certain limits.

        After a restart of the engine every idle sandbox is dead: each is tried, then a new one.

        Raises:
            ExecutorUnavailable: none stayed alive until the program started.
        """
        nested = job.program.isolation == "nested"
        asked_s = time.monotonic()
        for _ in range((self._config.lanes_max if nested else self._config.pool_max) + 1):
            try:
                async with self._pools.lend(
                    job.environment, job.program, limits.disk_mb
                ) as sandbox:
                    await sandbox.fit(limits)
                    job.sandbox_s += time.monotonic() - asked_s
                    return await work(sandbox)
            except NotStarted:
                continue
        raise ExecutorUnavailable("no sandbox stayed alive until the program started")

    async def _compile_and_run_in(
        self, job: Job, flight: Flight, image_id: str, sandbox: Sandbox
    ) -> tuple[Compilation, Outcome | None]:
        """Compile, and where the sandbox may be used again, run; no outcome where it may not."""
        again = job.compile_limits.disk_mb == job.program.limits.disk_mb
        compilation = await self._compile_in(job, flight, image_id, sandbox, again=again)
        if compilation.artifact is None or not sandbox.reusable:
            return compilation, None
        try:
            await self._fit(job, sandbox, job.program.limits)
        except ExecutorUnavailable:
            sandbox.clean = False
            return compilation, None
        run = self._run_in(job, compilation.artifact, compilation.report, sandbox)
        try:
            return compilation, await run
        except NotStarted:
            sandbox.clean = False
            return compilation, None

    async def _compile_in(
        self, job: Job, flight: Flight, image_id: str, sandbox: Sandbox, *, again: bool
    ) -> Compilation:
        """Compile in a sandbox, and let those have it who wait for the same."""
        try:
            compilation = await sandbox.compile(
                job.program, job.language, job.compile_limits, again=again
            )
        except Interrupted as cut:
            cut.outcome = self.ended(
                job,
                msgspec.structs.replace(
                    cut.outcome, stdout=b"", stderr=b"", message="stopped while it was compiled"
                ),
            )
            raise
        flight.land(compilation, keep=sandbox.image_id == image_id)
        return compilation

    async def _run_in(
        self,
        job: Job,
        artifact: Artifact | None,
        report: CompileReport | None,
        sandbox: Sandbox,
        talk: Talk | None = None,
    ) -> Outcome:
        """Run in a sandbox that has the program's limits."""
        try:
            outcome = await sandbox.run(job.program, job.language, artifact, talk)
        except Interrupted as cut:
            cut.outcome = self.ended(job, msgspec.structs.replace(cut.outcome, compile=report))
            raise
        return self.ended(job, msgspec.structs.replace(outcome, compile=report))

    async def _fit(self, job: Job, sandbox: Sandbox, limits: Limits) -> None:
        started_s = time.monotonic()
        await sandbox.fit(limits)
        job.sandbox_s += time.monotonic() - started_s

    def ended(self, job: Job, outcome: Outcome) -> Outcome:
        """An outcome as it is reported, once the observers know of it."""
        program = job.program
        outcome = with_all_files(outcome, program.output_files)
        self._hooks.program_ended(
            ProgramEnded(
                language=program.language,
                isolation=program.isolation,
                verdict=outcome.verdict,
                sandbox_s=job.sandbox_s,
                run_s=outcome.run_s,
            )
        )
        return msgspec.structs.replace(
            outcome, sandbox_s=job.sandbox_s, isolation=program.isolation
        )
