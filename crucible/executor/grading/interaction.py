"""A program and an interactor, each in a sandbox of its own, with their words passed on here.

Limits are the program's alone: its processor time, its memory, and the wall time of its own turns
(``grading.turns``). Whoever ends first closes the other's standard input.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import msgspec

from crucible.executor.talk import Talk
from crucible.grading.models import Ruling
from crucible.grading.testlib import failure, ruling_of
from crucible.grading.turns import Overdue, Side, Turns
from crucible.models import OWN_END, Verdict

if TYPE_CHECKING:
    from crucible.executor.artifact import Artifact
    from crucible.executor.grading.checker import PreparedGrader
    from crucible.executor.grading.series import Series
    from crucible.grading.models import GradingTest
    from crucible.models import Limits, Outcome, Program

#: Seconds one turn of an interactor may take.
INTERACTOR_S = 10.0
#: KiB an interactor may say.
SAID_KB = 8192
#: Seconds that an interactor has to come to its own end, once a program failed: its last words may
#: be why.
LAST_WORDS_S = 0.1
#: What may still end by itself in one of these failed on its own account.
_FAILED = frozenset({Verdict.NONZERO_EXIT, Verdict.SIGNALLED})
_IDLE = "idleness: it waits for the interactor, which waits for it; was the last line not flushed?"


class Conversation:
    """One test of a program with an interactor.

    Args:
        limits: of the program.
        ceiling: the most that any program may ask for.
    """

    def __init__(self, limits: Limits, ceiling: Limits) -> None:
        self._limits = limits
        self._turns = Turns(limits.wall_time_s, INTERACTOR_S, 0.0)
        self._started: set[Side] = set()
        self._began_s = 0.0
        self._changed = asyncio.Event()
        #: When a turn was over its limit.
        self._over_s = 0.0
        #: Both were stopped for that.
        self._stopped = False
        #: Who ended by itself before the other, if either did.
        self._ended_first: Side | None = None
        self.program = self._talk(Side.PROGRAM)
        self.interactor = self._talk(Side.INTERACTOR)
        #: The sandboxes' own clocks only end what these turns do not.
        self.wall_time_s = ceiling.wall_time_s

    def _talk(self, side: Side) -> Talk:
        def said(data: bytes) -> None:
            self._turns.spoke(side, self._clock_s())
            self._changed.set()
            (self.interactor if side is Side.PROGRAM else self.program).tell(data)

        def used(cpu_s: float) -> None:
            self._turns.used(side, cpu_s)

        def started() -> None:
            self._started.add(side)
            if len(self._started) == len(Side):
                self._began_s = time.monotonic()

        return Talk(said, used, started)

    def _clock_s(self) -> float:
        """Seconds since both began; one that waits for a sandbox keeps no other waiting."""
        return time.monotonic() - self._began_s if self._began_s else 0.0

    async def hold(
        self, program: asyncio.Task[Outcome], interactor: asyncio.Task[Outcome]
    ) -> tuple[Outcome, Ruling]:
        """Wait for both to end; how the program did, and what the test is worth."""
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait({program, interactor}, return_when=asyncio.FIRST_COMPLETED)
            if not interactor.done() and program.result().verdict in _FAILED:
                await asyncio.wait({interactor}, timeout=LAST_WORDS_S)
            first = Side.INTERACTOR if interactor.done() else Side.PROGRAM
            if not self._stopped:
                self._ended_first = first
                # Whoever is left has a turn of its own to come to an end.
                self._turns.spoke(first, self._clock_s())
                self._changed.set()
            program_s = self._turns.program_s(self._clock_s())
            if first is Side.PROGRAM:
                self.interactor.end()
            elif _ruling(interactor).verdict is Verdict.ACCEPTED:
                self.program.end()
            else:
                # Nothing it does now counts.
                self.program.stop()
            outcome, judged = await asyncio.gather(program, interactor)
        finally:
            watching.cancel()
            await asyncio.wait({watching})
        return self._conclude(outcome, judged, program_s)

    async def _watch(self) -> None:
        """Stop both when one is overdue."""
        while True:
            self._changed.clear()
            left_s = self._turns.left_s(self._clock_s())
            try:
                async with asyncio.timeout(max(0.0, left_s) + 0.001):
                    await self._changed.wait()
            except TimeoutError:
                self._over_s = self._clock_s()
            if self._turns.overdue(self._over_s) is not None:
                self._stopped = True
                self.program.stop()
                self.interactor.stop()
                return

    def _conclude(
        self, outcome: Outcome, judged: Outcome, program_s: float
    ) -> tuple[Outcome, Ruling]:
        usage = msgspec.structs.replace(outcome.usage, wall_time_ms=int(program_s * 1000))
        # By their ends it is known what they used, to the last moment.
        self._turns.used(Side.PROGRAM, outcome.usage.cpu_time_ms / 1000)
        self._turns.used(Side.INTERACTOR, judged.usage.cpu_time_ms / 1000)
        outcome = msgspec.structs.replace(outcome, usage=usage)
        return outcome, self._ruling_on(outcome, judged)

    def _ruling_on(self, outcome: Outcome, judged: Outcome) -> Ruling:
        """What the test is worth, by how both ended."""
        ruling = ruling_of(judged, "interactor")
        own = Ruling(outcome.verdict, outcome.message)
        if self._ended_first is Side.INTERACTOR and ruling.verdict is not Verdict.ACCEPTED:
            return ruling
        # Stopped here, it has no end of its own; but a limit it ran into before counts.
        if not self._stopped or outcome.verdict not in (*OWN_END, Verdict.TIMEOUT):
            return ruling if outcome.verdict is Verdict.OK else own
        if self._ended_first is Side.PROGRAM:
            silent = failure("interactor", f"it did not end for {INTERACTOR_S:g} s")
            return silent if outcome.verdict is Verdict.OK else own
        overdue = self._turns.overdue(self._over_s)
        if overdue is Overdue.INTERACTOR:
            return failure("interactor", f"it was silent for {INTERACTOR_S:g} s")
        slow = f"still running after {self._limits.wall_time_s:g} s of its own time"
        return Ruling(Verdict.TIMEOUT, slow if overdue is Overdue.PROGRAM else _IDLE)


def _ruling(interactor: asyncio.Task[Outcome]) -> Ruling:
    return ruling_of(interactor.result(), "interactor")


async def interact(
    series: Series,
    program: Program,
    artifact: Artifact | None,
    interactor: PreparedGrader,
    test: GradingTest,
    ceiling: Limits,
) -> tuple[Outcome, Ruling]:
    """Run one test of a program with an interactor.

    Raises:
        ExecutorError: the platform could not run one of them.
    """
    # The test's input is the interactor's: what the program is to know of it, that tells it.
    program = msgspec.structs.replace(program, stdin=b"")
    if interactor.broken is not None:
        outcome = await series.run(program, artifact)
        return outcome, failure("interactor", interactor.broken)
    talk = Conversation(program.limits, ceiling)
    limits = msgspec.structs.replace(program.limits, wall_time_s=talk.wall_time_s)
    theirs = interactor.program_for(test)
    their_limits = msgspec.structs.replace(
        theirs.limits, wall_time_s=talk.wall_time_s, output_kb=min(SAID_KB, ceiling.output_kb)
    )
    theirs = msgspec.structs.replace(theirs, limits=their_limits)
    try:
        async with asyncio.TaskGroup() as group:
            ours = msgspec.structs.replace(program, limits=limits)
            running = group.create_task(series.run(ours, artifact, talk.program))
            judging = group.create_task(
                interactor.series.run(theirs, interactor.artifact, talk.interactor)
            )
            return await group.create_task(talk.hold(running, judging))
    except ExceptionGroup as errors:
        # The first says what went wrong; the others were cancelled for it.
        raise errors.exceptions[0] from None
