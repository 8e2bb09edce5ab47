"""The bounded repr of arguments, against Celery's own."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from celery.utils.saferepr import saferepr
from hypothesis import given
from hypothesis import strategies as st

from crucible.broker.wire.reprs import bounded_repr

TEXT = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(
    ["it's", "a b c d " * 20, "x" * 300, "'", "\\", ""]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXT
    | st.binary(max_size=40)
    | st.decimals()
    | st.datetimes()
    | st.uuids()
    | st.complex_numbers()
)
KEYS = st.text(max_size=10) | st.integers() | st.tuples(st.integers(), TEXT) | st.none()


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.sets(st.integers() | st.text(max_size=5), max_size=1)
        | st.frozensets(st.integers(), max_size=1)
    )


VALUES = st.recursive(SCALARS, _containers, max_leaves=25)


@given(VALUES, st.sampled_from([1, 2, 5, 10, 30, 80, 200, 1024]))
def test_equals_celery(value: Any, length: int) -> None:
    """Any value at any length reads as Celery would write it."""
    assert bounded_repr(value, length) == saferepr(value, length)


@given(st.lists(TEXT, max_size=8), st.sampled_from([1, 5, 30, 80, 200, 1024]))
def test_lists_of_text_equal_celery(value: list[str], length: int) -> None:
    """What most arguments are has a way of its own."""
    assert bounded_repr(value, length) == saferepr(value, length)


@given(st.lists(VALUES, max_size=6).map(tuple), st.dictionaries(TEXT, VALUES, max_size=5))
def test_arguments_equal_celery(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Arguments at the length messages have read as Celery would write them."""
    assert bounded_repr(args) == saferepr(args, 1024)
    assert bounded_repr(kwargs) == saferepr(kwargs, 1024)


class _Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class _Subclass(list[int]):
    pass


class Point(NamedTuple):
    x: int
    y: list[int]


CYCLE: list[Any] = [1]
CYCLE.append(CYCLE)
TWICE = [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        (),
        (1,),
        [],
        {},
        ["x" * 1024],
        ["x" * 1023],
        ["x" * 1021],
        ["word " * 300, 1, [2]],
        [[["deep", ["deeper"]]]],
        [[[(1,), [], {}, set()]]],
        {"a": {"b": {"c": {"d": 1}}}},
        [b"bytes", b"\xff\x00", b"x" * 2000],
        [Decimal("1.10"), uuid.UUID(int=7), datetime(2026, 1, 2), date(2026, 1, 2)],
        OrderedDict(a=1),
        Point(1, [2]),
        _Subclass([1, 2]),
        [range(3), Ellipsis, int, True, None, 1.5, 1e300],
        CYCLE,
        {"me": CYCLE},
        [TWICE, TWICE],
        [{1: "a", None: "b", (1, 2): "c"}],
        [set(), frozenset(), {3}, frozenset([4])],
        ["a" * 400, "b" * 400, "c" * 400, "d" * 400],
        {"a": "k" * 1500, "b": [1, 2, 3], "c": "z" * 1500},
        list(range(1000)),
        [[1] * 500, [2] * 500],
    ],
    ids=lambda value: str(type(value).__name__),
)
def test_chosen_values_equal_celery(value: Any) -> None:
    """The corners: lengths around the bound, depth, cycles, subclasses, bytes, empty containers."""
    for length in (1024, 100, 20, 7, 3, 1):
        assert bounded_repr(value, length) == saferepr(value, length)


def test_broken_repr_is_told() -> None:
    """An object whose repr raises does not stop a message."""
    assert "Unrepresentable" in bounded_repr([_Broken()])
