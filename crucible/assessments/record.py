"""What is kept of an assessment: its head, its cases, and how each of its runs ended."""

from __future__ import annotations

import enum
import time
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.assessments.suite import Case
from crucible.evaluation.record import public_id, scoped_id, tenant_of
from crucible.models import Tier  # noqa: TC001 - msgspec reads the annotations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


#: Ids of the Celery tasks of assessments begin with this.
TASK_ID_PREFIX = "assessment-"
#: Ids of their evaluations begin with this.
_EVAL_ID_PREFIX = "as-"
#: Seconds an assessment is kept after it was last changed.
KEPT_S = 14 * 86_400
#: Assessments of one tenant that are kept at once.
MAX_KEPT = 1000


class Stage(enum.StrEnum):
    """Where an assessment stands."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: No further change in one of these.
OVER = frozenset({Stage.COMPLETED, Stage.FAILED, Stage.CANCELLED})


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What does not change once an assessment is there.

    Attributes:
        name: for people.
        digest: fingerprint of the request, to distinguish a repetition from a different one.
        created_ms: milliseconds since the epoch.
        repetitions: of cases that say nothing.
        priority: of every evaluation.
        pass_score: the score from which on it passes.
        shared: options of cases that do not give their own.
        tier: of the key that made it.
        metadata: the client's own.
    """

    name: str
    digest: bytes
    created_ms: int
    repetitions: int = 1
    priority: int = 2
    pass_score: float = 1.0
    shared: dict[str, Any] = {}
    tier: Tier | None = None
    metadata: dict[str, Any] | None = None


class Head(msgspec.Struct, kw_only=True):
    """An assessment without its cases.

    Attributes:
        id: its scoped id.
        plan: what does not change.
        stage: where it stands.
        draft: cases may still be added.
        cases: how many.
        runs: how many evaluations it takes.
        repetitions: of each case, one byte a case.
        reserved: runs that were given to evaluations so far, in order.
        ended: runs that have ended.
        passed_runs: those of them that passed.
        started_ms: when it was started; None before.
        finished_ms: when it ended; None before.
        updated_ms: when anything of this last changed.
        step: what it does now.
        message: the same in one sentence.
        score: 0 to 1; None before it has completed.
        passed: whether it passed; None before it has completed.
        passed_cases: cases that passed; None before it has completed.
    """

    id: str
    plan: Plan
    stage: Stage
    draft: bool = False
    cases: int = 0
    runs: int = 0
    repetitions: bytes = b""
    reserved: int = 0
    ended: int = 0
    passed_runs: int = 0
    started_ms: int | None = None
    finished_ms: int | None = None
    updated_ms: int = 0
    step: str = "created"
    message: str = ""
    score: float | None = None
    passed: bool | None = None
    passed_cases: int | None = None

    @property
    def progress(self) -> float:
        """Percent. The last one is for the report, so that 100 means that there is one."""
        if self.stage is Stage.COMPLETED:
            return 100.0
        return round(99.0 * self.ended / self.runs, 2) if self.runs else 0.0

    @property
    def task_id(self) -> str:
        """The id of its task, as everything inside knows it."""
        return task_id_of(self.id)


class Run(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """How one run of a case ended. Small: there are up to 50,000 of them.

    Attributes:
        verdict: of the evaluation.
        score: 0 to 1; of a program with tests what they earned.
        wall_ms: it took.
        cpu_ms: of processor time.
        memory_kb: at its peak.
        exit_code: the program's own, or None.
        passed_tests: of a program with tests.
        total_tests: the same.
        retries: of the platform.
        message: why it failed, shortened; empty for most.
    """

    verdict: str
    score: float
    wall_ms: int = 0
    cpu_ms: int = 0
    memory_kb: int = 0
    exit_code: int | None = None
    passed_tests: int = 0
    total_tests: int = 0
    retries: int = 0
    message: str = ""

    @property
    def passed(self) -> bool:
        """Whether the program did all that was asked of it."""
        return self.verdict in ("ok", "accepted")


class Runs:
    """Which case and repetition a run is of. Runs are numbered case by case.

    Args:
        repetitions: of each case.
    """

    def __init__(self, repetitions: Sequence[int]) -> None:
        self._ends = list(accumulate(repetitions))

    @property
    def total(self) -> int:
        """How many there are."""
        return self._ends[-1] if self._ends else 0

    def place(self, run: int) -> tuple[int, int]:
        """Number of the case, and of the repetition."""
        case = bisect_right(self._ends, run)
        return case, run - self.first(case)

    def first(self, case: int) -> int:
        """The first run of a case."""
        return self._ends[case - 1] if case else 0


def task_id_of(assessment_id: str) -> str:
    """The id of an assessment's task."""
    return f"{TASK_ID_PREFIX}{assessment_id}"


def eval_id_of(assessment_id: str, run: int) -> str:
    """The public id of the evaluation of a run: always the same, so that none runs twice."""
    return f"{_EVAL_ID_PREFIX}{public_id(assessment_id)}-{run}"


def scoped_eval_id(assessment_id: str, run: int) -> str:
    """The same with its tenant."""
    return scoped_id(tenant_of(assessment_id), eval_id_of(assessment_id, run))


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


_encoder = msgspec.msgpack.Encoder()
_plan_decoder = msgspec.msgpack.Decoder(Plan)
_case_decoder = msgspec.msgpack.Decoder(Case)
_run_decoder = msgspec.msgpack.Decoder(Run)
encode = _encoder.encode
decode_case = _case_decoder.decode
decode_run = _run_decoder.decode


def head_of(assessment_id: str, fields: Mapping[bytes, bytes], ended: int) -> Head:
    """A head from the fields of its hash, and how many runs are stored."""

    def number(name: bytes) -> int | None:
        return int(fields[name]) if name in fields else None

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode()

    return Head(
        id=assessment_id,
        plan=_plan_decoder.decode(fields[b"plan"]),
        stage=Stage(text(b"stage")),
        draft=b"draft" in fields,
        cases=number(b"cases") or 0,
        runs=number(b"runs") or 0,
        repetitions=fields.get(b"repetitions", b""),
        reserved=number(b"reserved") or 0,
        ended=ended,
        passed_runs=number(b"passed_runs") or 0,
        started_ms=number(b"started_ms"),
        finished_ms=number(b"finished_ms"),
        updated_ms=number(b"updated_ms") or 0,
        step=text(b"step"),
        message=text(b"message"),
        score=float(fields[b"score"]) if b"score" in fields else None,
        passed=fields[b"passed"] == b"1" if b"passed" in fields else None,
        passed_cases=number(b"passed_cases"),
    )
