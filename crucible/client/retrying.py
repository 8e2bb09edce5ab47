"""When a request is sent again, and after how long. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Answers of an API, or of a proxy before it, that says nothing about the request itself.
BUSY = frozenset({429, 502, 503, 504})
#: Seconds of the first pause and of the longest one; each is up to twice the one before.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0


@dataclass
class Patience:
    """How long one request is tried.

    Attributes:
        until: time on the monotonic clock after which it is given up.
        pause_s: seconds of the next pause, at most.
    """

    until: float
    pause_s: float = field(default=FIRST_PAUSE_S)

    def next_pause(self, now: float, asked_s: float | None = None) -> float | None:
        """Seconds until the next try; None where there is no time left for it.

        Args:
            now: time on the monotonic clock.
            asked_s: seconds that the API asked for; it is not asked earlier.
        """
        # Half of it by chance: clients that failed together do not come back together.
        pause_s = self.pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)
        if asked_s is not None:
            pause_s = max(pause_s, asked_s)
        return pause_s if now + pause_s < self.until else None


def seconds_asked(retry_after: str | None) -> float | None:
    """The seconds of a ``Retry-After`` field, which may be a date; None where it says nothing."""
    if not retry_after:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        moment = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
