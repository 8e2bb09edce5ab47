"""Which tenant gets a lane, and which has to give one up: decided without any I/O."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.executor.nested.lane import HARMLESS
from crucible.executor.nested.policy import TURN_PROGRAMS, LaneCounts, LanePolicy, gives_up
from crucible.executor.turns import Turns
from crucible.models import Verdict

POLICY = LanePolicy(lanes_max=4, max_waiting=8, refill=2, idle_s=60.0)
counts = st.builds(LaneCounts, **dict.fromkeys(LaneCounts.__struct_fields__, st.integers(0, 6)))
tenants = st.sampled_from("abcdef")


@given(counts=counts, missing=st.integers(0, 20))
def test_no_more_lanes_than_may_be(counts: LaneCounts, missing: int) -> None:
    """Preparing what is said never makes too many lanes, nor too many at once."""
    begun = POLICY.to_prepare(counts, missing)
    assert 0 <= begun <= missing
    if begun:
        assert counts.preparing + begun <= POLICY.refill
        assert counts.total + max(0, begun - counts.parked) <= max(POLICY.lanes_max, counts.total)


def test_the_engine_does_one_thing_at_a_time_while_a_lane_is_ready() -> None:
    """Two at once would leave no processor to programs; somebody who waits is worth it."""
    policy = LanePolicy(lanes_max=8, max_waiting=8, refill=2, idle_s=60.0)
    assert policy.to_prepare(LaneCounts(fresh=1), 2) == 1
    assert policy.to_prepare(LaneCounts(fresh=2, preparing=1), 2) == 0
    assert policy.to_prepare(LaneCounts(fresh=2, settling=1), 2) == 0
    assert policy.to_prepare(LaneCounts(), 2) == 2
    assert policy.to_prepare(LaneCounts(settling=1), 2) == 2
    assert policy.to_prepare(LaneCounts(fresh=2, waiting=1), 2) == 2


@given(counts=counts)
def test_the_line_has_an_end(counts: LaneCounts) -> None:
    """So many programs wait and no more."""
    assert POLICY.admits(counts) == (counts.waiting < POLICY.max_waiting)


@pytest.mark.parametrize(("expected", "spare"), [(0.0, 1), (0.3, 1), (1.0, 2), (4.0, 6)])
def test_spare_lanes_follow_demand(expected: float, spare: int) -> None:
    """One is ready at least, and enough for what comes while one is prepared."""
    assert POLICY.spare(expected) == spare


def test_a_lane_at_rest_goes_only_where_it_is_in_the_way() -> None:
    """That is when there is room for no other and somebody waits for one that is not coming."""
    full = LaneCounts(idle=4)
    assert POLICY.is_in_the_way(full, 1)
    assert not POLICY.is_in_the_way(full, 0)
    assert not POLICY.is_in_the_way(LaneCounts(idle=3, settling=1), 1)
    assert not POLICY.is_in_the_way(LaneCounts(idle=3), 1)


@pytest.mark.parametrize(
    ("good", "served", "reason"),
    [(True, 1, ""), (True, 63, ""), (True, 64, "programs"), (False, 1, "verdict")],
)
def test_when_a_lane_is_restarted(good: bool, served: int, reason: str) -> None:
    """After so many programs, and after the first that did not come to its own end."""
    assert POLICY.restart(good=good, served=served) == reason


@pytest.mark.parametrize(
    ("clean", "uses", "reason"),
    [(True, 1, ""), (True, 999, ""), (True, 1000, "used_up"), (False, 1, "unclean")],
)
def test_when_its_container_goes(clean: bool, uses: int, reason: str) -> None:
    """What is not known to be sound is never restarted."""
    assert POLICY.removal(clean=clean, uses=uses) == reason


def test_only_ends_of_their_own_are_harmless() -> None:
    """Any other verdict ends the lane."""
    assert {Verdict.OK, Verdict.NONZERO_EXIT} == HARMLESS


def test_failures_are_tried_again_ever_later() -> None:
    """From a tenth of a second to five seconds."""
    pauses = [POLICY.backoff_s(failures) for failures in (1, 2, 3, 50)]
    assert pauses == [0.1, 0.2, 0.4, 5.0]


@given(waiting=st.sets(tenants, min_size=1), held=st.dictionaries(tenants, st.integers(0, 5)))
def test_who_has_least_is_next(waiting: set[str], held: dict[str, int]) -> None:
    """No waiting tenant has fewer lanes than the one that is next."""
    chosen = Turns().next_tenant(waiting, held)
    assert chosen in waiting
    assert held.get(chosen, 0) == min(held.get(tenant, 0) for tenant in waiting)


@given(waiting=st.sets(tenants, min_size=1), rounds=st.integers(1, 30))
def test_equals_take_turns(waiting: set[str], rounds: int) -> None:
    """Nobody is served twice more often than another that waited all the time."""
    turns, served = Turns(), Counter[str]()
    for _ in range(rounds):
        tenant = turns.next_tenant(waiting, {})
        turns.serve(tenant)
        served[tenant] += 1
    times = [served[tenant] for tenant in waiting]
    assert max(times) - min(times) <= 1


def test_the_forgotten_are_strangers_again() -> None:
    """What is known of tenants does not grow with everybody who ever came."""
    turns = Turns()
    turns.serve("a")
    turns.forget({"b"})
    turns.serve("b")
    assert turns.next_tenant({"a", "b"}, {}) == "a"


@given(waiting=st.sets(tenants), held=st.dictionaries(tenants, st.integers(0, 5)))
def test_a_tenant_alone_keeps_its_lanes(waiting: set[str], held: dict[str, int]) -> None:
    """Whatever else there is, a lane goes only where somebody else waits."""
    assert not gives_up("a", waiting & {"a"}, {**held, "a": 3}, 10_000)


@pytest.mark.parametrize(
    ("waiting", "held", "programs", "goes"),
    [
        ("b", {"a": 1}, 1, True),  # it has nothing to run itself
        ("ab", {"a": 3}, 1, True),  # two more than another
        ("ab", {"a": 2, "b": 1}, 1, False),
        ("ab", {"a": 1}, 1, False),  # its turn is not over
        ("ab", {"a": 1}, TURN_PROGRAMS, True),
        ("ab", {"a": 1, "b": 1}, 10_000, False),  # each has its own
        ("", {"a": 1}, 1, False),
    ],
)
def test_when_a_lane_goes_to_others(
    waiting: str, held: dict[str, int], programs: int, goes: bool
) -> None:
    """At once from who has much more, after a turn where another has none."""
    assert gives_up("a", set(waiting), held, programs) is goes


@given(
    lanes=st.integers(1, 4),
    many=st.integers(50, 400),
    others=st.lists(st.integers(1, 5), min_size=1, max_size=5),
)
def test_one_with_many_does_not_starve_others(lanes: int, many: int, others: list[int]) -> None:
    """However many programs one tenant has waiting, every other begins within a few turns."""
    waiting = {"big": many, **{f"t{n}": count for n, count in enumerate(others)}}
    first = _simulate(lanes, waiting)
    slowest = max(first[tenant] for tenant in waiting)
    assert slowest <= (len(waiting) + 1) * (TURN_PROGRAMS + 1)


def _simulate(lanes: int, waiting: dict[str, int]) -> dict[str, int]:
    """Rounds until each tenant's first program, every lane running one program a round."""
    turns, first = Turns(), dict[str, int]()
    running: deque[tuple[str, int]] = deque([("", 0)] * lanes)
    for now in range(10_000):
        if len(first) == len(waiting):
            break
        for _ in range(lanes):
            tenant, programs = running.popleft()
            held = Counter(t for t, _ in running if t)
            held[tenant] += 1
            left = [t for t, count in waiting.items() if count]
            if not left:
                running.append((tenant, programs))
                continue
            if tenant not in left or gives_up(tenant, left, held, programs):
                held[tenant] -= 1
                tenant, programs = turns.next_tenant(left, held), 0
                turns.serve(tenant)
            waiting[tenant] -= 1
            first.setdefault(tenant, now)
            running.append((tenant, programs + 1))
    return first
