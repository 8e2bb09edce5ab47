"""The log of a service: lines for people, or JSON for programs; with the task it is about."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Literal

from crucible.errors import CrucibleError
from crucible.evaluation.record import TASK_ID_PREFIX, public_id, tenant_of
from crucible.tracing import current, sampled_in
from crucible.worker.log_context import running_message

if TYPE_CHECKING:
    from structlog.typing import EventDict

LogFormat = Literal["human", "json"]
_HUMAN = "%(asctime)s %(levelname)-7s %(name)s%(fields)s: %(message)s"


def configure(level: str, log_format: LogFormat) -> None:
    """Have all loggers write to standard error.

    Args:
        level: least severity that is written.
        log_format: of each record.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_json() if log_format == "json" else HumanFormatter(_HUMAN))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def context_fields() -> dict[str, str | int]:
    """The fields of the task that runs in this context, and of the trace it belongs to."""
    message = running_message.get()
    if message is None:
        trace = current.get()
        return {} if trace is None else {"trace_id": trace.trace_id}
    fields: dict[str, str | int] = {"task_id": message.id, "retry_count": message.retries}
    if message.id.startswith(TASK_ID_PREFIX):
        scoped = message.id.removeprefix(TASK_ID_PREFIX)
        fields["eval_id"] = public_id(scoped)
        # Anybody may send a message: its id may name no tenant.
        with contextlib.suppress(CrucibleError):
            fields["tenant"] = tenant_of(scoped)
    if (found := sampled_in(message.headers)) is not None:
        fields["trace_id"] = found.trace_id
    return fields


class HumanFormatter(logging.Formatter):
    """One line for each record; fields of the task behind the logger's name."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - a method of logging
        """The line, without a traceback."""
        fields = " ".join(f"{name}={value}" for name, value in context_fields().items())
        record.fields = f" [{fields}]" if fields else ""
        return super().formatMessage(record)


def _json() -> logging.Formatter:
    # Imported here, so that it costs nothing where lines are for people.
    from structlog import stdlib
    from structlog.processors import EventRenamer, JSONRenderer, TimeStamper, format_exc_info

    return stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            stdlib.add_log_level,
            stdlib.add_logger_name,
            _add_process,
            TimeStamper(fmt="iso", utc=True, key="at"),
            _add_fields,
        ],
        processors=[
            stdlib.ProcessorFormatter.remove_processors_meta,
            format_exc_info,
            EventRenamer("message"),
            JSONRenderer(),
        ],
    )


def _add_process(logger: logging.Logger, name: str, event: EventDict) -> EventDict:
    return {**event, "pid": os.getpid()}


def _add_fields(logger: logging.Logger, name: str, event: EventDict) -> EventDict:
    return {**event, **context_fields()}
