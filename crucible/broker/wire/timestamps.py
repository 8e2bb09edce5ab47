"""Timestamps as text: ISO 8601 in UTC, as Celery's events and replies have them."""

from __future__ import annotations

from datetime import UTC, datetime

#: What ``datetime`` can carry in UTC, in whole seconds since the epoch.
_EARLIEST = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_LATEST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()


def utc_text(epoch: float) -> str:
    """Seconds since the epoch as text.

    A message may name a time up to a day beyond what UTC can carry, with its own offset; it becomes
    the last, or the first, that can be written.
    """
    return datetime.fromtimestamp(min(max(epoch, _EARLIEST), _LATEST), UTC).isoformat()
