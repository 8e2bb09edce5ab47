"""The queue server's clock, as far as this process knows it.

Workers on machines whose clocks differ must agree on when a message is due, so the server's TIME
decides. Scripts return it, and the last reply is used until the next.
"""

from __future__ import annotations

import time


class ServerClock:
    """Estimates the server's time from the replies of scripts.

    The estimate is never ahead of the server by more than the drift since the last reply: the
    time in a reply was read before the reply arrived. In between the monotonic clock counts: the
    machine's time may jump, and what is due in a second would be due in as long as it jumped.
    """

    def __init__(self) -> None:
        #: Seconds to add to ``time.monotonic()``; until the first reply this machine's time.
        self._offset_s = time.time() - time.monotonic()

    def observe(self, server_time: float) -> None:
        """Take note of a TIME, in seconds since the epoch, whose reply has just arrived."""
        self._offset_s = server_time - time.monotonic()

    def now(self) -> float:
        """Seconds since the epoch on the server's clock."""
        return time.monotonic() + self._offset_s
