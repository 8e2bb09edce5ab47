"""What is looked at during a soak, and whether it stayed flat. No I/O."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Growth from the second quarter to the last that counts as flat: a share, or so much of the unit.
SHARE = 0.10
#: Of the queue it is two messages for each of its ten slots: what waits depends on what else the
#: machine does, while a queue that grows does so by hundreds in an hour.
SLACK = {
    "memory": 4.0, "descriptors": 6.0, "keys": 200.0, "disk": 16.0, "lag": 1.0, "queue": 20.0,
}  # fmt: skip
UNITS = {
    "memory": "MiB", "descriptors": "count", "keys": "count", "disk": "MiB", "lag": "s",
    "queue": "count",
}  # fmt: skip
#: Samples below which nothing is judged: each quarter needs a few.
LEAST = 8


@dataclass(slots=True)
class Series:
    """One value over time.

    Attributes:
        kind: what it is, a key of ``UNITS``.
        name: of what.
        values: one for each time.
        judged: False for what grows by design.
    """

    kind: str
    name: str
    values: list[float] = field(default_factory=list)
    judged: bool = True

    @property
    def quarters(self) -> tuple[float, float] | None:
        """Medians of the second quarter and the last; None with too few samples."""
        if len(self.values) < LEAST:
            return None
        quarter = len(self.values) // 4
        before = statistics.median(self.values[quarter : 2 * quarter])
        return before, statistics.median(self.values[-quarter:])

    @property
    def flat(self) -> bool:
        """Whether it did not grow by more than its slack and its share."""
        if self.quarters is None or not self.judged:
            return True
        before, after = self.quarters
        return after - before <= max(SLACK[self.kind], SHARE * before)


@dataclass(slots=True)
class Samples:
    """All series, with the seconds since the start at which they were looked at."""

    at_s: list[float] = field(default_factory=list)
    series: dict[tuple[str, str], Series] = field(default_factory=dict)

    def add(self, at_s: float, looked: Mapping[tuple[str, str], float]) -> None:
        """Add one look at everything; each look has the same names."""
        self.at_s.append(at_s)
        for (kind, name), value in looked.items():
            series = self.series.setdefault(
                (kind, name), Series(kind, name, judged=(kind, name) not in GROWING)
            )
            series.values.append(value)

    @property
    def rising(self) -> list[Series]:
        """Those that did not stay flat."""
        return [one for one in self.series.values() if not one.flat]


#: Keys with a TTL that ends after the soak: of assessments, deliveries, and what is done once.
OUTLIVING = "keys", "outlive the soak"
#: Of the children of the stock worker. Each running evaluation that is cancelled ends one; the next
#: has what its parent has open, and opens its own with its first tasks: 11 to 38 sockets each.
OF_CHILDREN = "descriptors", "stock worker's children"
#: A row for each evaluation, and keys of which none expires during the soak (a key without a TTL is
#: none of them); and what depends on how old some children are.
GROWING = frozenset({("disk", "history"), OUTLIVING, OF_CHILDREN})
