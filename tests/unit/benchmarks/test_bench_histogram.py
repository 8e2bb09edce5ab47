from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.histogram import SUB_BITS, Histogram, bucket_of, highest_of, name_of


@given(st.integers(min_value=0, max_value=10**12))
def test_a_bucket_holds_its_value_closely(value: int) -> None:
    """The value a bucket reports is never below one it holds, and less than 1/128 above it."""
    highest = highest_of(bucket_of(value))
    assert value <= highest <= value * (1 + 2**-SUB_BITS)


@given(st.integers(min_value=0, max_value=10**9))
def test_buckets_keep_the_order_of_values(value: int) -> None:
    """A higher value is never in a lower bucket, and buckets follow one another without a gap."""
    assert bucket_of(value + 1) - bucket_of(value) in (0, 1)
    assert bucket_of(highest_of(bucket_of(value)) + 1) == bucket_of(value) + 1


def test_percentiles_agree_with_sorting() -> None:
    """Percentiles of ten thousand latencies agree with those of the sorted list within a bucket."""
    numbers = random.Random(7)
    values = sorted(numbers.expovariate(200) for _ in range(10_000))
    histogram = Histogram()
    for value in values:
        histogram.record(value)
    for percentile in (50, 90, 99, 99.9):
        exact_ms = values[int(percentile / 100 * len(values)) - 1] * 1000
        assert histogram.percentile_ms(percentile) == pytest.approx(exact_ms, rel=0.01)
    assert histogram.percentile_ms(100) >= values[-1] * 1000 - 0.001


def test_adding_and_reading_back_lose_nothing() -> None:
    """Two histograms added, and one dumped and loaded, have the counts of both."""
    one, other = Histogram(), Histogram()
    one.record(0.001)
    other.record(0.5)
    other.record(0.25)
    one.add(Histogram.load(other.dump()))
    assert one.count == 3
    assert one.percentile_ms(100) == pytest.approx(500, rel=0.01)
    assert one.percentile_ms(1) == pytest.approx(1, rel=0.01)


def test_an_empty_histogram_has_no_percentiles() -> None:
    """Asking an empty histogram is an error, not a zero."""
    with pytest.raises(ValueError, match="empty"):
        Histogram().percentile_ms(50)


def test_names_of_percentiles() -> None:
    """Percentiles are named as people write them."""
    assert [name_of(p) for p in (50.0, 99.9, 100.0)] == ["p50", "p99.9", "max"]
