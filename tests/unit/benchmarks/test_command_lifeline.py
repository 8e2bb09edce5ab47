"""What a subject starts does not outlive the subject."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil

SUBJECTS = Path(__file__).resolve().parents[3] / "benchmarks/subjects"
_START = """
import signal
from command import Command
print(Command("sleep", "600").pid, flush=True)
signal.pause()
"""


async def test_a_command_ends_when_its_subject_is_killed() -> None:
    """A subject that is killed cannot tear down what it started."""
    subject = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _START), cwd=SUBJECTS, stdout=asyncio.subprocess.PIPE
    )
    assert subject.stdout is not None
    started = psutil.Process(int(await subject.stdout.readline()))
    os.kill(subject.pid, signal.SIGKILL)
    await subject.wait()
    try:
        gone, _ = await asyncio.to_thread(psutil.wait_procs, [started], 60)
        assert gone == [started]
    finally:
        with suppress(psutil.NoSuchProcess):
            started.kill()
