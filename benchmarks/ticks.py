"""A clock with finer ticks than an event loop's timers, which have millisecond resolution."""

from __future__ import annotations

import asyncio
import ctypes
import os
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBC = ctypes.CDLL(None, use_errno=True)


class _Spec(ctypes.Structure):
    """``struct itimerspec``: seconds and nanoseconds of the interval, then of the first tick."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "in_s", "in_ns"))


class Ticks:
    """Calls back at even intervals while it is open; missed ticks are merged (``timerfd``).

    Args:
        every_s: seconds between ticks, less than one.
        tick: called on the loop.
    """

    def __init__(self, every_s: float, tick: Callable[[], None]) -> None:
        self._every_ns = int(every_s * 1e9)
        self._tick = tick

    def __enter__(self) -> Self:
        """Start.

        Raises:
            OSError: the kernel does not support it.
        """
        self._clock = _checked(_LIBC.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK))
        spec = _Spec(0, self._every_ns, 0, self._every_ns)
        try:
            _checked(_LIBC.timerfd_settime(self._clock, 0, ctypes.byref(spec), None))
        except OSError:
            os.close(self._clock)
            raise
        asyncio.get_running_loop().add_reader(self._clock, self._due)
        return self

    def _due(self) -> None:
        os.read(self._clock, 8)
        self._tick()

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._clock)
        os.close(self._clock)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
