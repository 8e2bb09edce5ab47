"""Running one coroutine inside a long-lived slot as if it had an asyncio task of its own.

A slot is one asyncio task that runs many messages, which spares each a task of its own. What a
message would leave behind in it must not reach the next: context variables live in a copied
context, and cancellations asked for are taken back.
"""

from __future__ import annotations

import asyncio
import logging
import types
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from crucible.worker.exceptions import Escaped, SoftTimeLimitExceeded
from crucible.worker.run import Stop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from crucible.worker.run import Run

logger = logging.getLogger(__name__)


@types.coroutine
def isolate(coroutine: Coroutine[Any, Any, Any], run: Run) -> Generator[Any, Any, Any]:
    """Run ``coroutine`` to its end in a context of its own.

    A cancellation that the soft time limit caused arrives inside as ``SoftTimeLimitExceeded``, at
    the await it is waiting in, as stock raises it.

    Raises:
        Escaped: it raised what would end the slot, or the whole loop.
        BaseException: whatever else it raised.
    """
    enter = copy_context().run
    send, throw = coroutine.send, coroutine.throw
    error: BaseException | None = None
    while True:
        try:
            waited_for = enter(send, None) if error is None else enter(throw, error)
        except StopIteration as stop:
            return stop.value
        except (Exception, asyncio.CancelledError):
            raise
        except BaseException as raised:
            raise Escaped(raised) from raised
        try:
            yield waited_for
            error = None
        except asyncio.CancelledError as cancelled:
            if run.stop is Stop.ABANDONED:
                _close(coroutine)
                raise
            error = _as_seen_inside(cancelled, run)
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - handed into the coroutine, not swallowed
            error = raised


def _as_seen_inside(cancelled: asyncio.CancelledError, run: Run) -> BaseException:
    if not run.soft_limit or run.stop is not None:
        return cancelled
    run.soft_limit = False
    if run.runner is not None:
        run.runner.uncancel()
    return SoftTimeLimitExceeded()


def _close(coroutine: Coroutine[Any, Any, Any]) -> None:
    """End a coroutine that did not end when it was cancelled: it gets no further than here."""
    try:
        coroutine.close()
    except BaseException:  # supervision: another run settles its claim, and the slot ends anyway
        logger.exception("an abandoned task raised")
