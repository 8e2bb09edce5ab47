"""The legacy queue: a deque in memory, first in, first out, and nothing on disk.

No I/O and no loop: one call is one step, so a single-threaded service needs no lock.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from crucible.breaker import worst
from crucible.errors import ConflictError, LegacyRefused, LegacyTaskUnknown, LegacyWrongState
from crucible.legacy.wire import ENDED_STATES, QueueStats, TaskResult, TaskState, TaskView

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from crucible.breaker import Circuit
    from crucible.models import Outcome, Program

#: Tasks that may wait.
LIMIT = 10_000
#: Ended tasks whose result can still be asked for …
KEEP_ENDED = 10_000
#: … as long as their output and files take no more than this together.
KEEP_ENDED_BYTES = 64 * 1024 * 1024
#: Workers whose circuits are remembered, and seconds after which one that went silent is not.
KEEP_WORKERS, KEEP_WORKER_S = 1000, 60.0


@dataclass
class LegacyTask:
    """One task, changed only by the queue.

    Attributes:
        id: the evaluation's id.
        digest: of the program, to distinguish a repetition from another program under its id.
        program: what to run; None once the task has ended.
        created_s: clock reading at submission, as the other two at theirs.
    """

    id: str
    digest: bytes
    program: Program | None
    created_s: float
    status: TaskState = TaskState.QUEUED
    started_s: float | None = None
    finished_s: float | None = None
    worker: str = ""
    message: str = ""
    outcome: Outcome | None = None

    def view(self) -> TaskView:
        """The task without program and result."""
        return TaskView(
            id=self.id,
            status=self.status,
            worker=self.worker,
            message=self.message,
            created_at=_iso(self.created_s),
            started_at=_iso(self.started_s) if self.started_s is not None else None,
            finished_at=_iso(self.finished_s) if self.finished_s is not None else None,
        )

    def result(self) -> TaskResult:
        """The task with its result."""
        return TaskResult(**msgspec.structs.asdict(self.view()), outcome=self.outcome)


class LegacyQueue:
    """Tasks in memory: waiting in a deque, running, and the last ones that ended."""

    def __init__(
        self,
        *,
        limit: int = LIMIT,
        keep_ended: int = KEEP_ENDED,
        keep_ended_bytes: int = KEEP_ENDED_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limit = limit
        self._keep_ended = keep_ended
        self._keep_ended_bytes = keep_ended_bytes
        self._clock = clock
        self._waiting: deque[str] = deque()
        self._live: dict[str, LegacyTask] = {}
        self._ended: OrderedDict[str, LegacyTask] = OrderedDict()
        self._ended_bytes = 0
        self._totals: Counter[str] = Counter()
        self._started_s = clock()
        self._polled_s: float | None = None
        #: By worker, the one that polled last at the end: when, and its circuits.
        self._heard: OrderedDict[str, tuple[float, Mapping[str, Circuit]]] = OrderedDict()
        self.draining = False

    def submit(self, task_id: str, program: Program) -> tuple[LegacyTask, bool]:
        """Append a program to the queue, unless its id is known.

        Returns:
            The task under this id, and whether this call made it.

        Raises:
            ConflictError: the id was used before with another program.
            LegacyRefused: the queue is draining or full; a known id is answered all the same.
        """
        digest = _digest(program)
        known = self._live.get(task_id) or self._ended.get(task_id)
        if known is not None:
            if known.digest != digest:
                raise ConflictError("id", f"{task_id} was used before with another program")
            return known, False
        if self.draining:
            raise LegacyRefused("the legacy queue is draining and takes no new tasks")
        if len(self._waiting) >= self._limit:
            raise LegacyRefused(f"the legacy queue is full: {len(self._waiting)} tasks wait")
        task = LegacyTask(task_id, digest, program, self._clock())
        self._live[task_id] = task
        self._waiting.append(task_id)
        self._totals["submitted"] += 1
        return task, True

    def take(
        self, worker: str = "", circuits: Mapping[str, Circuit] | None = None
    ) -> LegacyTask | None:
        """Give the oldest queued task to a worker; None when there is none.

        A worker that dies keeps what it took: there is no lease, and no task is given out twice.

        Args:
            worker: its name.
            circuits: its circuit breakers, by downstream; for ``stats`` only.
        """
        self._polled_s = self._clock()
        self._hear(worker, circuits or {})
        if not self._waiting:
            return None
        task = self._live[self._waiting.popleft()]
        task.status, task.started_s, task.worker = TaskState.RUNNING, self._clock(), worker
        return task

    def finish(self, task_id: str, outcome: Outcome) -> LegacyTask:
        """Store how a running task's program ended; the same outcome again changes nothing.

        Raises:
            LegacyTaskUnknown: no such task.
            LegacyWrongState: it is not running, or ended otherwise before.
        """
        task = self.get(task_id)
        if task.status is TaskState.COMPLETED and task.outcome == outcome:
            return task
        self._require_running(task)
        task.outcome = outcome
        return self._end(task, TaskState.COMPLETED)

    def fail(self, task_id: str, message: str) -> LegacyTask:
        """Note that a running task could not be run. It is not tried again.

        Raises:
            LegacyTaskUnknown: no such task.
            LegacyWrongState: it is not running.
        """
        task = self.get(task_id)
        self._require_running(task)
        task.message = message
        return self._end(task, TaskState.FAILED)

    def confirm_running(self, task_id: str) -> LegacyTask:
        """Accept a worker's report that it runs a task; taking the task has marked it already.

        Raises:
            LegacyTaskUnknown: no such task.
            LegacyWrongState: it is not running.
        """
        task = self.get(task_id)
        self._require_running(task)
        return task

    def cancel(self, task_id: str) -> LegacyTask:
        """Cancel a queued task; cancelling it again changes nothing.

        Raises:
            LegacyTaskUnknown: no such task.
            LegacyWrongState: it is running or has ended.
        """
        task = self.get(task_id)
        if task.status is TaskState.CANCELLED:
            return task
        if task.status is not TaskState.QUEUED:
            raise LegacyWrongState(f"{task_id} is {task.status}; only a queued task is cancelled")
        self._waiting.remove(task_id)
        return self._end(task, TaskState.CANCELLED)

    def get(self, task_id: str) -> LegacyTask:
        """The task under an id.

        Raises:
            LegacyTaskUnknown: no such task, or its result was dropped to make room.
        """
        task = self._live.get(task_id) or self._ended.get(task_id)
        if task is None:
            raise LegacyTaskUnknown(f"no task {task_id}")
        return task

    def find(self, ids: Iterable[str]) -> list[LegacyTask]:
        """Those of some tasks that are known, in the order asked for."""
        found = (self._live.get(task_id) or self._ended.get(task_id) for task_id in ids)
        return [task for task in found if task is not None]

    def tasks(self, status: TaskState | None, limit: int) -> list[LegacyTask]:
        """The first ``limit`` tasks of one status, or of any: ended ones first, oldest first."""
        found: Iterable[LegacyTask] = (*self._ended.values(), *self._live.values())
        return list(islice((t for t in found if status in (None, t.status)), limit))

    def stats(self) -> QueueStats:
        """Depths, totals and ages."""
        now = self._clock()
        oldest = self._live[self._waiting[0]].created_s if self._waiting else now
        return QueueStats(
            queued=len(self._waiting),
            running=len(self._live) - len(self._waiting),
            ended=len(self._ended),
            ended_bytes=self._ended_bytes,
            submitted_total=self._totals["submitted"],
            completed_total=self._totals[TaskState.COMPLETED],
            failed_total=self._totals[TaskState.FAILED],
            cancelled_total=self._totals[TaskState.CANCELLED],
            forgotten_total=self._totals["forgotten"],
            draining=self.draining,
            oldest_queued_s=now - oldest,
            idle_poll_s=None if self._polled_s is None else now - self._polled_s,
            uptime_s=now - self._started_s,
            circuits=worst(
                circuits for at, circuits in self._heard.values() if now - at <= KEEP_WORKER_S
            ),
        )

    def _hear(self, worker: str, circuits: Mapping[str, Circuit]) -> None:
        self._heard.pop(worker, None)
        if circuits:
            self._heard[worker] = (self._clock(), circuits)
            if len(self._heard) > KEEP_WORKERS:
                self._heard.popitem(last=False)

    def _require_running(self, task: LegacyTask) -> None:
        if task.status is not TaskState.RUNNING:
            raise LegacyWrongState(f"{task.id} is {task.status}, not running")

    def _end(self, task: LegacyTask, status: TaskState) -> LegacyTask:
        assert status in ENDED_STATES
        del self._live[task.id]
        task.status, task.finished_s, task.program = status, self._clock(), None
        self._ended[task.id] = task
        self._ended_bytes += _kept_bytes(task)
        self._totals[status] += 1
        while len(self._ended) > self._keep_ended or self._ended_bytes > self._keep_ended_bytes:
            _, forgotten = self._ended.popitem(last=False)
            self._ended_bytes -= _kept_bytes(forgotten)
            self._totals["forgotten"] += 1
        return task


def _digest(program: Program) -> bytes:
    return hashlib.sha256(msgspec.json.encode(program, order="deterministic")).digest()


def _kept_bytes(task: LegacyTask) -> int:
    if task.outcome is None:
        return len(task.message)
    outcome = task.outcome
    compiler = len(outcome.compile.error) if outcome.compile else 0
    files = sum(map(len, outcome.files.values()))
    return len(outcome.stdout) + len(outcome.stderr) + files + compiler


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
