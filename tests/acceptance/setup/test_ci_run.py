"""``.ci/run`` against every way a test run can end. A stand-in plays make."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def ci_run(directory: Path, output: str, code: int) -> tuple[int, list[str]]:
    """Exit code and lines of ``.ci/run`` when make prints ``output`` and ends with ``code``."""
    make = directory / "make"
    make.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n")
    make.chmod(0o755)
    done = subprocess.run(
        ["bash", str(ROOT / ".ci/run")],
        env={**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def test_a_good_run_ends_with_pytests_line(tmp_path: Path) -> None:
    """When all passed the exit code is 0 and the last line is pytest's own."""
    closing = "============ 120 passed, 2 warnings in 34.50s (0:00:34) ============"
    assert ci_run(tmp_path, f"collected 120 items\n{closing}", 0) == (
        0,
        ["collected 120 items", closing],
    )


@pytest.mark.parametrize(
    ("closing", "code"),
    [
        ("===== 119 passed, 1 skipped in 3.00s =====", 0),
        ("===== 119 passed, 1 deselected in 3.00s =====", 0),
        ("===== 119 passed, 1 xfailed in 3.00s =====", 0),
        ("===== 1 failed, 119 passed in 3.00s =====", 2),
        ("===== no tests ran in 0.01s =====", 2),
        ("===== no tests ran in 0.01s =====", 0),
        ("===== 3 skipped in 0.01s =====", 0),
    ],
)
def test_anything_less_fails(tmp_path: Path, closing: str, code: int) -> None:
    """A failed, skipped, left-out or missing test fails the run, which says why."""
    status, lines = ci_run(tmp_path, f"...\n{closing}", code)
    assert status == 1
    assert lines[-1] == closing
    assert any(line.startswith(".ci/run: ") for line in lines)


def test_a_failed_setup_fails(tmp_path: Path) -> None:
    """A run that never came to its tests is not a good one."""
    status, lines = ci_run(tmp_path, "setup: no Docker engine answers on this machine", 2)
    assert status == 1
    assert ".ci/run: make test ended with exit code 2" in lines
