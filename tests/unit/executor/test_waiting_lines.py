"""Programs that wait for a sandbox or a lane: whose turn it is, and what each gets."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from crucible.errors import ExecutorUnavailable
from crucible.executor.nested.waiting import LaneLine, LaneWaiter
from crucible.executor.sandbox import Shape
from crucible.executor.turns import Turns
from crucible.executor.waiting import Waiter, WaitingLine

USUAL, LARGE = Shape(disk_mb=64), Shape(disk_mb=128)


class Lent:
    """As much of a sandbox, or of a lane, as a line looks at."""

    def __init__(self, shape: Shape = USUAL, tenant: str = "") -> None:
        self.shape = shape
        self.tenant = tenant


def lent(shape: Shape = USUAL, tenant: str = "") -> Any:
    """One that is ready."""
    return Lent(shape, tenant)


async def test_many_of_one_do_not_keep_anothers_one_waiting() -> None:
    """With a sandbox for each program tenants take turns, each in order of arrival."""
    line = WaitingLine(USUAL)
    many = [line.join(Waiter(USUAL, "many")) for _ in range(100)]
    one = line.join(Waiter(USUAL, "one"))
    for _ in range(2):
        assert line.serve(lent())
    assert one.future.done()
    assert [waiter.future.done() for waiter in many] == [True] + [False] * 99


async def test_a_lane_goes_to_its_own_tenant_or_to_who_has_fewest() -> None:
    """One that is nobody's goes to whoever has fewest, however many of another wait."""
    line, turns = LaneLine(), Turns()
    many = [line.join(LaneWaiter(USUAL, "many")) for _ in range(100)]
    one = line.join(LaneWaiter(USUAL, "one"))
    held = Counter({"many": 1})
    assert line.next_for(lent(), turns, held) is one
    assert line.next_for(lent(tenant="one"), turns, held) is None
    assert line.next_for(lent(LARGE), turns, held) is None
    assert line.next_for(lent(tenant="many"), turns, held) is many[0]
    assert line.tenants == {"many"}
    assert len(line) == 99


async def test_those_that_no_lane_on_its_way_will_serve() -> None:
    """Lanes that are being prepared are for the first of their shape."""
    line = LaneLine()
    waiters = [line.join(LaneWaiter(shape, "a")) for shape in (USUAL, LARGE, USUAL, USUAL)]
    assert line.unserved(Counter()) == waiters
    assert line.unserved(Counter({USUAL: 2})) == [waiters[1], waiters[3]]


async def test_a_lane_handed_to_who_leaves_comes_back() -> None:
    """Between picked and taken nobody has it; who only waited has none to give."""
    line = LaneLine()
    picked, waiting = line.join(LaneWaiter(USUAL, "a")), line.join(LaneWaiter(USUAL, "a"))
    lane = lent(tenant="a")
    assert line.next_for(lane, Turns(), Counter()) is picked
    picked.future.set_result(lane)
    assert line.leave(picked) is lane
    assert line.leave(waiting) is None
    assert len(line) == 0


async def test_who_has_given_up_gets_nothing() -> None:
    """A cancelled future is passed over."""
    line = LaneLine()
    gone, there = line.join(LaneWaiter(USUAL, "a")), line.join(LaneWaiter(USUAL, "a"))
    gone.future.cancel()
    assert line.next_for(lent(), Turns(), Counter()) is there


async def test_only_those_of_a_shape_are_disappointed() -> None:
    """Whoever waits for another may still get it."""
    line = LaneLine()
    usual, large = line.join(LaneWaiter(USUAL, "a")), line.join(LaneWaiter(LARGE, "a"))
    line.disappoint(ExecutorUnavailable("no room"), LARGE)
    with pytest.raises(ExecutorUnavailable, match="no room"):
        await large.future
    assert not usual.future.done()
    line.disappoint(ExecutorUnavailable("closing"))
    with pytest.raises(ExecutorUnavailable, match="closing"):
        async with asyncio.timeout(60):
            await usual.future
