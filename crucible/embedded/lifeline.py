"""Ties a child process to the life of its parent."""

from __future__ import annotations

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent() -> None:
    """Ask the kernel to send SIGTERM to this process when its parent dies.

    Meant as ``preexec_fn``: a parent ended by SIGKILL runs no clean-up of its own, and would leave
    servers behind that hold ports and data. Linux only; elsewhere prctl is missing and nothing
    is done (``AttributeError`` is not possible inside a forked child on Linux).
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
