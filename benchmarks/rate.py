"""The rate at which a queue is worked off, from samples of the messages that remain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import CrucibleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Sample = tuple[float, int, float | None]

#: Shares of the messages between which the rate is measured: without start-up, and without the end,
#: when one of several processes may have nothing left to do.
WARM, NEARLY_DONE = 0.1, 0.95
#: Share that may be left when time is up: on a busy machine a slow subject need not finish.
MOST_LEFT = 0.5
#: Share of the messages that samples of the steady part must cover to be sufficient.
LEAST_SEEN = 0.4


class UnsteadyError(CrucibleError):
    """The samples do not determine a rate."""


class Steady(msgspec.Struct, frozen=True):
    """The steady part of working off a queue.

    Attributes:
        per_s: messages per second.
        cpu_us: processor time of the workers per message, microseconds; NaN if not sampled.
    """

    per_s: float
    cpu_us: float


def steady(samples: Sequence[tuple[float, int, float | None]], total: int) -> Steady:
    """The rate between a tenth and nineteen twentieths of the messages.

    Args:
        samples: in order: seconds, messages remaining, processor seconds used or None.
        total: messages at the start.

    Raises:
        UnsteadyError: less than half of the queue was worked off, or too few samples.
    """
    left = samples[-1][1] if samples else total
    if left > MOST_LEFT * total:
        raise UnsteadyError(f"{left} of {total} messages were left")
    if _done(samples[0], total) > NEARLY_DONE:
        raise UnsteadyError(f"at the first sample {samples[0][1]} of {total} messages were left")
    seen = _seen(samples, total)
    (began, left_then, _), (ended, left_now, _) = seen[0], seen[-1]
    if ended <= began or left_now >= left_then:
        raise UnsteadyError(f"no progress on {total} messages in {len(samples)} samples")
    return Steady((left_then - left_now) / (ended - began), _cpu_us(seen))


def _done(sample: _Sample, total: int) -> float:
    return 1 - sample[1] / total


def _seen(samples: Sequence[_Sample], total: int) -> list[_Sample]:
    """The samples of the steady part; if they cover less than half of it, also their neighbours.

    The neighbours lie outside, so the rate is then that of slightly more than the steady part.
    """
    inside = [sample for sample in samples if WARM <= _done(sample, total) <= NEARLY_DONE]
    if inside and inside[0][1] - inside[-1][1] >= LEAST_SEEN * total:
        return inside
    before = [sample for sample in samples if _done(sample, total) < WARM]
    after = [sample for sample in samples if _done(sample, total) > NEARLY_DONE]
    return [*before[-1:], *inside, *after[:1]]


def _cpu_us(samples: Sequence[_Sample]) -> float:
    shown = [(left, used) for _, left, used in samples if used is not None]
    if len(shown) < 2 or shown[0][0] == shown[-1][0]:
        return math.nan
    return (shown[-1][1] - shown[0][1]) / (shown[0][0] - shown[-1][0]) * 1e6
