"""Running one coroutine inside a long-lived slot as if it had an asyncio task of its own.

A slot is one asyncio task that runs many messages, which spares each a task of its own. What a
message would leave behind in it must not reach the next: context variables live in a copied
context, and cancellations asked for are taken back.
"""

from __future__ import annotations

import asyncio
import types
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from crucible.worker.outcomes import SoftTimeLimitExceeded

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from crucible.worker.hooks import Run


@types.coroutine
def drive(coroutine: Coroutine[Any, Any, Any], run: Run) -> Generator[Any, Any, Any]:
    """Run ``coroutine`` to its end in a context of its own.

    A cancellation that the soft time limit caused arrives inside as ``SoftTimeLimitExceeded``, at
    the await it is waiting in, as stock raises it.
    """
    enter = copy_context().run
    send, throw = coroutine.send, coroutine.throw
    error: BaseException | None = None
    while True:
        try:
            waited_for = enter(send, None) if error is None else enter(throw, error)
        except StopIteration as stop:
            return stop.value
        try:
            yield waited_for
            error = None
        except asyncio.CancelledError as cancelled:
            error = cancelled
            if run.soft_limit and run.stop is None:
                run.soft_limit = False
                if run.runner is not None:
                    run.runner.uncancel()
                error = SoftTimeLimitExceeded()
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - handed into the coroutine, not swallowed
            error = raised
