"""How many processes the kernel of this host has killed for want of memory.

The engine's ``OOMKilled`` is not to be relied on when process 1 itself is the one killed: the
news of the kill and of the exit race, and the exit wins often. A count that rose during the run,
together with a SIGKILL that nobody here sent, is the proof left.
"""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def host_oom_kills(vmstat: Path = VMSTAT) -> int:
    """The kernel's count since its start; 0 where it tells none."""
    try:
        lines = vmstat.read_text("ascii").splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0
