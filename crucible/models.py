"""The plain data of an evaluation: what to run, how it ended, and what a client sees.

Nothing here does I/O. Durations are float seconds (``_s``) inside and integer milliseconds
(``_ms``) only on the wire, as the HTTP contract has them.
"""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec

#: How a program is kept apart from others: a container made anew for it, or namespaces of its own
#: in a container of its tenant.
Isolation = Literal["container", "nested"]
ISOLATIONS: tuple[Isolation, ...] = ("container", "nested")
#: Whose programs are that come without a key.
LOCAL_TENANT = "local"
#: Which queue a key's evaluations go to, and how much it may ask for.
Tier = Literal["premium", "standard", "bulk"]
TIERS: tuple[Tier, ...] = ("premium", "standard", "bulk")
#: A tenant's name is part of Redis keys and labels.
TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z"


class Verdict(enum.StrEnum):
    """How a program ended."""

    OK = "ok"
    NONZERO_EXIT = "nonzero_exit"
    SIGNALLED = "signalled"
    TIMEOUT = "timeout"
    CPU_LIMIT = "cpu_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"
    PIDS_LIMIT = "pids_limit"
    COMPILE_ERROR = "compile_error"
    INTERNAL_ERROR = "internal_error"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    # Of a graded program (see ``crucible.grading``); the last of a single test only.
    ACCEPTED = "accepted"
    WRONG_ANSWER = "wrong_answer"
    PRESENTATION_ERROR = "presentation_error"
    PARTIAL = "partial"
    SKIPPED = "skipped"


class Status(enum.StrEnum):
    """Where an evaluation stands."""

    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: The program came to its own end, whatever its exit code.
OWN_END = frozenset({Verdict.OK, Verdict.NONZERO_EXIT, Verdict.SIGNALLED})
#: What a graded program's answers were found to be, where it came to its own end in each test.
JUDGED = frozenset(
    {Verdict.ACCEPTED, Verdict.WRONG_ANSWER, Verdict.PRESENTATION_ERROR, Verdict.PARTIAL}
)
#: No further change of an evaluation in one of these.
ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


def status_of(verdict: Verdict) -> Status:
    """The status an evaluation has once its program ended with ``verdict``."""
    if verdict in OWN_END or verdict in JUDGED:
        return Status.COMPLETED
    return Status.CANCELLED if verdict is Verdict.CANCELLED else Status.FAILED


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one program may use; every limit is a positive finite number.

    Attributes:
        wall_time_s: seconds from the program's start to SIGKILL, kept from outside.
        cpu_time_s: CPU seconds summed over every process of the program.
        memory_mb: memory plus swap, in MiB; swap is never on top.
        pids: processes and threads alive at once.
        output_kb: KiB of stdout kept, and the same of stderr.
        disk_mb: MiB of temporary files.
    """

    wall_time_s: float = 10.0
    cpu_time_s: float = 10.0
    memory_mb: int = 256
    pids: int = 64
    output_kb: int = 1024
    disk_mb: int = 64


#: The least a program may ask for, at the HTTP API and at the executor alike. Docker and the kernel
#: read zero as "unlimited", so every limit has a floor above it. 0.1 s: an interpreter takes tens
#: of milliseconds to start, and a shorter limit would measure that. 2 pids: with one alone a
#: program can start neither a thread nor a child, so not even a shell can run a command.
LIMIT_FLOORS = Limits(wall_time_s=0.1, cpu_time_s=0.1, memory_mb=16, pids=2, output_kb=1, disk_mb=1)


class SourceFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file placed beside the program before it starts.

    Attributes:
        name: relative path below the working directory, without ``..``.
        content: text, or base64 where ``encoding`` says so.
        encoding: how ``content`` is written.
        executable: the program may start it.
    """

    name: str
    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    executable: bool = False


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program to run once: all an executor needs, and nothing about queues.

    Attributes:
        language: a name from the language table.
        code: source text.
        stdin: exact bytes on descriptor 0.
        args: arguments after the program's own name.
        env: environment variables on top of the sandbox's own.
        files: placed beside the program before it starts.
        output_files: names of regular files to return after the end, and patterns of names.
        limits: what it may use.
        compile_limits: what its compiler may use; None takes those of the language.
        environment: the image it runs in, by the name it is served under.
        isolation: ``container`` (one fresh container) or ``nested`` (namespaces of its own in a
            container of its tenant).
        tenant: whose program it is; no container ever has programs of two.
        eval_id: for labels and logs only.
    """

    language: str
    code: str
    stdin: bytes = b""
    args: tuple[str, ...] = ()
    env: dict[str, str] = {}
    files: tuple[SourceFile, ...] = ()
    output_files: tuple[str, ...] = ()
    limits: Limits = Limits()
    compile_limits: Limits | None = None
    environment: str = "default"
    isolation: Isolation = "container"
    tenant: str = LOCAL_TENANT
    eval_id: str = ""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a program used.

    Attributes:
        wall_time_ms: from its start to its end.
        cpu_time_ms: user and system time of all its processes.
        memory_peak_kb: highest memory of the sandbox in KiB, as the cgroup accounts it.
        processes: most processes and threads seen at once; 0 where they were not counted.
    """

    wall_time_ms: int = 0
    cpu_time_ms: int = 0
    memory_peak_kb: int = 0
    processes: int = 0


class CompileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of compiling a program.

    Attributes:
        exit_code: the compiler's; None when it did not exit by itself.
        error: what it wrote, on either descriptor, at most ``compile_limits.output_kb``.
        usage: what it used when it ran.
        cached: it did not run for this program: what it made before was used.
    """

    exit_code: int | None = None
    error: bytes = b""
    usage: Usage = Usage()
    cached: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an executor found a program to end.

    Attributes:
        verdict: how it ended.
        exit_code: the program's own exit code; None when it did not exit by itself.
        signal: number of the signal that ended it, or None.
        stdout: bytes kept of descriptor 1, at most ``limits.output_kb``.
        stderr: bytes kept of descriptor 2, at most ``limits.output_kb``.
        output_truncated: the program wrote more than was kept, on either.
        message: one sentence for people about the verdict, or None.
        usage: what it used.
        sandbox_s: seconds spent waiting for and preparing a sandbox.
        run_s: seconds from starting the program to its end.
        files: requested output files that were regular files, by name.
        files_omitted: the other requested ones, with the reason: ``missing``, ``too_large``,
            ``not_a_file`` (a link, folder, socket, device), ``unreadable``, ``too_many``,
            ``bad_name`` (not UTF-8, or with control characters), or ``lost`` with the sandbox.
        isolation: ``container`` or ``nested``, as it was run.
        compile: what came of compiling it; None where its language has no such step.
    """

    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    output_truncated: bool = False
    message: str | None = None
    usage: Usage = Usage()
    sandbox_s: float = 0.0
    run_s: float = 0.0
    files: dict[str, bytes] = {}
    files_omitted: dict[str, str] = {}
    isolation: Isolation = "container"
    compile: CompileReport | None = None


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Where the time went, in milliseconds.

    Attributes:
        queued: from submission to a worker's start on it.
        sandbox: waiting for and preparing a sandbox.
        run: from handing the program over to its end.
        total: from submission to the stored result.
    """

    queued: int = 0
    sandbox: int = 0
    run: int = 0
    total: int = 0


class CompileView(msgspec.Struct, frozen=True, kw_only=True):
    """What came of compiling a program, as a client sees it.

    Attributes:
        exit_code: the compiler's; null when it did not exit by itself.
        error: what it wrote, on standard output and standard error.
        error_encoding: ``base64`` where that is not UTF-8.
        usage: what it used.
        cached: it did not run for this program: what it made before was used.
    """

    exit_code: int | None = None
    error: str = ""
    error_encoding: Literal["utf-8", "base64"] = "utf-8"
    usage: Usage = Usage()
    cached: bool = False


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one test of a graded evaluation.

    Attributes:
        id: the test's.
        verdict: ``accepted``, how it failed, or ``skipped``.
        points: what it earned.
        output: the beginning of standard output.
        error: the beginning of standard error.
        output_truncated: there was more of either.
        exit_code: the program's own; null when it did not exit by itself.
        signal: that ended it, or null.
        usage: of the program alone.
        message: one sentence for people, or null.
        output_encoding: ``base64`` where ``output`` is not text.
        error_encoding: ``base64`` where ``error`` is not text.
    """

    __test__ = False

    id: str
    verdict: Verdict
    points: float = 0.0
    output: str = ""
    error: str = ""
    output_truncated: bool = False
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = Usage()
    message: str | None = None
    output_encoding: Literal["utf-8", "base64"] = "utf-8"
    error_encoding: Literal["utf-8", "base64"] = "utf-8"


class TestProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the grading of an evaluation is.

    Attributes:
        tests_done: judged or skipped.
        tests_total: all.
        passed: accepted so far.
    """

    __test__ = False

    tests_done: int
    tests_total: int
    passed: int


class Evaluation(msgspec.Struct, kw_only=True):
    """An evaluation as a client sees it (``GET /api/eval/{eval_id}``).

    ``output`` and ``error`` are text; where the bytes are not UTF-8 they are base64 and
    ``output_encoding`` or ``error_encoding`` says so. ``compile`` is there once a program in a
    language with a compiler has ended; where that refused it, ``error`` is what it wrote.
    ``tests`` and what follows are of graded ones; ``progress`` is there while one runs. While a
    program runs, ``output`` is the end of what it has written by then, 8 KiB at most.
    """

    eval_id: str
    task_id: str
    status: Status
    verdict: Verdict | None = None
    output: str = ""
    error: str = ""
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    output_truncated: bool = False
    isolation: Isolation = "container"
    queue: str = ""
    queue_system: Literal["celery", "legacy"] = "celery"
    celery_task_id: str | None = None
    retry_count: int = 0
    worker: str | None = None
    language: str = ""
    usage: Usage | None = None
    timing_ms: Timing | None = None
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    output_encoding: Literal["utf-8", "base64"] = "utf-8"
    error_encoding: Literal["utf-8", "base64"] = "utf-8"
    files: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    files_omitted: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    compile: CompileView | msgspec.UnsetType = msgspec.UNSET
    metadata: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    tests: list[TestResult] | msgspec.UnsetType = msgspec.UNSET
    passed: int | msgspec.UnsetType = msgspec.UNSET
    total: int | msgspec.UnsetType = msgspec.UNSET
    score: float | msgspec.UnsetType = msgspec.UNSET
    progress: TestProgress | msgspec.UnsetType = msgspec.UNSET
    retry_of: str | msgspec.UnsetType = msgspec.UNSET
