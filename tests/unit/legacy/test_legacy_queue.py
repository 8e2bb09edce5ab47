"""The deque queue: first in, first out, and nothing lost or doubled while its process lives."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crucible.errors import ConflictError, LegacyRefused, LegacyTaskUnknown, LegacyWrongState
from crucible.legacy.queue import LegacyQueue
from crucible.legacy.wire import ENDED_STATES, TaskState
from crucible.models import Outcome, Program, Verdict

OUTCOME = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"42\n")


def program(code: str = "print(6*7)") -> Program:
    return Program(language="python", code=code)


@dataclass
class Clock:
    """A clock turned by hand."""

    now: float = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def test_first_in_first_out() -> None:
    """Tasks are handed out in the order they came, each once."""
    queue = LegacyQueue()
    for name in ("a", "b", "c"):
        queue.submit(name, program(name))
    taken = [queue.take("w"), queue.take("w"), queue.take("w"), queue.take("w")]
    assert [task.id if task else None for task in taken] == ["a", "b", "c", None]


def test_life_of_a_task_in_its_times() -> None:
    """Submission, start and end are dated, and the view tells worker and status."""
    clock = Clock()
    queue = LegacyQueue(clock=clock)
    queue.submit("a", program())
    clock.now += 2.5
    assert queue.stats().oldest_queued_s == 2.5
    queue.take("w1")
    clock.now += 1
    queue.finish("a", OUTCOME)
    found = queue.get("a").result()
    assert (found.status, found.worker, found.outcome) == ("completed", "w1", OUTCOME)
    assert (found.created_at, found.started_at, found.finished_at) == (
        "2001-09-09T01:46:40.000Z",
        "2001-09-09T01:46:42.500Z",
        "2001-09-09T01:46:43.500Z",
    )


def test_same_id_same_content_is_the_first() -> None:
    """A repeated submission returns the first task whatever became of it, and queues nothing."""
    queue = LegacyQueue()
    first, fresh = queue.submit("a", program())
    assert fresh
    assert queue.submit("a", program()) == (first, False)
    queue.take("w")
    queue.finish("a", OUTCOME)
    assert queue.submit("a", program()) == (first, False)
    assert queue.take("w") is None


def test_same_id_other_content_is_a_conflict() -> None:
    """An id is not used twice for different programs, before the end or after it."""
    queue = LegacyQueue()
    queue.submit("a", program())
    with pytest.raises(ConflictError):
        queue.submit("a", program("print(1)"))
    queue.take("w")
    queue.fail("a", "no executor")
    with pytest.raises(ConflictError):
        queue.submit("a", program("print(1)"))


def test_draining_refuses_new_and_serves_the_rest() -> None:
    """While draining, known ids are answered, new ones refused, and the line is worked off."""
    queue = LegacyQueue()
    queue.submit("a", program())
    queue.draining = True
    with pytest.raises(LegacyRefused, match="draining"):
        queue.submit("b", program())
    assert queue.submit("a", program())[1] is False
    assert queue.take("w") is not None
    queue.draining = False
    assert queue.submit("b", program())[1] is True


def test_full_queue_refuses() -> None:
    """A queue at its limit takes nothing more until something is taken."""
    queue = LegacyQueue(limit=2)
    queue.submit("a", program())
    queue.submit("b", program())
    with pytest.raises(LegacyRefused, match="full: 2"):
        queue.submit("c", program())
    queue.take("w")
    queue.submit("c", program())


@pytest.mark.parametrize("status", list(TaskState))
def test_wrong_state_changes_nothing(status: TaskState) -> None:
    """What a task's status does not allow is refused and leaves the task as it was."""
    queue = LegacyQueue()
    queue.submit("a", program())
    if status is TaskState.CANCELLED:
        queue.cancel("a")
    elif status is not TaskState.QUEUED:
        queue.take("w")
    if status is TaskState.COMPLETED:
        queue.finish("a", OUTCOME)
    if status is TaskState.FAILED:
        queue.fail("a", "gone")
    assert queue.get("a").status is status
    other = Outcome(verdict=Verdict.NONZERO_EXIT, exit_code=1)
    if status is not TaskState.RUNNING:
        with pytest.raises(LegacyWrongState, match=status.value):
            queue.finish("a", other)
        with pytest.raises(LegacyWrongState, match=status.value):
            queue.fail("a", "again")
        with pytest.raises(LegacyWrongState, match=status.value):
            queue.confirm_running("a")
    if status not in (TaskState.QUEUED, TaskState.CANCELLED):
        with pytest.raises(LegacyWrongState):
            queue.cancel("a")
    assert queue.get("a").status is status


