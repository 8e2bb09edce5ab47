"""Memory that the kernel spends on a program and that no control group limits.

Two kinds are without a limit of their own (``docs/sandbox.md`` has the whole list): buffers of
internet sockets, which cgroup v1 leaves out and cgroup v2 counts, and POSIX record locks. Neither
can be refused: programs talk to themselves over loopback, and SQLite locks its files. So their
number is looked at, which is an upper bound of what they hold.
"""

import posix

from crucible.executor.jail.kernel import cpu_time

#: Each of a TCP socket's two buffers grows to this at most, by the sandbox's sysctls.
TCP_BUFFER_BYTES = 65536
#: Of a UDP socket: the kernel's default of 208 KiB, which no sandbox can change, and one packet.
UDP_BUFFER_BYTES = 1 << 18
#: Record locks at once; SQLite takes five for a file. About 200 bytes each.
MAX_LOCKS = 10_000
#: Seconds between looks while there are no sockets, and while there are: one processor fills some
#: tens of MiB of buffers meanwhile. A look takes a tenth of a millisecond, of the program's time.
NO_SOCKETS_LOOK_S = 0.02
SOCKETS_LOOK_S = 0.01
#: Record locks are counted that long after the start, then as often as this: the kernel holds all
#: of the host's ``fcntl`` calls while it lists the locks, and takes some 6 ms before it does.
FIRST_LOCKS_LOOK_S = 0.05
LOCKS_LOOK_S = 0.25
#: And only after so much processor time: ten thousand locks cost more.
LOCKS_CPU_S = 0.002
_sockstat: "list[int]" = []


class KernelMemory:
    """Looks at what a sandbox's program has the kernel keep for it.

    Attributes:
        pace_s: seconds until it is to be looked at again.
    """

    def __init__(self, memory_bytes: int, now: float, cpu_s: float) -> None:
        self.memory_bytes = memory_bytes
        self.next_locks = now + FIRST_LOCKS_LOOK_S
        self.locks_cpu_s = cpu_s
        self.pace_s = NO_SOCKETS_LOOK_S
        self.sockstat = sockets_in_use()

    def exceeded(self, now: float) -> bool:
        """Whether it may be more than the program's memory limit."""
        if now >= self.next_locks:
            self.next_locks = now + LOCKS_LOOK_S
            if self.may_have_locked() and count_locks() >= MAX_LOCKS:
                return True
        if self.sockstat < 0:
            return False
        # "sockets: used N", of every kind, in this network namespace
        used = int(posix.pread(self.sockstat, 64, 0).split()[2])
        self.pace_s = SOCKETS_LOOK_S if used else NO_SOCKETS_LOOK_S
        if used * UDP_BUFFER_BYTES <= self.memory_bytes:
            return False
        return socket_buffers(used) > self.memory_bytes

    def may_have_locked(self) -> bool:
        """Whether the program has worked enough since the last count for as many locks."""
        used_s = cpu_time()
        if used_s - self.locks_cpu_s < LOCKS_CPU_S:
            return False
        self.locks_cpu_s = used_s
        return True


def sockets_in_use() -> int:
    """Descriptor of what counts the sockets of this network namespace, opened once; or -1."""
    if not _sockstat:
        try:
            flags = posix.O_RDONLY | posix.O_CLOEXEC
            _sockstat.append(posix.open("/proc/self/net/sockstat", flags))
        except OSError:
            _sockstat.append(-1)  # gVisor has none, and counts the buffers as its own memory
    return _sockstat[0]


def socket_buffers(used: int) -> int:
    """Bytes that the buffers of this namespace's internet sockets can hold at most.

    What is neither a local socket nor UDP is taken for TCP, because the kernel's count of those
    leaves out connections that were reset and still hold what nobody has read.

    Args:
        used: sockets of every kind.
    """
    udp = 0
    fd = posix.open("/proc/self/net/protocols", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        lines = posix.read(fd, 16384).split(b"\n")
    finally:
        posix.close(fd)
    for fields in map(bytes.split, lines[1:]):
        if fields and fields[0].startswith(b"UNIX"):
            used -= int(fields[2])  # of memory that is counted
        elif fields and fields[0].startswith(b"UDP"):
            udp += int(fields[2])
    return (used - udp) * 2 * TCP_BUFFER_BYTES + udp * UDP_BUFFER_BYTES


def count_locks() -> int:
    """Record locks of this sandbox's processes, up to ``MAX_LOCKS``."""
    try:
        fd = posix.open("/proc/locks", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return 0
    count = 0
    try:
        while count < MAX_LOCKS and (data := posix.read(fd, 65536)):
            count += data.count(b"\n")
    finally:
        posix.close(fd)
    return count
