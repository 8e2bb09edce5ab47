"""Results this worker stores, as bytes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from crucible.broker.results.meta import (
    FAILURE,
    RETRY,
    REVOKED,
    SUCCESS,
    encode_meta,
    exception_result,
    extended_fields,
    revoked_result,
)
from crucible.broker.wire.jsontypes import dumps, quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.wire.decode import Message


def error_result(error: BaseException) -> dict[str, Any]:
    """An exception as results carry it, ours under the name stock clients know."""
    result = exception_result(error)
    wire_type = getattr(type(error), "wire_type", None)
    if wire_type is not None:
        result["exc_type"], result["exc_module"] = wire_type
    return result


class ResultEncoder:
    """Encodes the states of this worker's tasks.

    Args:
        hostname: node name of the worker.
        extended: keep name, arguments, worker, retries and queue with each result
            (``result_extended``).
    """

    def __init__(self, hostname: str, *, extended: bool = False) -> None:
        self._hostname = hostname
        self._extended = extended

    def success(self, message: Message, result: Any, children: Sequence[Any] = ()) -> bytes:
        """SUCCESS.

        Raises:
            TypeError: the result is of a kind JSON cannot carry.
            ValueError: the result is circular.
        """
        if children or self._extended or message.group or message.parent_id:
            return self.state(message, SUCCESS, result, children=children)
        # What almost every result is, without building the object that would say the same.
        return (
            f'{{"status": "SUCCESS", "result": {dumps(result)}, "traceback": null, '
            f'"children": [], "date_done": "{datetime.now(UTC).isoformat()}", '
            f'"task_id": {quote(message.id)}}}'
        ).encode()

    def failure(
        self,
        message: Message,
        error: BaseException,
        traceback: str | None,
        children: Sequence[Any] = (),
    ) -> bytes:
        """FAILURE with the exception."""
        return self.state(
            message, FAILURE, error_result(error), traceback=traceback, children=children
        )

    def retry(self, message: Message, error: BaseException | None, traceback: str | None) -> bytes:
        """RETRY: the result is null when no exception was named, the child is the task itself."""
        return self.state(
            message,
            RETRY,
            None if error is None else error_result(error),
            traceback=traceback,
            children=[[[message.id, None], None]],
        )

    def revoked(self, message: Message, reason: str, left: Any = None) -> bytes:
        """REVOKED; ``reason`` is revoked, terminated or expired, ``left`` what the task left.

        Stock clients read the exception and pass over the rest.
        """
        result = revoked_result(reason)
        if left is None:
            return self.state(message, REVOKED, result)
        try:
            return self.state(message, REVOKED, {**result, "left": left})
        except (TypeError, ValueError):
            return self.state(message, REVOKED, result)

    def state(
        self,
        message: Message,
        state: str,
        result: Any,
        *,
        traceback: str | None = None,
        children: Sequence[Any] = (),
        task_id: str | None = None,
    ) -> bytes:
        """Any state; with ``task_id`` of a task whose place this one took, so its own fields only.

        Raises:
            TypeError: the result is of a kind JSON cannot carry.
            ValueError: the result is circular.
        """
        if task_id is not None:
            return encode_meta(task_id, state, result)
        return encode_meta(
            message.id,
            state,
            result,
            traceback=traceback,
            children=children,
            group_id=message.group,
            parent_id=message.parent_id,
            extended=self._extra(message) if self._extended else None,
        )

    def _extra(self, message: Message) -> dict[str, Any]:
        return extended_fields(
            name=message.task,
            args=message.args,
            kwargs=message.kwargs,
            worker=self._hostname,
            retries=message.retries,
            queue=message.queue,
            stamped_headers=message.headers.get("stamped_headers"),
            stamps=message.headers.get("stamps"),
        )
