"""Which delays tasks that are tried again get, and which definitions are refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from celery.utils.time import get_exponential_backoff_interval
from hypothesis import given
from hypothesis import strategies as st

from crucible.worker.autoretry import AutoRetry
from crucible.worker.registry import TaskRegistry


async def fine(ctx: object, x: int = 0) -> None:
    """A task."""


@given(st.floats(0.1, 50) | st.booleans(), st.integers(0, 100), st.integers(0, 10_000))
def test_delays_are_stocks(backoff: float, retries: int, maximum: int) -> None:
    """Without jitter to the second, with it somewhere from 0 on up to that."""
    of_stock = get_exponential_backoff_interval(int(max(1.0, backoff)), retries, maximum)
    plain = AutoRetry(retry_backoff=backoff, retry_backoff_max=maximum, retry_jitter=False)
    assert plain.countdown_s(retries) == of_stock
    jittered = AutoRetry(retry_backoff=backoff, retry_backoff_max=maximum)
    assert 0 <= jittered.countdown_s(retries) <= of_stock


def test_jitter_spreads_over_the_whole_delay() -> None:
    """Full jitter: of a thousand delays up to 8 s every one is met."""
    policy = AutoRetry(retry_backoff=1)
    assert {policy.countdown_s(3) for _ in range(1000)} == set(range(9))


def test_the_function_stays_what_it_is() -> None:
    """Its kind and signature: arguments of retries and callbacks are matched with those."""
    registry = TaskRegistry()
    registry.task("p.fine", autoretry_for=(KeyError,))(fine)
    task = registry.get("p.fine")
    assert task is not None
    assert task.is_async
    assert inspect.iscoroutinefunction(task.function)
    assert inspect.signature(task.function) == inspect.signature(fine)
    registry.task("p.plain", dont_autoretry_for=(KeyError,))(fine)
    plain = registry.get("p.plain")
    assert plain is not None
    assert plain.function is fine


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"autoretry_for": KeyError}, None, ""),
        ({"autoretry_for": ("KeyError",)}, TypeError, "autoretry_for names no exception"),
        ({"dont_autoretry_for": (int,)}, TypeError, "dont_autoretry_for names no exception: <"),
        ({"retry_backoff": -1}, ValueError, "retry_backoff is a number from 0 on, not -1"),
        ({"retry_backoff_max": "600"}, ValueError, "retry_backoff_max is a number"),
        ({"retry_backoff": float("nan")}, ValueError, "retry_backoff is a number"),
        ({"retry_kwargs": {"max_retires": 3}}, TypeError, "retry_kwargs has no 'max_retires'"),
        ({"retry_backof": True}, TypeError, "has no option 'retry_backof'"),
    ],
)
def test_definitions_without_a_meaning(
    options: dict[str, Any], error: type[Exception] | None, text: str
) -> None:
    """Refused where they are made, with the task's name."""
    if error is None:
        TaskRegistry().task("p.fine", **options)(fine)
        return
    with pytest.raises(error, match=rf"task 'p\.fine'.*{text}"):
        TaskRegistry().task("p.fine", **options)(fine)
