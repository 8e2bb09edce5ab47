"""From counts to verdicts."""

from __future__ import annotations

import msgspec
import pytest

from crucible.executor.frames import End
from crucible.executor.output import Output
from crucible.executor.verdicts import judge, outcome_of, outcome_of_lost, signal_name
from crucible.models import Limits, Verdict

V = Verdict
LIMITS = Limits(output_kb=1)
FINE = End(
    reason="exit",
    exit_code=0,
    signal=0,
    wall_us=2_500,
    cpu_us=1_500,
    memory_peak_bytes=4096,
    oom_kills=0,
    pids_hits=0,
    processes=1,
    disk_full=False,
    stdout_bytes=0,
    stderr_bytes=0,
)
KILLED = {"exit_code": -1, "signal": 9}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, V.OK),
        ({"exit_code": 1}, V.NONZERO_EXIT),
        ({"exit_code": 137}, V.NONZERO_EXIT),
        (KILLED, V.SIGNALLED),
        ({**KILLED, "oom_kills": 1}, V.MEMORY_LIMIT),
        ({"oom_kills": 1}, V.MEMORY_LIMIT),
        ({**KILLED, "reason": "wall"}, V.TIMEOUT),
        ({**KILLED, "reason": "cpu"}, V.CPU_LIMIT),
        ({**KILLED, "reason": "kernel_memory"}, V.MEMORY_LIMIT),
        ({**KILLED, "reason": "wall", "pids_hits": 3}, V.PIDS_LIMIT),
        ({"exit_code": 1, "pids_hits": 3}, V.PIDS_LIMIT),
        ({**KILLED, "reason": "output", "stdout_bytes": 9999}, V.OUTPUT_LIMIT),
        ({"stdout_bytes": 1024}, V.OK),
        ({"stdout_bytes": 1025}, V.OUTPUT_LIMIT),
        ({"stderr_bytes": 1025, "exit_code": 1}, V.OUTPUT_LIMIT),
        ({"disk_full": True}, V.OK),
        ({"disk_full": True, "exit_code": 1}, V.DISK_LIMIT),
        ({"exit_code": -1, "signal": 25}, V.DISK_LIMIT),
    ],
)
def test_an_end_has_one_verdict(changes: dict[str, object], verdict: Verdict) -> None:
    """Each cause has its verdict, and signal 9 alone is none of the limits."""
    found, message = judge(msgspec.structs.replace(FINE, **changes), LIMITS)
    assert found is verdict
    assert (message is None) is (verdict is V.OK)


def output_with(stdout: bytes, stderr: bytes = b"") -> Output:
    output = Output(1024)
    output.take(b"O", stdout)
    output.take(b"E", stderr)
    return output


def test_an_outcome_carries_usage_and_output() -> None:
    """Usage comes in the units of the contract, and truncation is flagged past the cap only."""
    output = output_with(b"a", b"b")
    output.files, output.files_omitted = {"f": b"c"}, {"g": "missing"}
    outcome = outcome_of(FINE, LIMITS, output)
    assert (outcome.usage.wall_time_ms, outcome.usage.cpu_time_ms) == (2, 1)
    assert outcome.usage.memory_peak_kb == 4
    assert (outcome.stdout, outcome.stderr, outcome.files) == (b"a", b"b", {"f": b"c"})
    assert outcome.files_omitted == {"g": "missing"}
    assert (outcome.exit_code, outcome.signal, outcome.output_truncated) == (0, None, False)


@pytest.mark.parametrize("verdict", [V.TIMEOUT, V.MEMORY_LIMIT, V.INTERNAL_ERROR])
def test_a_lost_sandbox_keeps_its_output(verdict: Verdict) -> None:
    """Output is kept when nothing else is known of the end."""
    outcome = outcome_of_lost(verdict, LIMITS, b"kept", b"", wall_s=1.5)
    assert (outcome.verdict, outcome.stdout, outcome.exit_code) == (verdict, b"kept", None)
    assert outcome.usage.wall_time_ms == 1500


def test_signals_have_names() -> None:
    """Real-time signals, which have none, are told by number."""
    assert (signal_name(9), signal_name(35)) == ("SIGKILL", "signal 35")
