"""The order of events, and their bytes."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.events.event import (
    MAX_PROGRESS,
    QUEUED,
    RETRYING,
    RUNNING,
    TERMINAL,
    Event,
    Transition,
    decode_event,
    encode_event,
    sequence,
    terminal_sequence,
)


def test_the_life_of_an_evaluation_is_in_order() -> None:
    """Two tries, the second delivered twice, an end; replayed from the dead letters, and an end."""
    life = [
        sequence(QUEUED),
        sequence(RUNNING),
        sequence(RUNNING + 1),
        sequence(RUNNING + MAX_PROGRESS),
        sequence(RETRYING),
        sequence(RUNNING, retries=1),
        sequence(RUNNING, retries=1, deliveries=1),
        terminal_sequence(),
        sequence(QUEUED, attempt=1, retries=1),
        sequence(RUNNING, attempt=1, retries=1),
        terminal_sequence(1),
    ]
    assert life == sorted(set(life))


@given(st.integers(0), st.integers(0), st.integers(0), st.integers(0))
def test_no_counts_break_the_order(step: int, attempt: int, retries: int, deliveries: int) -> None:
    """Whatever a message claims: below the end of its attempt, and exact in JavaScript."""
    seq = sequence(step, attempt=attempt, retries=retries, deliveries=deliveries)
    assert 0 <= seq < terminal_sequence(attempt) < 2**53


@given(st.tuples(*[st.integers(0, 900)] * 4), st.tuples(*[st.integers(0, 900)] * 4))
def test_attempts_go_before_retries_before_deliveries(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    """As tuples are ordered."""

    def seq(parts: tuple[int, int, int, int]) -> int:
        attempt, retries, deliveries, step = parts
        return sequence(step, attempt=attempt, retries=retries, deliveries=deliveries)

    assert (one < other) == (seq(one) < seq(other))


def test_the_bytes_of_version_1() -> None:
    """An array of the fields in their order, which other processes read."""
    event = Event("a", 1, 1700000000000, Transition.RUNNING, "running", "acme", "evaluation")
    assert msgspec.msgpack.decode(encode_event(event)) == [
        "a", 1, 1700000000000, "running", "running", "acme", "evaluation", "celery", 0, 0, 0,
        *[None] * 4, "", *[None] * 15, False, "",
    ]  # fmt: skip
    assert decode_event(encode_event(event)) == event


def test_fields_of_later_versions_are_ignored() -> None:
    """They are added at the end."""
    event = Event("a", 1, 2, Transition.QUEUED, "queued")
    fields = msgspec.to_builtins(event)
    assert decode_event(msgspec.msgpack.encode([*fields, *itertools.repeat(None, 9)])) == event
    assert decode_event(msgspec.msgpack.encode(fields[:5])) == event
    with pytest.raises(msgspec.DecodeError):
        decode_event(msgspec.msgpack.encode(["a"]))


def test_ends_are_ends() -> None:
    """Each transition that ends an attempt."""
    ended = {one for one in Transition if Event("a", 1, 2, one, "x").terminal}
    assert ended == TERMINAL
