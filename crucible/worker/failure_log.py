"""The line that a failed task leaves in the worker's log, as from stock: with its traceback."""

from __future__ import annotations

import logging
import traceback as tracebacks
from pathlib import Path
from typing import TYPE_CHECKING

from crucible.worker.exceptions import Escaped

if TYPE_CHECKING:
    from types import TracebackType

    from crucible.broker.wire.decode import Message

logger = logging.getLogger(__name__)

#: Frames of this room say nothing of a task's failure.
_OURS = str(Path(__file__).parent)


def log_failure(message: Message, error: BaseException) -> None:
    """One record with the task's name and id, and what its own code was doing."""
    shown = error.error if isinstance(error, Escaped) else error
    below = _below_ours(shown.__traceback__)
    lines = tracebacks.format_exception(type(shown), shown, below)
    logger.error("task %s[%s] failed: %s", message.task, message.id, "".join(lines).rstrip())


def _below_ours(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins in the task's own code."""
    while traceback and traceback.tb_frame.f_code.co_filename.startswith(_OURS):
        traceback = traceback.tb_next
    return traceback
