"""Turns the clock of one process: ``CHAOS_CLOCK_S`` seconds are added to what it reads.

Python imports a module of this name at the start where ``PYTHONPATH`` has it. The clock of the
machine is one for all of its namespaces, so each process of a host gets another one.
"""

import datetime as dt
import os
import time

_shift_s = float(os.environ.get("CHAOS_CLOCK_S", "0"))
if _shift_s:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + _shift_s
    time.time_ns = lambda: _time_ns() + int(_shift_s * 1e9)

    class _Turned(dt.datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]  # as in the base class
            return super().now(tz) + dt.timedelta(seconds=_shift_s)

    dt.datetime = _Turned  # type: ignore[misc]  # on purpose
