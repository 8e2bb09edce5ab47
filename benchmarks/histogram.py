"""Latencies in log-linear buckets, after Gil Tene's HdrHistogram: constant relative error.

Values are kept in microseconds. Each power of two is cut into ``2 ** SUB_BITS`` buckets, so a
reported value is off by less than ``2 ** -SUB_BITS`` of itself (0.8 %).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUB_BITS = 7
_SUB = 1 << SUB_BITS
#: The percentiles shown for every latency figure.
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)


def bucket_of(value_us: int) -> int:
    """The bucket of a value; monotonic in the value."""
    if value_us < _SUB:
        return max(0, value_us)
    shift = value_us.bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (value_us >> shift)


def highest_of(bucket: int) -> int:
    """The highest value of a bucket."""
    if bucket < 2 * _SUB:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return ((bucket - (shift << SUB_BITS) + 1) << shift) - 1


class Histogram:
    """Counts of latencies by bucket.

    Attributes:
        count: number of values recorded.
    """

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: Counter[int] = Counter(counts or {})
        self.count = sum(self._counts.values())

    def record(self, seconds: float) -> None:
        """Count one latency."""
        self._counts[bucket_of(int(seconds * 1e6))] += 1
        self.count += 1

    def add(self, other: Histogram) -> None:
        """Add the counts of ``other``."""
        self._counts.update(other._counts)
        self.count += other.count

    def percentile_ms(self, percentile: float) -> float:
        """The latency that ``percentile`` percent of values do not exceed, in milliseconds.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self.count:
            raise ValueError("the histogram is empty")
        wanted = max(1, -(-int(percentile * self.count * 1000) // 100_000))
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= wanted:
                return highest_of(bucket) / 1000
        return highest_of(max(self._counts)) / 1000

    def percentiles_ms(self, percentiles: Iterable[float] = PERCENTILES) -> dict[str, float]:
        """Several percentiles by name, such as ``p99.9``; ``max`` for the highest."""
        return {name_of(p): self.percentile_ms(p) for p in percentiles}

    def dump(self) -> dict[str, int]:
        """The counts in a form for JSON."""
        return {str(bucket): count for bucket, count in sorted(self._counts.items())}

    @classmethod
    def load(cls, dumped: Mapping[str, int]) -> Histogram:
        """The inverse of ``dump``."""
        return cls({int(bucket): count for bucket, count in dumped.items()})


def name_of(percentile: float) -> str:
    """``p50``, ``p99.9``, ``max``."""
    return "max" if percentile >= 100 else f"p{percentile:g}"
