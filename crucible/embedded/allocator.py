"""Memory allocation of the server from the wheel, which is built without an allocator of its own.

The C library's takes longer the larger the heap, a third of a submission's time in a server that
holds a million messages. jemalloc, which servers of distributions are built with, takes next to
nothing at either size (measured: docs/performance.md, Depth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Found by the dynamic loader where it is installed (Debian: ``libjemalloc2``), else ignored.
JEMALLOC = "libjemalloc.so.2"
#: For where it is not: a script frees thousands of small pieces at once and takes as many for the
#: next. Kept on the thread's own list, and never merged on the way, they cost a quarter less.
TUNABLES = "glibc.malloc.tcache_count=20000:glibc.malloc.mxfast=0"


def with_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for the wheel's server; what the operator has set himself stays."""
    return {"LD_PRELOAD": JEMALLOC, "GLIBC_TUNABLES": TUNABLES, **environment}
