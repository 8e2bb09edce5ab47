"""Bounds on what one sender publishes, kept by the script that publishes.

A rate is a GCRA (generic cell rate algorithm, ITU-T I.371): the server keeps one number for it, the
moment from which on nothing of it is used. Each message moves that moment by ``interval_us``; one
that would move it further than ``burst`` intervals from now is refused. All of it is on the clock
of the server, so those of publishers do not matter, and all publishers share one rate.

What is in flight is a set of idempotency records; whoever knows that a message has been dealt with
removes its record from it.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping


class Rate(msgspec.Struct, frozen=True, dict=True):
    """A rate that holds for all publications that name its key.

    Attributes:
        key: full name of its Redis key.
        interval_us: microseconds between two messages at the sustained rate.
        burst: messages that may come at once after a pause.
    """

    key: str
    interval_us: float
    burst: int

    @cached_property
    def capacity_us(self) -> float:
        """What is used of it at most, in microseconds."""
        return self.burst * self.interval_us

    @cached_property
    def words(self) -> tuple[str, str]:
        """Interval and capacity as the script is told them: the text of a float takes 0.7 us."""
        return repr(self.interval_us), repr(self.capacity_us)


class InFlight(msgspec.Struct, frozen=True):
    """A bound on messages that were published and not dealt with yet.

    Attributes:
        key: full name of its Redis key, a sorted set.
        limit: how many there may be.
        ttl_s: seconds after which one that nobody removed is forgotten.
    """

    key: str
    limit: int
    ttl_s: int


class Quota(msgspec.Struct, frozen=True, eq=False):
    """What bounds the publications of one sender; the same object for all of them.

    Attributes:
        rates: all of them must allow a message.
        in_flight: and this, where there is one.
    """

    rates: tuple[Rate, ...]
    in_flight: InFlight | None = None


class QuotaState(msgspec.Struct, frozen=True):
    """What is left of a quota after a flush.

    Attributes:
        remaining: messages that could follow at once.
        reset_s: seconds until its rates are wholly free again.
        retry_after_s: seconds until its rates allow a message; 0 where they do now.
    """

    remaining: int
    reset_s: float
    retry_after_s: float


def state_of(quota: Quota, levels_us: Mapping[str, float], counts: Mapping[str, int]) -> QuotaState:
    """What is left of a quota.

    Args:
        quota: which.
        levels_us: what is used of each rate, by key, in microseconds.
        counts: what is in flight, by key.
    """
    remaining, used_us, wait_us = math.inf, 0.0, 0.0
    for rate in quota.rates:
        level_us = levels_us[rate.key]
        # Levels come as whole microseconds.
        free_us = rate.capacity_us - level_us + 1.0
        remaining = min(remaining, free_us // rate.interval_us)
        used_us = max(used_us, level_us)
        wait_us = max(wait_us, rate.interval_us - free_us)
    if quota.in_flight is not None:
        remaining = min(remaining, quota.in_flight.limit - counts[quota.in_flight.key])
    return QuotaState(
        int(max(0, remaining)) if math.isfinite(remaining) else 0, used_us / 1e6, wait_us / 1e6
    )
