"""Signals by Piston's names, which are those of ``kill -l``."""

from __future__ import annotations

import signal

_REAL_TIME = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)


def _real_time(number: int) -> str:
    """The name of a real-time signal, counted from the nearer end."""
    up, down = number - _REAL_TIME[0], _REAL_TIME[-1] - number
    if up <= down:
        return f"SIGRTMIN+{up}" if up else "SIGRTMIN"
    return f"SIGRTMAX-{down}" if down else "SIGRTMAX"


#: Names by number; two that the C library keeps for itself have none.
NAMES = {
    **{one.value: one.name for one in signal.Signals},
    **{number: _real_time(number) for number in _REAL_TIME},
}
#: Every name that a client may send, with the second ones of some signals.
KNOWN = frozenset({*NAMES.values(), *signal.Signals.__members__})
#: Those that do not end a process without a handler for them (signal(7)): ignored ones, and those
#: that stop it, which Piston takes and does not pass on either.
ENDING_NOTHING = frozenset({
    "SIGCHLD", "SIGCLD", "SIGCONT", "SIGURG", "SIGWINCH",
    "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU",
    *(_real_time(number) for number in _REAL_TIME),
})  # fmt: skip
