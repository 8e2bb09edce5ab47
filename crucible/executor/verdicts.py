"""What an end means: from the supervisor's counts to one of the verdicts.

Exit code 137 proves nothing. An out-of-memory kill is asked of the cgroup, a stop for CPU, wall
or output is known to the part that caused it, and what is left is the program's own exit.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import msgspec

from crucible.models import Outcome, Usage, Verdict

if TYPE_CHECKING:
    from crucible.executor.frames import End
    from crucible.executor.output import Output
    from crucible.models import Limits


def judge(end: End, limits: Limits) -> tuple[Verdict, str | None]:
    """The verdict for an end frame, with a sentence about it.

    The order says which cause counts when several apply: a limit of memory or pids is why a
    program failed even when it ran on until its time was up.
    """
    stopped = _limit_hit(end, limits)
    if stopped is not None:
        return stopped
    failed = end.exit_code != 0
    full = end.disk_full or end.signal == signal.SIGXFSZ
    if end.reason == "disk" or (failed and full):
        return Verdict.DISK_LIMIT, f"it filled the {limits.disk_mb} MiB of its disk"
    where = "the compiler" if end.stage == "compile" else "the program"
    if end.signal:
        return Verdict.SIGNALLED, f"{where} was ended by {signal_name(end.signal)}"
    if failed:
        return Verdict.NONZERO_EXIT, f"{where} exited with {end.exit_code}"
    return Verdict.OK, None


def _limit_hit(end: End, limits: Limits) -> tuple[Verdict, str] | None:
    if end.oom_kills:
        return Verdict.MEMORY_LIMIT, f"more than {limits.memory_mb} MiB of memory"
    if end.reason == "kernel_memory":
        text = f"sockets or file locks that may take more than {limits.memory_mb} MiB of memory"
        return Verdict.MEMORY_LIMIT, text
    if end.pids_hits:
        return Verdict.PIDS_LIMIT, f"more than {limits.pids} processes and threads"
    if end.reason == "wall":
        return Verdict.TIMEOUT, f"still running after {limits.wall_time_s:g} s"
    if end.reason == "cpu":
        return Verdict.CPU_LIMIT, f"more than {limits.cpu_time_s:g} s of CPU time"
    cap = limits.output_kb * 1024
    if end.reason == "output" or max(end.stdout_bytes, end.stderr_bytes) > cap:
        return Verdict.OUTPUT_LIMIT, f"more than {limits.output_kb} KiB of output"
    return None


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9, and so on; real-time signals by number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def outcome_of(end: End, limits: Limits, output: Output) -> Outcome:
    """The outcome of a program whose supervisor lived to report its end."""
    verdict, message = judge(end, limits)
    cap = limits.output_kb * 1024
    return Outcome(
        verdict=verdict,
        exit_code=end.exit_code if end.exit_code >= 0 else None,
        signal=end.signal or None,
        stdout=output.stdout,
        stderr=output.stderr,
        output_truncated=max(end.stdout_bytes, end.stderr_bytes) > cap,
        message=message,
        usage=Usage(
            wall_time_ms=end.wall_us // 1000,
            cpu_time_ms=end.cpu_us // 1000,
            # The sandbox's own counter: its first process, and in a lane a little room beside the
            # limit, are counted with the program.
            memory_peak_kb=min(end.memory_peak_bytes // 1024, limits.memory_mb * 1024),
            processes=end.processes,
        ),
        files=output.files,
        files_omitted=output.files_omitted,
    )


_LOST = {
    Verdict.MEMORY_LIMIT: "more than {limits.memory_mb} MiB of memory",
    Verdict.TIMEOUT: "still running after {limits.wall_time_s:g} s",
    Verdict.INTERNAL_ERROR: "the sandbox ended without a report",
    Verdict.CANCELLED: "stopped while it ran",
}


def outcome_of_lost(
    verdict: Verdict, limits: Limits, stdout: bytes, stderr: bytes, *, wall_s: float
) -> Outcome:
    """The outcome when no end frame came; nothing but the wall clock is known of its usage."""
    cap = limits.output_kb * 1024
    return Outcome(
        verdict=verdict,
        signal=int(signal.SIGKILL),
        stdout=stdout,
        stderr=stderr,
        # What was thrown away is not known; a kept output that is full most likely lost some.
        output_truncated=max(len(stdout), len(stderr)) >= cap,
        message=_LOST[verdict].format(limits=limits),
        usage=Usage(wall_time_ms=int(wall_s * 1000)),
    )


def interrupted(limits: Limits, stdout: bytes, stderr: bytes, run_s: float) -> Outcome:
    """The outcome of a program whose run was cancelled."""
    outcome = outcome_of_lost(Verdict.CANCELLED, limits, stdout, stderr, wall_s=run_s)
    return msgspec.structs.replace(outcome, run_s=run_s)
