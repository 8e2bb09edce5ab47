"""The harness's side of a subject, which runs in its own process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from crucible.embedded.lifeline import end_with_parent
from crucible.errors import CrucibleError, RequirementError

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
#: Environment of the subjects that are Crucible itself or a library it uses.
PROJECT = "project"
#: Seconds a subject may take on top of the length of a measurement.
PATIENCE_S = 120.0
STOP_S = 20.0
#: Seconds a subject may take to exit after teardown or SIGTERM.
END_S = 5.0
#: Bytes of one reply; the long ones are histograms.
_LONGEST_LINE = 64 * 1024 * 1024


class SubjectError(CrucibleError):
    """A subject's command failed; the message is its traceback."""


def python_of(environment: str) -> Path:
    """The interpreter of an environment.

    Raises:
        RequirementError: the environment does not exist.
    """
    if environment == PROJECT:
        return Path(sys.executable)
    home = ROOT / ".cache" / "bench" / environment
    if not (home / "stamp").is_file():
        raise RequirementError(
            f"the environment {environment!r} is missing", "scripts/pinned-envs bench"
        )
    return home / "bin" / "python"


def is_installed(environment: str) -> bool:
    """Whether an environment exists, so that its subjects can be measured."""
    return environment == PROJECT or (ROOT / ".cache" / "bench" / environment / "stamp").is_file()


class Driven:
    """A subject's process. An async context manager; leaving tears it down and reaps it.

    Args:
        subject: name of its file in ``subjects``.
        environment: the environment whose interpreter runs it.
        cores: processors it and its children may use; None for all.

    Attributes:
        facts: what its ``setup`` returned.
    """

    def __init__(
        self,
        subject: str,
        environment: str = PROJECT,
        *,
        job: dict[str, Any] | None = None,
        cores: Sequence[int] | None = None,
    ) -> None:
        self.subject = subject
        self.facts: Any = None
        self._environment = environment
        self._job = job or {}
        self._cores = cores
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Process id of the driver; what the subject starts are its children."""
        assert self._process is not None
        return self._process.pid

    async def __aenter__(self) -> Self:
        cores = self._cores

        def prepare() -> None:
            end_with_parent()
            if cores:
                os.sched_setaffinity(0, cores)

        self._process = await asyncio.create_subprocess_exec(
            str(python_of(self._environment)),
            str(HERE / "driver.py"),
            str(HERE / "subjects" / f"{self.subject}.py"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**_kept(), "PYTHONPATH": self._path(), "PYTHONUNBUFFERED": "1"},
            cwd=HERE / "subjects",
            limit=_LONGEST_LINE,
            preexec_fn=prepare,
            start_new_session=True,
        )
        try:
            self.facts = await self._order("setup", self._job, PATIENCE_S)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def _path(self) -> str:
        # The other environments must not see this project's packages.
        return str(ROOT) if self._environment == PROJECT else ""

    async def run(self, **job: Any) -> Any:
        """Make one measurement; returns what the subject's ``run`` returned.

        Raises:
            SubjectError: it failed.
        """
        return await self._order("run", job, PATIENCE_S + float(job.get("seconds", 0)))

    async def _order(self, do: str, job: dict[str, Any], patience_s: float) -> Any:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"do": do, "job": job}).encode() + b"\n")
        try:
            async with asyncio.timeout(patience_s):
                line = await process.stdout.readline()
        except TimeoutError:
            raise SubjectError(f"{self.subject}: no answer to {do} in {patience_s:.0f} s") from None
        if not line:
            raise SubjectError(f"{self.subject}: exited during {do}")
        answer = json.loads(line)
        if "error" in answer:
            raise SubjectError(f"{self.subject}: {do} failed\n{answer['error']}")
        return answer["ok"]

    async def __aexit__(self, *_: object) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(SubjectError, OSError):
            await self._order("teardown", {}, STOP_S)
        if not await _ends(process):
            _signal_group(process.pid, signal.SIGTERM)
            await _ends(process)
        # The process group is killed too: a worker left behind without its server may spin for
        # ever and distort every later measurement.
        _signal_group(process.pid, signal.SIGKILL)
        await _ends(process)


async def _ends(process: asyncio.subprocess.Process) -> bool:
    """Whether it exited within ``END_S``."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S):
            await process.wait()
    return process.returncode is not None


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def _kept() -> dict[str, str]:
    names = ("PATH", "HOME", "LANG", "TMPDIR", "DOCKER_HOST")
    return {name: os.environ[name] for name in names if name in os.environ}
