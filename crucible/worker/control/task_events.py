"""Task events: what a worker says about each task, in the words of stock workers.

How a task ended is said once its result is stored and its claim dropped, so
nobody who hears of an end finds no result.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from crucible.broker.wire.jsontypes import dumps, quote
from crucible.broker.wire.reprs import bounded_repr
from crucible.broker.wire.timestamps import utc_text
from crucible.worker.hooks import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.control.event_stream import EventStream
    from crucible.broker.wire.decode import Message
    from crucible.worker.hooks import Run

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
    """The hooks that make events of what happens to tasks; it counts tasks even while disabled.

    Args:
        stream: sends the events.
        enabled: send them from the start.

    Attributes:
        enabled: task events are sent.
        totals: tasks started since the worker started, by name.
        signums: signals named by whoever had tasks terminated, by task id.
    """

    def __init__(self, stream: EventStream, *, enabled: bool = False) -> None:
        self.enabled = enabled
        self.totals: Counter[str] = Counter()
        self.signums: dict[str, int] = {}
        self._stream = stream
        #: By claim: the task's id, then the events that wait for the claim's end.
        self._ends: dict[str, tuple[str, ...]] = {}
        #: By task id: claims that end with the message going back, perhaps to this very worker.
        self._coming_back: dict[str, str] = {}

    def received(self, run: Run) -> None:
        """Tell task-received."""
        message = run.message
        if not self.enabled or message is None:
            return
        if self._coming_back and (field := self._coming_back.pop(message.id, None)):
            # Its last delivery has ended on the server, which we were not told of yet.
            self._release(field)
        self._stream.add(_received(message))
        run.told = True

    def started(self, run: Run) -> None:
        """Count it, and tell task-started."""
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
        """Tell task-succeeded once the result is stored."""
        self._forget_signal(run)
        if self.enabled:
            self._end(
                run, "task-succeeded", f'"result": {_shown(result)}, "runtime": {runtime_s!r}'
            )

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Tell task-failed once the result is stored."""
        self._forget_signal(run)
        if self.enabled:
            self._end(run, "task-failed", _trouble(error, traceback))

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Tell task-retried once the next try is queued."""
        if self.enabled:
            self._end(run, "task-retried", _trouble(error, traceback))
            self._expect_back(run)

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """Tell task-revoked or task-rejected; stock says nothing of ignored tasks."""
        signum = self._forget_signal(run)
        if not self.enabled or why is TurnedAway.IGNORED:
            return
        if why in (TurnedAway.REJECTED, TurnedAway.REQUEUED):
            requeue = "true" if why is TurnedAway.REQUEUED else "false"
            self._end(run, "task-rejected", f'"requeue": {requeue}')
            if why is TurnedAway.REQUEUED:
                self._expect_back(run)
            return
        terminated = why is TurnedAway.TERMINATED
        self._end(
            run,
            "task-revoked",
            f'"terminated": {"true" if terminated else "false"}, '
            f'"signum": {int(signum) if terminated else "null"}, '
            f'"expired": {"true" if why is TurnedAway.EXPIRED else "false"}',
        )

    def _forget_signal(self, run: Run) -> int:
        if not self.signums or run.message is None:
            return signal.SIGTERM
        return self.signums.pop(run.message.id, signal.SIGTERM)

    def _end(self, run: Run, kind: str, fields: str) -> None:
        message = run.message
        if message is None:
            return
        tail = (
            f', "uuid": {quote(message.id)}, {fields}, "timestamp": {time.time()!r}, '
            f'"type": "{kind}"}}'
        )
        field = run.claim.field
        # A rejected task has two: task-failed and task-rejected.
        self._ends[field] = (*self._ends.get(field, (message.id,)), tail)

    def _expect_back(self, run: Run) -> None:
        if run.message is not None:
            self._coming_back[run.message.id] = run.claim.field

    def _release(self, field: str) -> None:
        task_id, *tails = self._ends.pop(field, ("",))
        for tail in tails:
            self._stream.add(tail)
        if self._coming_back:
            self._coming_back.pop(task_id, None)

    def ended(self, endings: Iterable[Settlement]) -> None:
        """The server has these endings: tell what was held back for them."""
        if not self._ends:
            return
        for ending in endings:
            if ending.claim is not None:
                self._release(ending.claim.field)


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


def _trouble(error: BaseException, traceback: str | None) -> str:
    shown = f'"exception": {_error_shown(error)}'
    # Stock leaves the member out where a task never ran.
    return shown if traceback is None else f'{shown}, "traceback": {quote(traceback)}'
