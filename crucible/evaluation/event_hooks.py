"""Worker hooks that write the events of evaluations to the bus.

The event of an end, or of a retry, is held back until the server has the settlement: whoever reads
it finds the result, and a worker that dies before it settled has reported nothing that did not
happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import Destination
from crucible.broker.wire.retry import attempt_of, deliveries_in
from crucible.evaluation import transitions
from crucible.evaluation.transitions import Delivery, is_scoped, scoped_of
from crucible.tracing import onward
from crucible.worker.run import TurnedAway

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from crucible.broker.claiming.claims import Settlement
    from crucible.broker.wire.decode import Message
    from crucible.events.event import Event
    from crucible.events.writer import EventSink
    from crucible.worker import TaskContext
    from crucible.worker.run import Run

#: Most entries a worker keeps of running evaluations that report progress.
_REPORTING = 10_000


class EventHooks:
    """Writes events of evaluations (see ``worker.hooks.TaskHooks``).

    Args:
        sink: takes the events.
        tasks: names of the tasks that are evaluations.
    """

    def __init__(self, sink: EventSink, tasks: Collection[str]) -> None:
        self._sink = sink
        self._tasks = tasks
        #: Node name of this worker, from its first run.
        self._worker: str | None = None
        #: By claim: what is written once it is settled.
        self._held_back: dict[str, Sequence[Event]] = {}
        #: Reports of progress so far, by task.
        self._reports: dict[str, int] = {}

    def received(self, run: Run) -> None:
        """No event: its client does not distinguish a message that waits from one that is held."""

    def started(self, run: Run) -> None:
        """No event: the task itself reports that it runs, in stock workers as well."""

    def running(self, ctx: TaskContext, eval_id: str) -> None:
        """Write that an evaluation runs.

        Args:
            ctx: of its task, in a worker of either kind.
            eval_id: the scoped id.
        """
        self._worker = ctx.hostname
        queue = str(ctx.delivery_info.get("routing_key") or "")
        delivery = delivery_of(
            ctx.id, ctx.headers, queue=queue, worker=ctx.hostname, retries=ctx.retries
        )
        if is_scoped(eval_id):
            self._sink.add(transitions.running(delivery._replace(eval_id=eval_id)))

    def updated(self, message: Message, state: str, meta: Any) -> None:
        """Progress."""
        delivery = self._of(message, None)
        if delivery is None or not delivery.eval_id:
            return
        number = self._reports.get(message.id, 0) + 1
        if len(self._reports) < _REPORTING:
            self._reports[message.id] = number
        event = transitions.progressed(delivery, number, meta)
        if event is not None:
            self._sink.add(event)

    def succeeded(self, run: Run, result: Any, runtime_s: float) -> None:
        """Completed, or failed by its own fault, once that is stored."""
        delivery = self._delivery(run)
        if delivery is not None:
            self._hold_back(run, _ends(delivery, result))

    def failed(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Failed by a fault of the platform, or a dead letter, once that is stored."""
        delivery = self._delivery(run)
        if delivery is not None and delivery.eval_id:
            self._hold_back(run, [transitions.failed(delivery, error)])

    def retried(self, run: Run, error: BaseException, traceback: str | None) -> None:
        """Retrying, once its next try is queued."""
        delivery = self._delivery(run)
        if delivery is not None and delivery.eval_id:
            self._hold_back(run, [transitions.retrying(delivery, error)])

    # The same in stock workers, where what happened is stored by then

    def returned(self, task: str, delivery: Delivery, result: Any) -> None:
        """A task has returned."""
        if task in self._tasks:
            for event in _ends(delivery, result):
                self._sink.add(event)

    def gave_up(self, task: str, delivery: Delivery, error: BaseException) -> None:
        """A task has failed."""
        if task in self._tasks and delivery.eval_id:
            self._sink.add(transitions.failed(delivery, error))

    def delayed(self, task: str, delivery: Delivery, error: BaseException | str) -> None:
        """A task waits for its next try."""
        if task in self._tasks and delivery.eval_id:
            self._sink.add(transitions.retrying(delivery, error))

    def turned_away(self, run: Run, why: TurnedAway) -> None:
        """Cancelled or expired, once that is stored; a message that goes back is no transition."""
        delivery = self._delivery(run)
        if delivery is None or not delivery.eval_id:
            return
        if why in (TurnedAway.REVOKED, TurnedAway.TERMINATED):
            self._hold_back(run, [transitions.cancelled(delivery)])
        elif why is TurnedAway.EXPIRED:
            self._hold_back(run, [transitions.expired(delivery)])

    def settled(self, settlements: Sequence[Settlement]) -> None:
        """Write what was held back for these."""
        if not self._held_back:
            return
        for settlement in settlements:
            if settlement.claim is None:
                continue
            disposition = settlement.disposition
            kept = disposition is not None and disposition.to is Destination.DEAD_LETTERS
            for event in self._held_back.pop(settlement.claim.field, ()):
                self._sink.add(transitions.kept(event) if kept else event)

    def _hold_back(self, run: Run, events: Sequence[Event]) -> None:
        # A result that the server refuses is followed by a failure of the same claim.
        self._held_back[run.claim.field] = events
        if run.message is not None:
            self._reports.pop(run.message.id, None)

    def _delivery(self, run: Run) -> Delivery | None:
        if run.message is None:
            return None
        return self._of(run.message, run)

    def _of(self, message: Message, run: Run | None) -> Delivery | None:
        if message.task not in self._tasks:
            return None
        started = run is not None and run.started_at > 0
        return delivery_of(
            message.id,
            message.headers,
            queue=message.queue,
            worker=self._worker if started or run is None else None,
            retries=message.retries,
            started_ms=round(run.started_at * 1000) if run is not None and started else None,
        )


def _ends(delivery: Delivery, result: Any) -> list[Event]:
    """The ends of what a task ran: one evaluation, or a list of them."""
    results = result if isinstance(result, list) else (result,)
    events = (transitions.ended(delivery, one) for one in results)
    return [event for event in events if event is not None]


def delivery_of(
    task_id: str,
    headers: Mapping[str, Any],
    *,
    queue: str,
    worker: str | None,
    retries: int,
    started_ms: int | None = None,
) -> Delivery:
    """The delivery of a task's message; its ``eval_id`` is empty where the task runs several."""
    return Delivery(
        scoped_of(task_id),
        queue,
        worker,
        retries,
        attempt_of(headers),
        deliveries_in(headers),
        started_ms,
        onward(headers),
    )
