"""Whether the queue server was there, without a gap, for as long as a heartbeat lasts.

A heartbeat that is missing says that its worker is dead only if the worker could have shown it. It
could not while the server was away, loading, a replica, or refused writes or passwords; and after a
restart on an older file, a suspended host or a jump of the server's clock, heartbeats of the living
have expired as well. In each of these cases somebody who writes to the server every second sees a
gap, another process, or two clocks that do not agree. Whoever has seen none of them for the whole
lifetime of a heartbeat has also given all others that long to show theirs, which they do three
times in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from crucible.redis_keys import WORKER_TTL_S

#: Seconds between two sights that are no gap: a sweep is made every second. A worker whose
#: heartbeat is renewed every 3 s and lasts for 9 s does not lose it by being cut off for so long.
MAX_GAP_S = 2.5
#: Seconds that the server's clock and ours may disagree by, over a whole lifetime.
MAX_DRIFT_S = 1.0


@dataclass(frozen=True, slots=True)
class Sight:
    """A write that the server has confirmed.

    Attributes:
        sent_at: when it was sent, seconds on this process's monotonic clock.
        answered_at: when the reply came, on the same clock.
        server_time: the server's TIME in between, seconds since the epoch.
        server_id: changes when the server is another process.
    """

    sent_at: float
    answered_at: float
    server_time: float
    server_id: str


class Continuity:
    """What a sweeper has seen of the server.

    Args:
        lifetime_s: seconds that the server must have been seen.

    Attributes:
        breaks: how often it began anew.
        last_break: why it did the last time; empty before the first time.
    """

    def __init__(self, lifetime_s: float = WORKER_TTL_S) -> None:
        self._lifetime_s = lifetime_s
        self._first: Sight | None = None
        self._last: Sight | None = None
        self.breaks = 0
        self.last_break = ""

    def saw(self, sight: Sight) -> None:
        """Take note of a sight."""
        if self._first is None or self._last is None:
            self._first = sight
        elif reason := _break(self._first, self._last, sight):
            self.breaks += 1
            self.last_break = reason
            self._first = sight
        self._last = sight

    def is_whole(self, now: float) -> bool:
        """Whether the server was seen without a gap for a lifetime, up to ``now``.

        Args:
            now: seconds on the monotonic clock.
        """
        if self._first is None or self._last is None:
            return False
        if now - self._last.sent_at > MAX_GAP_S:
            return False
        # From the answer to the first to the sending of the last: it was certainly there between.
        return self._last.sent_at - self._first.answered_at >= self._lifetime_s


def _break(first: Sight, last: Sight, sight: Sight) -> str:
    """Why the server was not there all the time between two sights; empty when it was."""
    if sight.server_id != last.server_id:
        return "the queue server was started anew, or is another"
    # The server may have been away from just after it ran one command until just before the other.
    gap_s = sight.answered_at - last.sent_at
    if gap_s > MAX_GAP_S:
        return f"the queue server was not seen for {gap_s:.1f} s"
    # Each TIME was read at some moment between sending and answer.
    server_s = sight.server_time - first.server_time
    least_s = sight.sent_at - first.answered_at
    most_s = sight.answered_at - first.sent_at
    if not least_s - MAX_DRIFT_S <= server_s <= most_s + MAX_DRIFT_S:
        return f"the queue server's clock went {server_s:.1f} s in {most_s:.1f} s"
    return ""
