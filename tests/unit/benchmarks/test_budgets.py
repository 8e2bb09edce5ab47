"""Budgets: their file, and when one is kept."""

from __future__ import annotations

import pytest

from benchmarks.budget_paths import PATHS
from benchmarks.budgets import FILE, Account, Budget, read_budgets
from benchmarks.figures import summary_of
from crucible.errors import SettingsError


def account(ratios: list[float], at_most: float) -> Account:
    """An account with these ratios."""
    one = summary_of([1.0])
    return Account("task", "", Budget("loop", at_most), one, one, summary_of(ratios))


def test_every_hot_path_has_a_budget() -> None:
    """And every budget a path."""
    assert read_budgets(FILE.read_text()).keys() == PATHS.keys()


@pytest.mark.parametrize(
    "text",
    [
        "[task]\nprobe = 'loop'",
        "[task]\nprobe = 'loop'\nat_most = 'much'",
        "[task]\nprobe = 'nothing'\nat_most = 1.0",
        "[nothing]\nprobe = 'loop'\nat_most = 1.0",
        "[task]\nprobe = 'loop'\nat_most = 1.0\nat_least = 1.0",
        "[task",
    ],
)
def test_a_file_that_means_nothing_is_refused(text: str) -> None:
    """By name of the file."""
    with pytest.raises(SettingsError, match=r"budgets\.toml"):
        read_budgets(text)


@pytest.mark.parametrize(
    ("ratios", "at_most", "kept"),
    [
        ([1.0, 1.1, 1.2], 1.2, True),
        ([1.3, 1.3, 1.3], 1.2, False),
        # Above it, but by less than the run's own noise.
        ([1.1, 1.3, 1.5], 1.2, True),
        ([1.4, 1.6, 1.8], 1.2, False),
    ],
)
def test_noise_is_no_overrun(ratios: list[float], at_most: float, kept: bool) -> None:
    """The median has to be above the budget by more than half of the range."""
    assert account(ratios, at_most).kept is kept
