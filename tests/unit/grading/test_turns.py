from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crucible.grading.turns import Overdue, Side, Turns

P, J = Side.PROGRAM, Side.INTERACTOR


def test_only_its_own_turns_count() -> None:
    """The program has its limit for all of its turns, the interactor for each of its."""
    turns = Turns(program_s=1.0, interactor_s=10.0, now_s=0.0)
    turns.spoke(P, 0.4)
    assert (turns.program_s(5.0), turns.left_s(5.0)) == (0.4, 10.0 - 4.6)
    turns.spoke(P, 5.0)  # more of the same
    turns.spoke(J, 9.0)
    assert turns.program_s(9.5) == 0.9
    assert turns.overdue(9.5) is None
    turns.used(P, 5.0)
    assert turns.overdue(9.7) is Overdue.PROGRAM


def test_who_computes_is_slow() -> None:
    """In either's turn; processor time of turns before does not count."""
    turns = Turns(1.0, 1.0, 0.0)
    turns.used(J, 0.9)
    turns.spoke(P, 0.5)
    assert turns.overdue(1.6) is Overdue.BOTH_WAIT
    turns.used(J, 1.5)
    assert turns.overdue(1.6) is Overdue.INTERACTOR


def test_half_a_line_and_a_long_thought() -> None:
    """A program that said something and computes on is the slow one."""
    turns = Turns(1.0, 1.0, 0.0)
    turns.spoke(P, 0.1)
    turns.used(P, 0.9)
    assert turns.overdue(1.2) is Overdue.PROGRAM


def test_what_every_turn_needs_is_not_computing() -> None:
    """Where a crowded machine left a turn little time, to have read the answer is no thinking."""
    turns = Turns(0.5, 10.0, 0.0)
    turns.used(P, 0.012)
    turns.spoke(P, 0.45)
    turns.spoke(J, 0.46)
    turns.used(P, 0.014)
    assert turns.overdue(0.52) is Overdue.BOTH_WAIT
    turns.used(P, 0.024)
    assert turns.overdue(0.52) is Overdue.PROGRAM


@given(st.lists(st.tuples(st.sampled_from(Side), st.floats(0, 10))))
def test_time_of_turns_adds_up(events: list[tuple[Side, float]]) -> None:
    """The program's turns are never more than all the time, and never shrink."""
    turns, now, before = Turns(1e9, 1e9, 0.0), 0.0, 0.0
    for side, step in events:
        now += step
        turns.spoke(side, now)
        spent = turns.program_s(now)
        assert before <= spent <= now + 1e-9
        before = spent
        assert turns.overdue(now) is None
