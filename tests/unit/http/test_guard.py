"""The bounds of what clients may hold, with a clock turned by hand."""

from __future__ import annotations

import pytest
from aiohttp.web_protocol import RequestHandler

from crucible.http.guard import MOST_REFUSED, ConnectionGuard, Fault, Limits, Part

LIMITS = Limits(
    head_s=10,
    grace_s=20,
    rate=100,
    body_bytes=1000,
    held_bytes=2500,
    connections=3,
    connections_of_address=2,
)


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Connection:
    """Notes why it was ended."""

    def __init__(self) -> None:
        self.ended: list[Fault] = []
        self.closing = self.aborted = False

    def is_closing(self) -> bool:
        """As told."""
        return self.closing

    def abort(self) -> None:
        """Note it."""
        self.aborted = True

    def end(self, fault: Fault) -> None:
        """Note it."""
        self.ended.append(fault)


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> ConnectionGuard:
    """A guard with small bounds."""
    return ConnectionGuard(LIMITS, clock)


def test_a_head_has_its_seconds_from_its_first_byte(guard: ConnectionGuard, clock: Clock) -> None:
    """However often another byte of it comes."""
    connection = Connection()
    for _ in range(10):
        guard.received(connection, Part.HEAD, 1)
        guard.sweep()
        clock.now_s += 1
    assert not connection.ended
    clock.now_s += 0.1
    guard.sweep()
    guard.sweep()
    assert connection.ended == [Fault.HEAD_TIMEOUT]
    assert guard.faults == {Fault.HEAD_TIMEOUT: 1}


def test_a_body_lives_as_long_as_it_makes_progress(guard: ConnectionGuard, clock: Clock) -> None:
    """At the least rate or above it goes on for ever; below it ends, and so does silence."""
    steady, slow, silent = Connection(), Connection(), Connection()
    guard.received(steady, Part.HEAD, 10)
    clock.now_s += 9  # a head's seconds are no body's
    guard.received(silent, Part.BODY, 1)
    for _ in range(9):
        guard.received(steady, Part.BODY, 110)
        guard.received(slow, Part.BODY, 10)
        clock.now_s += 1
        guard.sweep()
    assert [c.ended for c in (steady, slow, silent)] == [[], [], []]
    for _ in range(14):
        clock.now_s += 1
        guard.sweep()
    assert (steady.ended, slow.ended, silent.ended) == (
        [],
        [Fault.BODY_TIMEOUT],
        [Fault.BODY_TIMEOUT],
    )
    guard.complete(steady)
    clock.now_s += 1000
    guard.sweep()
    assert (steady.ended, guard.held_bytes) == ([], 0)


def test_the_oldest_unfinished_bodies_make_room_for_new_ones(guard: ConnectionGuard) -> None:
    """Together they hold no more than the bound; a body that is too long counts as a full one."""
    connections = [Connection() for _ in range(5)]
    for connection in connections:
        guard.received(connection, Part.BODY, 400)
        guard.received(connection, Part.BODY, 10_000)
        assert guard.held_bytes <= LIMITS.held_bytes
    assert [c.ended for c in connections] == [[Fault.UNFINISHED_BODIES]] * 3 + [[], []]
    assert guard.held_bytes == 2000
    assert guard.left(connections[4])
    assert not guard.left(connections[0])
    assert guard.held_bytes == 1000


def test_answers_that_nobody_reads_are_bounded_in_bytes_and_time(
    guard: ConnectionGuard, clock: Clock
) -> None:
    """The oldest go first; one that is read in time stays, the bigger the longer."""
    first, second, third = Connection(), Connection(), Connection()
    guard.unread(first, 1000)
    guard.unread(second, 500)
    guard.unread(third, 1500)
    assert (first.ended, guard.held_bytes) == ([Fault.UNREAD_ANSWERS], 2000)
    guard.read(second)
    clock.now_s += 34
    guard.sweep()
    assert not third.ended
    clock.now_s += 2
    guard.sweep()
    assert third.ended == [Fault.ANSWER_TIMEOUT]
    assert (second.ended, guard.held_bytes) == ([], 0)


def test_an_answer_above_the_bound_is_sent_all_the_same(guard: ConnectionGuard) -> None:
    """A result that was computed can be fetched, whatever it costs the answers before it."""
    before, large, after = Connection(), Connection(), Connection()
    guard.unread(before, 1000)
    guard.unread(large, 10_000)
    assert (before.ended, large.ended) == ([Fault.UNREAD_ANSWERS], [])
    guard.unread(after, 100)
    assert (large.ended, after.ended) == ([Fault.UNREAD_ANSWERS], [])


def test_what_waits_behind_an_answer_has_no_deadline(guard: ConnectionGuard, clock: Clock) -> None:
    """The server does not read it, so the client cannot hurry; it counts all the same."""
    connection = Connection()
    guard.received(connection, Part.HELD, 700)
    clock.now_s += 1000
    guard.sweep()
    assert (connection.ended, guard.held_bytes) == ([], 700)
    assert not guard.left(connection)


def test_closing_has_a_deadline(guard: ConnectionGuard, clock: Clock) -> None:
    """Also where too little is left for the transport to complain."""
    connection = Connection()
    assert guard.admit(connection, "a") is None
    guard.sweep()
    connection.closing = True
    guard.sweep()
    clock.now_s += 19.9
    guard.sweep()
    assert not connection.ended
    for _ in range(3):
        clock.now_s += 20
        guard.sweep()
    assert connection.ended == [Fault.ANSWER_TIMEOUT]


def test_connections_are_bounded_in_all_and_of_one_address(guard: ConnectionGuard) -> None:
    """Those that leave make room; Unix sockets have no address."""
    connections = [Connection() for _ in range(4)]
    assert [guard.admit(c, "a") for c in connections[:3]] == [
        None,
        None,
        Fault.CONNECTIONS_OF_ADDRESS,
    ]
    assert guard.admit(connections[2], "b") is None
    assert guard.admit(connections[3], "c") is Fault.CONNECTIONS
    guard.left(connections[0])
    assert guard.admit(connections[3], "a") is None
    assert len(guard) == 3
    for connection in connections:
        guard.left(connection)
    assert [guard.admit(c, "") for c in connections[:3]] == [None] * 3


def test_few_refused_connections_are_kept_for_an_answer(guard: ConnectionGuard) -> None:
    """Or they would be the next way to hold many."""
    connections = [Connection() for _ in range(MOST_REFUSED)]
    assert all(map(guard.keep_refused, connections))
    assert not guard.keep_refused(Connection())
    guard.left(connections[0])
    assert guard.keep_refused(connections[0])
    guard.close()
    assert all(connection.aborted for connection in connections)


def test_the_installed_aiohttp_has_what_guarded_connections_build_on() -> None:
    """Fails when an upgrade renames it."""
    for name in ("_current_request", "_force_close", "_loop", "_messages", "_paused",
                 "_request_count", "_task_handler", "_waiter"):  # fmt: skip
        assert hasattr(RequestHandler, name)
