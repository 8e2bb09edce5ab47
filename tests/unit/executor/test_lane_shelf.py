"""Which of the lanes at rest a program gets."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.executor.nested.shelf import LaneShelf
from crucible.executor.sandbox import Shape
from crucible.models import Limits

USUAL, LIMITS, LARGE = Shape(disk_mb=64), Limits(), Limits(memory_mb=512)
NOW_S = 100.0


class Lane:
    """As much of one as a shelf looks at."""

    def __init__(
        self, tenant: str = "", served: int = 0, rested_s: float = 1.0, limits: Limits = LIMITS
    ) -> None:
        self.tenant = tenant
        self.served = served
        self.idle_since = NOW_S - rested_s
        self.limits = limits
        self.shape = USUAL

    def fits(self, limits: Limits) -> bool:
        """Whether it has these limits."""
        return limits == self.limits


def taken(*lanes: Any, fresh: bool = False) -> Any:
    """What a program of tenant ``a`` gets of them."""
    shelf = LaneShelf()
    for lane in lanes:
        shelf.put(lane)
    return shelf.take("a", USUAL, LIMITS, NOW_S, fresh=fresh)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (Lane("a"), Lane()),
        (Lane("a", served=9), Lane("a", served=3)),
        (Lane("a", served=3), Lane("a", served=9, rested_s=0.001)),
        (Lane("a", served=3), Lane("a", served=9, limits=LARGE)),
        (Lane("a", rested_s=0.001), Lane("a", limits=LARGE)),
        (Lane("a", rested_s=0.001), Lane()),
    ],
    ids=["own", "most used", "ready", "fitting", "fitting before ready", "own before ready"],
)
def test_the_better_of_two_is_taken(better: Lane, worse: Lane) -> None:
    """Its own; as it has to be; ready for another program; nearest to its end."""
    assert taken(better, worse) is better
    assert taken(worse, better) is better


def test_nobody_gets_anothers() -> None:
    """A lane is one tenant's until it is restarted, and a fresh one has run nothing."""
    assert taken(Lane("b")) is None
    assert taken(Lane("a"), fresh=True) is None
