"""Parsing the etas and results that tasks get."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


def epoch(eta: Any) -> float | None:
    """The eta of a message in seconds since the epoch, or None."""
    if not eta:
        return None
    return (eta if isinstance(eta, datetime) else datetime.fromisoformat(eta)).timestamp()


def flattened(got: Iterable[Any]) -> tuple[str, ...]:
    """The task ids in a task's arguments: a chain passes one, a chord a list."""
    ids: list[str] = []
    for value in got:
        ids += value if isinstance(value, list) else [value]
    return tuple(ids)
