"""A command as a child process of a subject. Standard library only."""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

STOP_S = 15.0
_ROOT = Path(__file__).resolve().parents[2]
#: Run from its file: the environments of other systems do not have this project's packages.
_end_with_parent = runpy.run_path(str(_ROOT / "crucible/embedded/lifeline.py"))["end_with_parent"]


def free_port() -> int:
    """A free port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(name: str) -> str:
    """The path of a console script in this environment."""
    return str(Path(sys.executable).parent / name)


class Command:
    """A child process, started on creation; ``stop`` terminates it and kills it if needed."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._process = subprocess.Popen(
            arguments,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - no other threads
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """Its output so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def wait_for_port(self, port: int, seconds: float = 30.0) -> None:
        """Wait until something listens on ``port``.

        Raises:
            RuntimeError: it exited, or nothing listens in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"nothing listens on {port}: {self.log[-2000:]}")

    def check(self) -> None:
        """Check that it is running.

        Raises:
            RuntimeError: it has exited.
        """
        if self._process.poll() is not None:
            raise RuntimeError(f"exited with {self._process.returncode}: {self.log[-2000:]}")

    def wait(self, seconds: float) -> None:
        """Wait until it has exited by itself.

        Raises:
            RuntimeError: it failed.
            subprocess.TimeoutExpired: it goes on.
        """
        if self._process.wait(seconds) != 0:
            raise RuntimeError(f"exited with {self._process.returncode}: {self.log[-2000:]}")

    def stop(self) -> None:
        """Terminate it and reap it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
