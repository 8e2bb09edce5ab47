"""The rate of working through a queue, from looks at what remains."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import CrucibleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Look = tuple[float, int, float | None]

#: Shares of the messages between which the rate is taken: starting up does not count, nor the end,
#: when one of several processes may have nothing left.
WARM, NEARLY_DONE = 0.1, 0.95
#: Share that may be left when time is up; on a busy machine a slow subject need not finish.
MOST_LEFT = 0.5


class UnsteadyError(CrucibleError):
    """A rate cannot be told from what was seen."""


class Steady(msgspec.Struct, frozen=True):
    """The steady part of working through a queue.

    Attributes:
        per_s: messages a second.
        cpu_us: processor microseconds of the workers a message; NaN where nobody looked.
    """

    per_s: float
    cpu_us: float


def steady(looks: Sequence[tuple[float, int, float | None]], total: int) -> Steady:
    """What happened between a tenth and nineteen twentieths of the way.

    Args:
        looks: seconds, messages remaining, and processor seconds used by then or None; in order.
        total: messages there were.

    Raises:
        UnsteadyError: less than half of the queue was worked through, or it went too fast to tell.
    """
    left = looks[-1][1] if looks else total
    if left > MOST_LEFT * total:
        raise UnsteadyError(f"{left} of {total} messages were left")
    inside = _between(looks, total)
    (began, left_then, _), (ended, left_now, _) = inside[0], inside[-1]
    if ended <= began or left_now >= left_then:
        raise UnsteadyError(f"{total} messages were too few to tell a rate")
    return Steady((left_then - left_now) / (ended - began), _cpu_us(inside))


def _between(looks: Sequence[_Look], total: int) -> list[_Look]:
    inside = [look for look in looks if WARM <= 1 - look[1] / total <= NEARLY_DONE]
    if len(inside) >= 2:
        return inside
    # Done between two looks or nearly so: from the last look before it began.
    before = [look for look in looks if 1 - look[1] / total < WARM]
    after = [look for look in looks if 1 - look[1] / total > NEARLY_DONE]
    return [*before[-1:], *inside, *after[:1]]


def _cpu_us(looks: Sequence[_Look]) -> float:
    shown = [(left, used) for _, left, used in looks if used is not None]
    if len(shown) < 2 or shown[0][0] == shown[-1][0]:
        return math.nan
    return (shown[-1][1] - shown[0][1]) / (shown[0][0] - shown[-1][0]) * 1e6