def test_repeated_ends_change_nothing() -> None:
    """The same outcome handed in twice, or a second cancel, is answered like the first."""
    queue = LegacyQueue()
    queue.submit("a", program())
    queue.submit("b", program())
    queue.take("w")
    assert queue.finish("a", OUTCOME) is queue.finish("a", OUTCOME)
    assert queue.cancel("b") is queue.cancel("b")
    assert (queue.stats().completed_total, queue.stats().cancelled_total) == (1, 1)


def test_unknown_task() -> None:
    """Every question about an id the queue does not have says so."""
    queue = LegacyQueue()
    for ask in (queue.get, queue.cancel, queue.confirm_running):
        with pytest.raises(LegacyTaskUnknown):
            ask("nobody")
    with pytest.raises(LegacyTaskUnknown):
        queue.finish("nobody", OUTCOME)


def test_ended_tasks_are_bounded_by_number() -> None:
    """Only the last ended tasks are remembered, and no program outlives its end."""
    queue = LegacyQueue(keep_ended=3)
    for n in range(10):
        queue.submit(f"t{n}", program())
        queue.take("w")
        assert queue.finish(f"t{n}", OUTCOME).program is None
    assert [task.id for task in queue.tasks(None, 100)] == ["t7", "t8", "t9"]
    stats = queue.stats()
    assert (stats.ended, stats.forgotten_total, stats.completed_total) == (3, 7, 10)


def test_ended_tasks_are_bounded_by_bytes() -> None:
    """Large results push out older ones; what is told as their size is right."""
    queue = LegacyQueue(keep_ended_bytes=250)
    big = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"x" * 60, files={"f": b"y" * 40})
    for n in range(4):
        queue.submit(f"t{n}", program())
        queue.take("w")
        queue.finish(f"t{n}", big)
    assert queue.stats().ended_bytes == 200
    with pytest.raises(LegacyTaskUnknown):
        queue.get("t1")
    assert queue.get("t3").outcome == big


@dataclass
class Model:
    """What the queue should hold, told the simplest way."""

    line: list[str] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    ended: dict[str, TaskState] = field(default_factory=dict)


class QueueMachine(RuleBasedStateMachine):
    """The queue against its model, any order of calls."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = LegacyQueue(limit=6)
        self.model = Model()

    @rule(name=st.sampled_from("abcdefghij"))
    def submit(self, name: str) -> None:
        model = self.model
        known = name in model.line or name in model.running or name in model.ended
        if not known and (self.queue.draining or len(model.line) >= 6):
            with pytest.raises(LegacyRefused):
                self.queue.submit(name, program(name))
            return
        _, fresh = self.queue.submit(name, program(name))
        assert fresh is not known
        if fresh:
            model.line.append(name)

    @rule(name=st.sampled_from("abcdefghij"))
    def conflict(self, name: str) -> None:
        model = self.model
        if name in model.line or name in model.running or name in model.ended:
            with pytest.raises(ConflictError):
                self.queue.submit(name, program("other"))

    @rule()
    def take(self) -> None:
        task = self.queue.take("w")
        if not self.model.line:
            assert task is None
            return
        first = self.model.line.pop(0)
        assert task is not None
        assert task.id == first
        assert task.program == program(first)
        self.model.running.add(first)

    @precondition(lambda self: self.model.running)
    @rule(data=st.data(), ok=st.booleans())
    def end(self, data: st.DataObject, ok: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.model.running)))
        task = self.queue.finish(name, OUTCOME) if ok else self.queue.fail(name, "no")
        self.model.running.remove(name)
        self.model.ended[name] = task.status
        assert task.status is (TaskState.COMPLETED if ok else TaskState.FAILED)

    @rule(name=st.sampled_from("abcdefghij"))
    def cancel(self, name: str) -> None:
        model = self.model
        if name in model.line:
            self.queue.cancel(name)
            model.line.remove(name)
            model.ended[name] = TaskState.CANCELLED
        elif name in model.running or model.ended.get(name, "cancelled") != "cancelled":
            with pytest.raises(LegacyWrongState):
                self.queue.cancel(name)
        elif name not in model.ended:
            with pytest.raises(LegacyTaskUnknown):
                self.queue.cancel(name)

    @rule(on=st.booleans())
    def drain(self, on: bool) -> None:
        self.queue.draining = on

    @invariant()
    def nothing_is_lost(self) -> None:
        model = self.model
        queued = [task.id for task in self.queue.tasks(TaskState.QUEUED, 100)]
        running = {task.id for task in self.queue.tasks(TaskState.RUNNING, 100)}
        ended = {t.id: t.status for t in self.queue.tasks(None, 100) if t.status in ENDED_STATES}
        assert (queued, running, ended) == (model.line, model.running, model.ended)
        stats = self.queue.stats()
        assert (stats.queued, stats.running, stats.ended) == (
            len(queued),
            len(running),
            len(ended),
        )
        assert stats.submitted_total == stats.queued + stats.running + stats.ended


QueueMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, database=None
)
TestQueueMachine = QueueMachine.TestCase
