"""When a delivery is tried again.

Source: Standard Webhooks 1.0.0, "Retry schedule".
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Seconds before each attempt, counted from the one before.
DELAYS_S = (0.0, 5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
#: Retries after the first attempt.
RETRIES = len(DELAYS_S) - 1
#: Most seconds that a receiver's ``Retry-After`` is honoured for.
MAX_RETRY_AFTER_S = 86_400.0
#: Up to this share is added to each delay, so that a receiver that comes back is not called by all.
_JITTER = 0.1


def next_delay_s(retries: int, spread: float, retry_after_s: float = 0.0) -> float | None:
    """Seconds until the next attempt; None after the last.

    Args:
        retries: how often the delivery was tried before the attempt that failed.
        spread: 0 to 1, where in the jitter it falls.
        retry_after_s: what the receiver asked for.
    """
    if retries >= RETRIES:
        return None
    delay_s = DELAYS_S[retries + 1] * (1 + _JITTER * spread)
    return max(delay_s, min(retry_after_s, MAX_RETRY_AFTER_S))


def retry_after_s(header: str | None, now: datetime) -> float:
    """Seconds that a ``Retry-After`` asks for: a number or a date (RFC 9110, 10.2.3); else 0."""
    if not header:
        return 0.0
    if header.isascii() and header.isdigit():
        return min(float(header[:12]), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    seconds = (moment - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
