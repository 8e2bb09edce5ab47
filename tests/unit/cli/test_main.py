"""What becomes of an error on its way out of a command."""

from __future__ import annotations

import subprocess
import sys

import pytest


def outcome_of(command: str) -> subprocess.CompletedProcess[str]:
    """The entry point around a command whose body is ``command``."""
    program = (
        "import crucible.cli.main, crucible.cli.entry\n"
        f"def app():\n    {command}\n"
        "crucible.cli.main.app = app\n"
        "crucible.cli.entry.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_file_that_cannot_be_written_is_one_clear_line() -> None:
    """Such as that of ``compare --html``."""
    done = outcome_of("open('/nonexistent/x', 'w')")
    assert (done.returncode, done.stderr) == (
        1,
        "crucible: /nonexistent/x: No such file or directory\n",
    )


@pytest.mark.parametrize("error", ["ConnectionRefusedError(111, 'refused')", "ValueError('x')"])
def test_a_defect_keeps_its_traceback(error: str) -> None:
    """Only what a user can put right is a line."""
    done = outcome_of(f"raise {error}")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
