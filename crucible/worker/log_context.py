"""Which task a log record is about: bound by context while it runs, read by the log's formatter."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crucible.broker.wire.decode import Message

#: The message of the task that runs in this context; None outside of tasks. Only the reference is
#: kept: what a record shows of it is worked out for the few that are written.
running_message: ContextVar[Message | None] = ContextVar("running_message", default=None)
