from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crucible.grading.testlib import PYTHON_MAIN, ruling_of
from crucible.models import Outcome, Verdict


def exited(code: int, stderr: bytes = b"") -> Outcome:
    """A checker that exited."""
    verdict = Verdict.NONZERO_EXIT if code else Verdict.OK
    return Outcome(verdict=verdict, exit_code=code, stderr=stderr)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0, Verdict.ACCEPTED),
        (1, Verdict.WRONG_ANSWER),
        (2, Verdict.PRESENTATION_ERROR),
        (3, Verdict.INTERNAL_ERROR),
        (4, Verdict.PRESENTATION_ERROR),
        (5, Verdict.INTERNAL_ERROR),
        (8, Verdict.PRESENTATION_ERROR),
        (255, Verdict.INTERNAL_ERROR),
    ],
)
def test_exit_codes(code: int, verdict: Verdict) -> None:
    """Those of testlib; any other is the checker's failure."""
    ruling = ruling_of(exited(code, b"wrong answer 1st words differ\n"), "checker")
    assert ruling.verdict is verdict
    assert "words differ" in str(ruling.message)
    assert ("the checker failed" in str(ruling.message)) == (verdict is Verdict.INTERNAL_ERROR)


@pytest.mark.parametrize(
    ("stderr", "points"),
    [
        (b"points 2.5 nearly", 2.5),
        (b"well\npoints 0", 0.0),
        (b"partially correct points 1e1", 10.0),
    ],
)
def test_partial_points(stderr: bytes, points: float) -> None:
    """``points N`` on standard error with exit code 7."""
    ruling = ruling_of(exited(7, stderr), "checker")
    assert (ruling.verdict, ruling.points) == (Verdict.PARTIAL, points)


@pytest.mark.parametrize("stderr", [b"", b"points", b"points -1", b"points nan", b"points 1_0"])
def test_points_that_are_none(stderr: bytes) -> None:
    """A partial result without points is the checker's failure."""
    assert ruling_of(exited(7, stderr), "checker").verdict is Verdict.INTERNAL_ERROR


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(verdict=Verdict.TIMEOUT, message="still running after 10 s"),
        Outcome(verdict=Verdict.OUTPUT_LIMIT, exit_code=0, message="more than 64 KiB of output"),
        Outcome(verdict=Verdict.SIGNALLED, signal=11, message="the program was ended by SIGSEGV"),
    ],
)
def test_a_checker_that_does_not_come_to_its_end(outcome: Outcome) -> None:
    """Loops, floods and crashes are its failure, and the message says so."""
    ruling = ruling_of(outcome, "checker")
    assert ruling.verdict is Verdict.INTERNAL_ERROR
    assert str(ruling.message).startswith("the checker failed")
    assert str(outcome.message) in str(ruling.message)


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import sys; sys.exit(len(sys.argv))", 4),
        ("raise SystemExit(1)", 1),
        ("1/0", 3),
        ("def", 3),
        ("", 0),
        ("assert __name__ == '__main__'", 0),
    ],
)
def test_a_python_checker_that_raises(code: str, exit_code: int, tmp_path: Path) -> None:
    """An uncaught error is code 3; Python's own 1 would be a wrong answer."""
    (tmp_path / "checker.py").write_text(code)
    command = [sys.executable, "-c", PYTHON_MAIN.format(name="checker.py"), "a", "b", "c"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert ended.returncode == exit_code, ended.stderr
