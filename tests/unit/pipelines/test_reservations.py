"""Who gets which resources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import InputError
from crucible.pipelines.resources import Reservation, check_amounts, decide, parse_resources

HAVE = {"gpu0": 1, "slots": 4}
TTL_MS = 30_000


class Line:
    """The hash of all reservations, and a clock."""

    def __init__(self) -> None:
        self.kept: dict[str, Reservation] = {}
        self.now_ms = 0

    def ask(self, holder: str, **wanted: int) -> bool:
        self.now_ms += 1
        made = decide(holder, wanted, self.kept, HAVE, self.now_ms, TTL_MS)
        for name in made.lapsed:
            del self.kept[name]
        self.kept[holder] = made.reservation
        return made.reservation.granted

    def used(self, name: str) -> int:
        alive = [one for one in self.kept.values() if one.until_ms > self.now_ms and one.granted]
        return sum(one.amounts.get(name, 0) for one in alive)


def test_first_come_first_served() -> None:
    """Who waits gets it before who came later, however often that one asks."""
    line = Line()
    assert line.ask("a", gpu0=1)
    assert not line.ask("b", gpu0=1)
    assert not line.ask("c", gpu0=1)
    del line.kept["a"]
    assert not line.ask("c", gpu0=1)
    assert line.ask("b", gpu0=1)
    assert line.ask("b", gpu0=1)


def test_who_waits_holds_up_only_its_own_kind() -> None:
    """Other resources stay free for others; of its own those behind it get what is left."""
    line = Line()
    assert line.ask("a", slots=3)
    assert not line.ask("b", slots=2)
    assert not line.ask("c", slots=1)  # would fit, and would keep b waiting for ever
    assert line.ask("d", gpu0=1)


def test_a_lease_that_ended_is_free() -> None:
    """Of the dead nothing stays, neither what they had nor their place."""
    line = Line()
    assert line.ask("dead", gpu0=1)
    assert not line.ask("dead too", gpu0=1)
    line.now_ms += TTL_MS + 5
    assert line.ask("a", gpu0=1)
    assert line.kept.keys() == {"a"}


def test_asking_again_keeps_it() -> None:
    """A lease that is renewed does not end."""
    line = Line()
    for _ in range(10):
        assert line.ask("a", gpu0=1)
        line.now_ms += TTL_MS - 10
    assert not line.ask("b", gpu0=1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdef"), st.integers(0, 1), st.integers(0, 4), st.integers(0, 40_000)
        ),
        max_size=60,
    )
)
def test_never_more_than_there_is(wishes: list[tuple[str, int, int, int]]) -> None:
    """Whoever asks for what, in whatever order, at whatever time."""
    line = Line()
    for holder, gpus, slots, pause_ms in wishes:
        line.now_ms += pause_ms
        line.ask(holder, **{name: n for name, n in (("gpu0", gpus), ("slots", slots)) if n})
        assert line.used("gpu0") <= 1
        assert line.used("slots") <= 4


@pytest.mark.parametrize("wanted", [{"gpu1": 1}, {"slots": 5}, {"slots": 0}, {"slots": -1}])
def test_what_cannot_be_had_is_refused_by_name(wanted: dict[str, int]) -> None:
    """Before anything is reserved."""
    (name,) = wanted
    with pytest.raises(InputError) as refused:
        check_amounts(wanted, HAVE)
    assert refused.value.field == f"resources.{name}"


@pytest.mark.parametrize("entry", ["slots", "slots=", "=1", "slots=0", "slots=x", "slots=-1"])
def test_capacities_are_names_and_numbers(entry: str) -> None:
    """Anything else is no setting."""
    with pytest.raises(ValueError, match="NAME=NUMBER"):
        parse_resources([entry])
    with pytest.raises(ValueError, match="twice"):
        parse_resources(["a=1", "a=2"])
    assert parse_resources(["a=1", "b=20"]) == {"a": 1, "b": 20}
