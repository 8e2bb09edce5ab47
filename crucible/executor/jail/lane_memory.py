"""The memory of a lane between two programs: what one held has to be free for the next."""

import posix
import time

from crucible.executor.jail.kernel import memory_in_use, read_fields

#: Bytes of anonymous and shared memory that a lane may have more than at its start, and seconds
#: that what a program left may take to be freed. Each processor may hold back changes of so many
#: pages from the kernel's counters.
LEFT_BYTES, FREED_S = 2 << 20, 0.1
PROCESSOR_PAGES = 64


class LaneMemory:
    """The memory of the lane between two programs.

    Attributes:
        idle_bytes: what was in use before the first.
        left_bytes: what the counters may have grown by although nothing was left.
    """

    def __init__(self) -> None:
        page_bytes = PROCESSOR_PAGES * posix.sysconf("SC_PAGE_SIZE")
        self.left_bytes = LEFT_BYTES + page_bytes * posix.sysconf("SC_NPROCESSORS_ONLN")
        self.idle_bytes = self.used_bytes = memory_in_use()
        self.held_bytes = memory_held()

    def is_free(self) -> bool:
        """Whether what the last program held was given back, or is within a moment.

        The kernel frees some of it, such as shared memory segments, after the namespaces are gone.
        """
        used_bytes = memory_in_use()
        if used_bytes > self.used_bytes + self.left_bytes:
            until = time.monotonic() + FREED_S
            while memory_held() > self.held_bytes + self.left_bytes:
                if time.monotonic() > until:
                    return False
                time.sleep(0.001)
            used_bytes = memory_in_use()
        # The rest of what grew is cache of files, which goes when the memory is needed.
        self.used_bytes = max(self.used_bytes, used_bytes)
        return True


def memory_held() -> int:
    """Bytes of the lane's memory that are no cache."""
    fields = read_fields("/memory/memory.stat") or read_fields("/memory.stat")
    names = ("total_rss", "total_shmem", "anon", "shmem")
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    return sum(int(found.get(name, 0)) for name in names)
