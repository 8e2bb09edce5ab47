"""The memory allocator of the wheel's server, which is built without jemalloc.

The C library's allocator gets slower as the heap grows: it takes a third of a submission's time in
a server that holds a million messages. jemalloc, which distributions use for their servers, costs
next to nothing at either size (measured: docs/performance.md, Depth).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Preloaded where it is installed (Debian: ``libjemalloc2``); the loader ignores it elsewhere.
JEMALLOC = "libjemalloc.so.2"
#: Without jemalloc: a script frees thousands of small blocks at once, and the next one allocates as
#: many. Kept in the thread cache and never merged, they cost a quarter less.
TUNABLES = "glibc.malloc.tcache_count=20000:glibc.malloc.mxfast=0"


def with_allocator(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for the wheel's server; variables the operator has set take precedence."""
    return {"LD_PRELOAD": JEMALLOC, "GLIBC_TUNABLES": TUNABLES, **environment}
