"""Whose turn it is when a program talks to an interactor, and which of them took too long. Pure.

It is the turn of whoever was spoken to last, from the first byte on: the program's at first. Only
the time of its own turns counts against the program's wall limit. When a turn is over its limit the
processor says what it was spent on: one that computed was slow; where neither did, both wait for
the other, usually because the program did not end or did not flush its last line.
"""

from __future__ import annotations

import enum

#: A side that used the processor for this share of a turn was computing, and not waiting. Low,
#: since on a crowded machine one that computes gets only a little; one that waits uses none.
BUSY_SHARE = 0.02
#: Seconds of the processor that no turn counts as computing: to read an answer, and to be looked
#: after by the supervisor, which the kernel accounts with the program, takes a few milliseconds
#: however short the turn.
BUSY_LEAST_S = 0.01


class Side(enum.Enum):
    """Who talks."""

    PROGRAM = "program"
    INTERACTOR = "interactor"


class Overdue(enum.Enum):
    """What is wrong when a turn has taken too long."""

    PROGRAM = "the program was slow to answer"
    INTERACTOR = "the interactor was slow to answer"
    BOTH_WAIT = "both wait for the other"


class Turns:
    """The clock of one conversation. Times are seconds of any one clock.

    Args:
        program_s: what all turns of the program may take together.
        interactor_s: what one turn of the interactor may take.
        now_s: when it begins.
    """

    def __init__(self, program_s: float, interactor_s: float, now_s: float) -> None:
        self._limits_s = {Side.PROGRAM: program_s, Side.INTERACTOR: interactor_s}
        self._turn = Side.PROGRAM
        self._since_s = now_s
        self._spent_s = 0.0
        self._cpu_s = dict.fromkeys(Side, 0.0)
        self._cpu_before_s = dict.fromkeys(Side, 0.0)

    def spoke(self, side: Side, now_s: float) -> None:
        """A side said something: it is the other's turn, unless it was already."""
        if side is self._turn:
            other = Side.INTERACTOR if side is Side.PROGRAM else Side.PROGRAM
            self._begin(other, now_s)

    def used(self, side: Side, cpu_s: float) -> None:
        """A side has used so much of the processor in all."""
        self._cpu_s[side] = max(self._cpu_s[side], cpu_s)

    def program_s(self, now_s: float) -> float:
        """What the program's turns have taken."""
        running = now_s - self._since_s if self._turn is Side.PROGRAM else 0.0
        return self._spent_s + running

    def left_s(self, now_s: float) -> float:
        """Seconds until this turn is over its limit."""
        if self._turn is Side.PROGRAM:
            return self._limits_s[Side.PROGRAM] - self.program_s(now_s)
        return self._limits_s[Side.INTERACTOR] - (now_s - self._since_s)

    def overdue(self, now_s: float) -> Overdue | None:
        """What is wrong; None while the turn is within its limit."""
        if self.left_s(now_s) > 0:
            return None
        if self._busy(self._turn, now_s):
            slow = {Side.PROGRAM: Overdue.PROGRAM, Side.INTERACTOR: Overdue.INTERACTOR}
            return slow[self._turn]
        # Speaking does not end a program's thinking: it may go on after half a line.
        if self._busy(Side.PROGRAM, now_s):
            return Overdue.PROGRAM
        return Overdue.BOTH_WAIT

    def _busy(self, side: Side, now_s: float) -> bool:
        spent_s = self._cpu_s[side] - self._cpu_before_s[side]
        return spent_s >= max(BUSY_LEAST_S, BUSY_SHARE * (now_s - self._since_s))

    def _begin(self, side: Side, now_s: float) -> None:
        if self._turn is Side.PROGRAM:
            self._spent_s += now_s - self._since_s
        self._turn, self._since_s = side, now_s
        self._cpu_before_s = dict(self._cpu_s)
