"""The judge of dead workers, against a simulated server, fleet and clocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from crucible.broker.claiming.recovery.continuity import (
    MAX_DRIFT_S,
    MAX_GAP_S,
    Continuity,
    Sight,
)
from crucible.redis_keys import WORKER_TTL_S

TICK_S = 0.1
#: Shorter than what counts as a gap, and longer.
AWAY_S = st.floats(0.1, 1.5) | st.floats(0.1, 40.0)


def sight(at: float, *, server: float | None = None, took: float = 0.0, who: str = "a") -> Sight:
    """A write sent at a moment; the server's clock reads the same unless said otherwise."""
    return Sight(at, at + took, at if server is None else server, who)


def watched(*sights: Sight) -> Continuity:
    """What was seen so far."""
    continuity = Continuity()
    for one in sights:
        continuity.saw(one)
    return continuity


def every_second(start: int, end: int, **options: Any) -> list[Sight]:
    return [sight(float(at), **options) for at in range(start, end + 1)]


def test_nothing_is_judged_before_a_lifetime_was_seen() -> None:
    """A worker that has just started, or just found the server, knows nothing about the others."""
    assert not Continuity().is_whole(100.0)
    assert not watched(*every_second(0, 8)).is_whole(8.0)
    assert watched(*every_second(0, 9)).is_whole(9.0)


def test_what_was_seen_does_not_last() -> None:
    """A sweep that was held up may have held up the heartbeats as well."""
    assert not watched(*every_second(0, 9)).is_whole(9.0 + MAX_GAP_S + 0.1)


@pytest.mark.parametrize(
    ("next_sight", "reason"),
    [
        (sight(13.0), "not seen for 4.0 s"),
        (sight(10.0, took=2.0), "not seen for 3.0 s"),
        (sight(10.0, server=12.0), "clock went 12.0 s in 10.0 s"),
        (sight(10.0, server=8.5), "clock went 8.5 s in 10.0 s"),
        (sight(10.0, who="b"), "started anew"),
    ],
)
def test_each_break_begins_anew(next_sight: Sight, reason: str) -> None:
    """A gap, a slow answer, a clock that jumps either way, another process of the server."""
    continuity = watched(*every_second(0, 9), next_sight)
    assert not continuity.is_whole(next_sight.answered_at)
    assert reason in continuity.last_break


def test_a_clock_that_is_only_wrong_or_drifts_a_little_is_fine() -> None:
    """The server's clock may be hours away from ours; only how fast it goes counts."""
    sights = [sight(float(at), server=5000 + at * 1.05) for at in range(10)]
    assert watched(*sights).is_whole(9.0)
    assert MAX_DRIFT_S > 9 * 0.05


@dataclass
class Worker:
    """A worker of the simulated fleet."""

    name: str
    dead_at: float | None = None
    renew_at: float = 0.0


@dataclass
class Server:
    """A server that expires heartbeats by its own clock."""

    offset: float = 1000.0
    process: int = 0
    up: bool = True
    heartbeats: dict[str, float] = field(default_factory=dict)
    older: dict[str, float] = field(default_factory=dict)


class Fleet(RuleBasedStateMachine):
    """Three workers renew every 3 s, one of them sweeps every second, and the server suffers."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.server = Server()
        self.workers = [Worker(name, renew_at=number) for number, name in enumerate("xyz")]
        self.continuity = Continuity()
        self.sweep_at = 0.0
        self.quiet_since = 0.0
        self.judged: dict[str, float] = {}
        self.wrong: list[str] = []

    @initialize()
    def begin(self) -> None:
        """All is well for a while."""
        self._run(12.0)

    def _run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            if self.server.up:
                self._renew()
                self._sweep()

    def _renew(self) -> None:
        clock = self.now + self.server.offset
        for worker in self.workers:
            if worker.dead_at is None and self.now >= worker.renew_at:
                self.server.heartbeats[worker.name] = clock + WORKER_TTL_S
                worker.renew_at = self.now + WORKER_TTL_S / 3

    def _sweep(self) -> None:
        if self.now < self.sweep_at:
            return
        self.sweep_at = self.now + 1.0
        clock = self.now + self.server.offset
        self.continuity.saw(Sight(self.now, self.now, clock, str(self.server.process)))
        if not self.continuity.is_whole(self.now):
            return
        for worker in self.workers:
            if self.server.heartbeats.get(worker.name, 0.0) <= clock:
                self.judged.setdefault(worker.name, self.now)
                if worker.dead_at is None:
                    self.wrong.append(f"{worker.name} at {self.now:.1f}")

    @rule(seconds=st.floats(0.5, 20.0))
    def time_passes(self, seconds: float) -> None:
        """Nothing happens."""
        self._run(seconds)

    @rule(seconds=AWAY_S, again=st.floats(0.0, 1.0), lost=st.booleans())
    def server_restarts(self, seconds: float, again: float, lost: bool) -> None:
        """It is away, comes back as another process, and may have lost its last writes."""
        if lost:
            self.server.heartbeats = {}
        self.server.process += 1
        self._away(seconds, again)

    @rule(seconds=AWAY_S, again=st.floats(0.0, 1.0))
    def server_is_frozen(self, seconds: float, again: float) -> None:
        """It does not answer, or refuses, and goes on as it was."""
        self._away(seconds, again)

    @rule(seconds=st.floats(1.5, 4000.0))
    def server_clock_jumps(self, seconds: float) -> None:
        """Somebody sets its clock forward: all that was to expire in between is gone."""
        self.server.offset += seconds
        self.quiet_since = self.now

    @rule(seconds=st.floats(1.5, 40.0))
    def hosts_are_suspended(self, seconds: float) -> None:
        """Monotonic clocks stand still on every host; the server's wall clock does not."""
        self.server.offset += seconds
        self.quiet_since = self.now

    @rule(seconds=st.floats(3.0, 40.0))
    def sweeper_is_held_up(self, seconds: float) -> None:
        """Its loop does nothing while the others go on."""
        self.sweep_at = self.now + seconds
        self._run(seconds)
        self.quiet_since = self.now

    @rule(which=st.sampled_from("xyz"))
    def worker_dies(self, which: str) -> None:
        """SIGKILL."""
        for worker in self.workers:
            if worker.name == which and worker.dead_at is None:
                worker.dead_at = self.now

    def _away(self, seconds: float, again: float) -> None:
        self.server.up = False
        self._run(seconds)
        self.server.up = True
        for worker in self.workers:
            if worker.renew_at < self.now:
                # Loops that failed pause for up to a second.
                worker.renew_at = self.now + again
        # Whoever flaps shows everybody at least this much between.
        self._run(1.5)
        self.quiet_since = self.now

    @invariant()
    def nobody_who_lives_is_judged(self) -> None:
        """No worker lost its claims while it lived."""
        assert not self.wrong

    @invariant()
    def the_dead_are_found_in_time(self) -> None:
        """In normal operation within 15 s; after anything else, 15 s after that."""
        for worker in self.workers:
            if worker.dead_at is not None and worker.name not in self.judged:
                assert self.now - max(worker.dead_at, self.quiet_since) < 15.0


Fleet.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestFleet = Fleet.TestCase
