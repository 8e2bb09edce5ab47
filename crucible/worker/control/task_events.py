"""Task events: what a worker reports of each task, with the names and fields of stock workers.

The event of a task's end is sent once its result is stored and its claim dropped, so that a
receiver of the event finds the result.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from crucible.broker.wire.jsontypes import dumps, quote
from crucible.broker.wire.reprs import bounded_repr
from crucible.broker.wire.timestamps import utc_text
from crucible.worker.run import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.control.event_stream import EventStream
    from crucible.broker.wire.decode import Message
    from crucible.worker.run import Run

#: Characters of a result shown in its event (celery ``Task.resultrepr_maxsize``).
_MAX_RESULT = 1024
#: Types whose repr is short, and the same as the bounded one.
_SHORT = frozenset({int, float, bool, type(None)})


def _shown(value: Any) -> str:
    """A result's bounded repr as JSON text."""
    if type(value) in _SHORT:
        return f'"{value}"'
    return quote(bounded_repr(value, _MAX_RESULT))


def _error_shown(error: BaseException) -> str:
    try:
        text = repr(error)
    except Exception as failure:  # noqa: BLE001 - a foreign __repr__ may raise anything
        text = f"<Unrepresentable {type(error).__name__}: {type(failure).__name__}>"
    return quote(text)


def _text(value: Any) -> str:
    return quote(value) if type(value) is str else dumps(value)


def _moment(epoch: float) -> str:
    return f'"{utc_text(epoch)}"'


class TaskEvents:
    """Sends an event for each call of a task hook; counts tasks even while disabled.

    Args:
        stream: sends the events.
        enabled: send them from the start.

    Attributes:
        enabled: task events are sent.
        totals: tasks started since the worker started, by name.
        signums: signals named in terminate commands, by task id.
    """

    def __init__(self, stream: EventStream, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.totals: Counter[str] = Counter()
        self.signums: dict[str, int] = {}
        self._stream = stream
        #: By claim: the task's id, then the events that wait for the claim's settlement.
        self._held_back: dict[str, tuple[str, ...]] = {}
        #: By task id: claims whose settlement sends the message back, perhaps to this very worker.
        self._returning: dict[str, str] = {}

    def received(self, run: Run) -> None:
        """Send task-received."""
        message = run.message
        if not self.enabled or message is None:
            return
        if self._returning and (field := self._returning.pop(message.id, None)):
            # Its last delivery is settled on the server, whose answer has not been read yet.
            self._release(field)
        self._stream.add(_received(message))
        run.received_sent = True

    def started(self, run: Run) -> None:
        """Count it, and send task-started."""
        message = run.message
        if message is None:
            return
        self.totals[message.task] += 1
        if self.enabled:
            self._stream.add(
                f', "uuid": {quote(message.id)}, "timestamp": {time.time()!r}, '
                '"type": "task-started"}'
            )

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """Send task-succeeded once the result is stored."""
        self._pop_signum(run)
        if self.enabled:
            self._hold_back(
                run, "task-succeeded", f'"result": {_shown(result)}, "runtime": {runtime_s!r}'
            )

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Send task-failed once the result is stored."""
        self._pop_signum(run)
        if self.enabled:
            self._hold_back(run, "task-failed", _exception_fields(error, traceback))

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Send task-retried once the next try is queued."""
        if self.enabled:
            self._hold_back(run, "task-retried", _exception_fields(error, traceback))
            self._expect_return(run)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """Send task-revoked or task-rejected; stock sends nothing for ignored tasks."""
        signum = self._pop_signum(run)
        if not self.enabled or why is TurnedAway.IGNORED:
            return
        if why in (TurnedAway.REJECTED, TurnedAway.REQUEUED):
            requeue = "true" if why is TurnedAway.REQUEUED else "false"
            self._hold_back(run, "task-rejected", f'"requeue": {requeue}')
            if why is TurnedAway.REQUEUED:
                self._expect_return(run)
            return
        terminated = why is TurnedAway.TERMINATED
        self._hold_back(
            run,
            "task-revoked",
            f'"terminated": {"true" if terminated else "false"}, '
            f'"signum": {int(signum) if terminated else "null"}, '
            f'"expired": {"true" if why is TurnedAway.EXPIRED else "false"}',
        )

    def _pop_signum(self, run: Run) -> int:
        if not self.signums or run.message is None:
            return signal.SIGTERM
        return self.signums.pop(run.message.id, signal.SIGTERM)

    def _hold_back(self, run: Run, kind: str, fields: str) -> None:
        message = run.message
        if message is None:
            return
        tail = (
            f', "uuid": {quote(message.id)}, {fields}, "timestamp": {time.time()!r}, '
            f'"type": "{kind}"}}'
        )
        field = run.claim.field
        # A rejected task has two: task-failed and task-rejected.
        self._held_back[field] = (*self._held_back.get(field, (message.id,)), tail)

    def _expect_return(self, run: Run) -> None:
        if run.message is not None:
            self._returning[run.message.id] = run.claim.field

    def _release(self, field: str) -> None:
        task_id, *tails = self._held_back.pop(field, ("",))
        for tail in tails:
            self._stream.add(tail)
        if self._returning:
            self._returning.pop(task_id, None)

    def updated(self, message: Message, state: str, meta: Any) -> None:
        """Stock sends nothing."""

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """The server has these settlements: send the events held back for them."""
        if not self._held_back:
            return
        for settlement in settlements:
            if settlement.claim is not None:
                self._release(settlement.claim.field)


def _received(message: Message) -> str:
    get = message.headers.get
    eta, expires, parent_id = message.eta, message.expires, get("parent_id")
    return (
        f', "uuid": {quote(message.id)}, "name": {_text(get("shadow") or message.task)}, '
        f'"args": {_text(get("argsrepr", ""))}, "kwargs": {_text(get("kwargsrepr", ""))}, '
        f'"root_id": {_text(get("root_id"))}, '
        f'"parent_id": {"null" if parent_id is None else quote(parent_id)}, '
        f'"retries": {message.retries}, "eta": {"null" if eta is None else _moment(eta)}, '
        f'"expires": {"null" if expires is None else _moment(expires)}, '
        f'"timestamp": {time.time()!r}, "type": "task-received"}}'
    )


def _exception_fields(error: BaseException, traceback: str | None) -> str:
    shown = f'"exception": {_error_shown(error)}'
    # Stock leaves the member out where a task never ran.
    return shown if traceback is None else f'{shown}, "traceback": {quote(traceback)}'
