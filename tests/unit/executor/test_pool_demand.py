"""The pool's rules over time, with a clock turned by hand and an engine of numbers.

What is simulated is one engine with two processors that its work shares, as on the machine where
one program in twenty found no sandbox ready at half of what that engine could do.
"""

from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING

import pytest

from crucible.executor.pool import REFILL_DELAY_S
from crucible.executor.pool_policy import Demand, PoolCounts, PoolPolicy
from crucible.executor.upkeep import SETTLE_DELAY_S

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY = PoolPolicy(pool_min=2, pool_max=8, max_waiting=256, refill=2, max_age_s=600.0)
PROCESSORS = 2.0
#: Processor seconds that the engine takes to start a container, and to see it off.
START_S, STOP_S = 0.078, 0.045
RUN_S = 0.006


class Simulation:
    """A pool without containers: counts, a queue of events, and engine work that shares time."""

    def __init__(self, seed: int) -> None:
        self.now_s = 0.0
        self.demand = Demand()
        self.idle = self.busy = self.preparing = self.settling = self.parked = 0
        self.waiting: list[float] = []
        self.waits_s: list[float] = []
        self.paused = False
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._work: dict[int, tuple[float, Callable[[], None]]] = {}
        self._number = 0

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (self.now_s + delay_s, self._number, do))

    def engine(self, processor_s: float, then: Callable[[], None]) -> None:
        self._number += 1
        self._work[self._number] = (processor_s * self._random.uniform(0.85, 1.3), then)

    def run(self, until_s: float) -> None:
        while self.now_s < until_s:
            share = 0.0 if self.paused or not self._work else min(1.0, PROCESSORS / len(self._work))
            first = min(self._work, key=lambda key: self._work[key][0], default=0)
            done_s = self.now_s + self._work[first][0] / share if share else math.inf
            event_s = self._events[0][0] if self._events else math.inf
            at_s = min(done_s, event_s, until_s)
            passed = (at_s - self.now_s) * share
            self._work = {key: (left - passed, do) for key, (left, do) in self._work.items()}
            self.now_s = at_s
            if at_s == done_s:
                self._work.pop(first)[1]()
            elif at_s == event_s:
                heapq.heappop(self._events)[2]()

    def balance(self) -> None:
        counts = PoolCounts(
            idle=self.idle,
            busy=self.busy,
            preparing=self.preparing,
            settling=self.settling,
            parked=self.parked,
            waiting=len(self.waiting),
        )
        expected = self.demand.during_preparation(self.now_s)
        for _ in range(POLICY.to_prepare(counts, expected)):
            self.parked -= bool(self.parked)
            self.preparing += 1
            began_s = self.now_s
            self.engine(START_S, lambda began_s=began_s: self.ready(began_s))  # type: ignore[misc]

    def ready(self, began_s: float) -> None:
        self.preparing -= 1
        self.demand.prepared(self.now_s - began_s)
        self.idle += 1
        if self.waiting:
            self.lend(self.waiting.pop(0))
        self.balance()

    def arrive(self) -> None:
        self.demand.arrived(self.now_s)
        if self.idle and not self.waiting:
            self.lend(self.now_s)
            self.after(REFILL_DELAY_S if self.idle else 0.0, self.balance)
        else:
            self.waiting.append(self.now_s)
            self.balance()

    def lend(self, asked_s: float) -> None:
        self.idle -= 1
        self.busy += 1
        self.waits_s.append(self.now_s - asked_s)
        self.after(RUN_S, self.end)

    def end(self) -> None:
        self.busy -= 1
        self.settling += 1
        self.after(SETTLE_DELAY_S, lambda: self.engine(STOP_S, self.stopped))

    def stopped(self) -> None:
        self.settling -= 1
        self.parked += 1
        self.balance()

    def load(self, gaps_s: Callable[[], float], seconds: float) -> list[float]:
        """Programs for some seconds; how long each waited for a sandbox."""
        until_s, before = self.now_s + seconds, len(self.waits_s)

        def next_one() -> None:
            if self.now_s < until_s:
                self.arrive()
                self.after(gaps_s(), next_one)

        next_one()
        self.run(until_s)
        return self.waits_s[before:]


def saturated(seed: int) -> Simulation:
    """A pool that was filled, and then asked for more than the engine can do."""
    simulation = Simulation(seed)
    simulation.balance()
    simulation.run(4.0)
    simulation.load(lambda: 1 / 20, 5.0)
    simulation.run(simulation.now_s + 3.0)
    return simulation


def misses(waits_s: list[float]) -> float:
    return sum(wait_s > 0 for wait_s in waits_s) / len(waits_s)


@pytest.mark.parametrize("seed", range(5))
def test_few_programs_find_no_sandbox_at_half_load(seed: int) -> None:
    """Programs that come at random, at half of saturation, nearly always find one ready."""
    simulation = saturated(seed)
    gaps = random.Random(seed)
    assert misses(simulation.load(lambda: gaps.expovariate(7.0), 60.0)) < 0.02


def test_a_bad_moment_of_the_engine_is_bridged() -> None:
    """An engine that does nothing for most of a second, now and then, lets nobody wait."""
    simulation = saturated(1)

    def pause() -> None:
        simulation.paused = True
        simulation.after(0.7, resume)

    def resume() -> None:
        simulation.paused = False
        simulation.after(6.0, pause)

    simulation.load(lambda: 1 / 6.5, 5.0)
    pause()
    assert misses(simulation.load(lambda: 1 / 6.5, 60.0)) == 0


def test_a_pool_that_nobody_asks_shrinks_again() -> None:
    """What demand built up goes, one at a look, once it is over."""
    simulation = saturated(1)
    assert simulation.idle == POLICY.pool_max
    expected = simulation.demand.during_preparation(simulation.now_s + 60.0)
    assert POLICY.to_retire(PoolCounts(idle=8), expected) == 1
    assert POLICY.wanted_idle(PoolCounts(), expected) == POLICY.pool_min
