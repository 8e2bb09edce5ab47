"""Turns the clock of one process: seconds are added to what it reads.

They are ``CHAOS_CLOCK_S``, or what the file ``CHAOS_CLOCK_FILE`` has at that moment (a double): a
clock that jumps. Python imports a module of this name at the start where ``PYTHONPATH`` has it. The
clock of the machine is one for all of its namespaces, so each process of a host gets another one.
"""

import datetime as dt
import mmap
import os
import struct
import time

_path = os.environ.get("CHAOS_CLOCK_FILE", "")
_fixed_s = float(os.environ.get("CHAOS_CLOCK_S", "0"))
if _path:
    with open(_path, "rb") as _file:  # noqa: PTH123 - nothing is imported that is not needed
        _memory = mmap.mmap(_file.fileno(), 8, prot=mmap.PROT_READ)


def _shift_s():  # type: ignore[no-untyped-def]
    return struct.unpack_from("d", _memory)[0] if _path else _fixed_s


if _path or _fixed_s:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + _shift_s()  # type: ignore[no-untyped-call]
    time.time_ns = lambda: _time_ns() + int(_shift_s() * 1e9)  # type: ignore[no-untyped-call]

    class _Turned(dt.datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]  # as in the base class
            return super().now(tz) + dt.timedelta(seconds=_shift_s())  # type: ignore[no-untyped-call]

    dt.datetime = _Turned  # type: ignore[misc]  # on purpose
