"""What a program writes, heard while it runs by whoever has it run.

The listener is a context variable: between the caller of ``Executor.run`` and the sandbox are
pools, lanes and the compile cache, to none of which it matters. Executors on other hosts hand back
output at the end only.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LISTENER: ContextVar[Callable[[bytes], None] | None] = ContextVar("listener", default=None)


@contextmanager
def listening(said: Callable[[bytes], None]) -> Iterator[None]:
    """Hear standard output of programs that are run in this context.

    Args:
        said: called with each piece, in order, up to the program's output limit.
    """
    token = _LISTENER.set(said)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def listener() -> Callable[[bytes], None] | None:
    """Who listens here; None for nobody."""
    return _LISTENER.get()
