"""What each facade says of every end that a program can have."""

from __future__ import annotations

import base64

import msgspec
import pytest

from crucible.compat import dify, nemo_sessions, nemo_skills, piston, sandbox_fusion
from crucible.compat.requests import runnable, with_php_tag
from crucible.evaluation import judge0_form
from crucible.evaluation.limits import LimitsRequest
from crucible.executor.languages import compiled_language
from crucible.models import CompileView, Evaluation, Status, Usage, Verdict

USAGE = Usage(wall_time_ms=20, cpu_time_ms=10, memory_peak_kb=100)
#: Verdict, exit code and signal.
ENDS: dict[Verdict, tuple[int | None, int | None]] = {
    Verdict.OK: (0, None),
    Verdict.NONZERO_EXIT: (3, None),
    Verdict.SIGNALLED: (None, 11),
    Verdict.TIMEOUT: (None, 9),
    Verdict.CPU_LIMIT: (None, 9),
    Verdict.MEMORY_LIMIT: (None, 9),
    Verdict.OUTPUT_LIMIT: (None, 9),
    Verdict.DISK_LIMIT: (1, None),
    Verdict.PIDS_LIMIT: (1, None),
    Verdict.INTERNAL_ERROR: (None, None),
}


def ended(verdict: Verdict, output: bytes = b"out\n") -> Evaluation:
    """An evaluation that has ended."""
    exit_code, signal = ENDS[verdict]
    return Evaluation(
        eval_id="x",
        task_id="eval-x",
        status=Status.COMPLETED,
        verdict=verdict,
        exit_code=exit_code,
        signal=signal,
        output=base64.b64encode(output).decode(),
        output_encoding="base64",
        error="err\n",
        message="why",
        usage=USAGE,
    )


@pytest.mark.parametrize(
    ("verdict", "status", "run_status", "code"),
    [
        (Verdict.OK, "Success", "Finished", 0),
        (Verdict.NONZERO_EXIT, "Failed", "Finished", 3),
        (Verdict.SIGNALLED, "Failed", "Finished", -11),
        (Verdict.TIMEOUT, "Failed", "TimeLimitExceeded", None),
        (Verdict.CPU_LIMIT, "Failed", "TimeLimitExceeded", None),
        (Verdict.MEMORY_LIMIT, "Failed", "Finished", -9),
        (Verdict.OUTPUT_LIMIT, "Failed", "Finished", -9),
        (Verdict.DISK_LIMIT, "Failed", "Finished", 1),
        (Verdict.PIDS_LIMIT, "Failed", "Finished", 1),
    ],
)
def test_sandbox_fusion(verdict: Verdict, status: str, run_status: str, code: int | None) -> None:
    answer = sandbox_fusion.answer(ended(verdict), {}, {})
    ran = answer["run_result"]
    assert (answer["status"], answer["message"]) == (status, "")
    assert (ran["status"], ran["return_code"]) == (run_status, code)
    assert (ran["stdout"], ran["stderr"]) == ("out\n", "err\n")
    # What it took, and not what it was asked to take: less than no time asks for the most.
    assert ran["execution_time"] == 0.02


@pytest.mark.parametrize(
    ("wall_ms", "cpu_ms", "signal", "status", "code"),
    [
        (2001, 10, 9, "TimeLimitExceeded", None),
        (1500, 3000, 9, "TimeLimitExceeded", None),
        (10, 10, 9, "Finished", -9),
        (10, 10, 11, "Finished", -11),
    ],
)
def test_sandbox_fusion_of_a_compiler_that_was_killed(
    wall_ms: int, cpu_ms: int, signal: int, status: str, code: int | None
) -> None:
    """A timeout is one of time: for memory, as for a signal, it has a code."""
    used = Usage(wall_time_ms=wall_ms, cpu_time_ms=cpu_ms, memory_peak_kb=1)
    found = msgspec.structs.replace(
        ended(Verdict.OK),
        verdict=Verdict.COMPILE_ERROR,
        signal=signal,
        compile=CompileView(error="/w==", error_encoding="base64", usage=used),
    )
    limits = {"wall_time_s": 2.0, "cpu_time_s": 3.0, "memory_mb": 512}
    answer = sandbox_fusion.answer(found, {}, limits)
    compiled = answer["compile_result"]
    assert (answer["status"], answer["run_result"]) == ("Failed", None)
    assert (compiled["status"], compiled["return_code"]) == (status, code)
    assert compiled["stderr"] == "\ufffd"


def test_sandbox_fusion_of_a_fault_of_the_platform() -> None:
    answer = sandbox_fusion.answer(ended(Verdict.INTERNAL_ERROR), {}, {})
    assert (answer["status"], answer["message"], answer["run_result"]) == (
        "SandboxError",
        "why",
        None,
    )


@pytest.mark.parametrize(
    ("verdict", "status", "code", "signal"),
    [
        (Verdict.OK, None, 0, None),
        (Verdict.NONZERO_EXIT, "RE", 3, None),
        (Verdict.SIGNALLED, "SG", None, "SIGSEGV"),
        (Verdict.TIMEOUT, "TO", None, "SIGKILL"),
        (Verdict.CPU_LIMIT, "TO", None, "SIGKILL"),
        (Verdict.MEMORY_LIMIT, "SG", None, "SIGKILL"),
        (Verdict.OUTPUT_LIMIT, "EL", None, "SIGKILL"),
        (Verdict.DISK_LIMIT, "RE", 1, None),
        (Verdict.INTERNAL_ERROR, "XX", None, None),
    ],
)
def test_piston(verdict: Verdict, status: str | None, code: int | None, signal: str | None) -> None:
    # With less on standard output than on standard error, it is the latter that was too long.
    found = ended(verdict, b"out" if verdict is Verdict.OUTPUT_LIMIT else b"out\n")
    ran = piston.answer_of("python", "3", found)["run"]
    assert (ran["status"], ran["code"], ran["signal"]) == (status, code, signal)
    assert (ran["cpu_time"], ran["wall_time"], ran["memory"]) == (10, 20, 102400)
    longer = piston.answer_of("python", "3", ended(Verdict.OUTPUT_LIMIT, b"long out"))["run"]
    assert (longer["status"], longer["message"]) == ("OL", "stdout length exceeded")


@pytest.mark.parametrize(
    ("verdict", "code", "wall_ms", "cpu_ms", "status", "signal"),
    [
        (Verdict.OK, 0, 9000, 9000, None, None),
        (Verdict.COMPILE_ERROR, 1, 10, 10, "RE", None),
        (Verdict.COMPILE_ERROR, None, 2000, 10, "TO", "SIGKILL"),
        (Verdict.COMPILE_ERROR, None, 10, 1500, "TO", "SIGKILL"),
        (Verdict.COMPILE_ERROR, None, 1999, 1499, "SG", "SIGABRT"),
        (Verdict.INTERNAL_ERROR, None, 0, 0, "XX", None),
    ],
)
def test_a_compiler_of_piston(
    verdict: Verdict,
    code: int | None,
    wall_ms: int,
    cpu_ms: int,
    status: str | None,
    signal: str | None,
) -> None:
    """A program that was not compiled shows its compiler as its run, as there."""
    found = ended(Verdict.OK)
    found.verdict, found.signal = verdict, 6
    found.compile = CompileView(
        exit_code=code,
        error="d/8=",
        error_encoding="base64",
        usage=Usage(wall_time_ms=wall_ms, cpu_time_ms=cpu_ms),
    )
    limits = LimitsRequest(wall_time_s=2, cpu_time_s=1.5)
    answer = piston.answer_of("c", "12", found, limits)
    compiled = answer["compile"]
    assert (compiled["status"], compiled["code"], compiled["signal"]) == (status, code, signal)
    assert (compiled["message"] is None) == (status is None)
    assert (compiled["stderr"], compiled["wall_time"]) == ("w\ufffd", wall_ms)
    assert (answer["run"] == compiled) == (verdict is Verdict.COMPILE_ERROR)


def test_judge0_merges_standard_error_where_it_was_asked_to() -> None:
    found = ended(Verdict.OK)
    expected = judge0_form.digest_of(b"out\nerr")
    found.metadata = {"judge0": {"merged": True, "expected": expected}}
    shown = judge0_form.submission_of(found, encoded=False)
    assert (shown["stdout"], shown["stderr"], shown["status_id"]) == ("out\nerr\n", None, 3)


def test_judge0_says_why_a_compiler_was_stopped() -> None:
    """A compiler that is stopped may have written nothing."""
    found = ended(Verdict.OK)
    found.verdict, found.compile = Verdict.COMPILE_ERROR, CompileView()
    shown = judge0_form.submission_of(found, encoded=False)
    assert (shown["status_id"], shown["compile_output"]) == (6, "why")
    assert {shown[name] for name in ("stdout", "stderr", "time", "exit_code")} == {None}


def test_a_real_time_signal() -> None:
    """Python has no name for most."""
    found = ended(Verdict.SIGNALLED)
    found.signal = 35
    assert piston.answer_of("python", "3", found)["run"]["signal"] == "SIGRTMIN+1"
    assert judge0_form.status_of(found, as_expected=True) == 12


@pytest.mark.parametrize(
    ("verdict", "error", "code"),
    [
        (Verdict.OK, "", 0),
        (Verdict.NONZERO_EXIT, "process exited with code 3\nerr\n", 3),
        (Verdict.SIGNALLED, "process exited with code -1\nwhy\nerr\n", -1),
        (Verdict.TIMEOUT, "error: timeout", -1),
        (Verdict.CPU_LIMIT, "error: timeout", -1),
        (Verdict.MEMORY_LIMIT, "process exited with code -1\nwhy\nerr\n", -1),
    ],
)
def test_dify(verdict: Verdict, error: str, code: int) -> None:
    data = dify._data(ended(verdict))
    assert (data["error"], data["exit_code"], data["stdout"]) == (error, code, "out\n")


@pytest.mark.parametrize(
    ("language", "verdict", "status", "stderr"),
    [
        ("python", Verdict.OK, "completed", "err\n"),
        ("python", Verdict.NONZERO_EXIT, "completed", "err\n"),
        ("shell", Verdict.NONZERO_EXIT, "error", "err\n"),
        ("python", Verdict.TIMEOUT, "timeout", "err\nExecution timed out after 2.5 seconds\n"),
        ("python", Verdict.SIGNALLED, "completed", "err\n"),
        ("shell", Verdict.SIGNALLED, "error", "err\nwhy\n"),
        ("python", Verdict.MEMORY_LIMIT, "error", "err\nwhy\n"),
        ("python", Verdict.INTERNAL_ERROR, "error", "why"),
    ],
)
def test_nemo_skills(language: str, verdict: Verdict, status: str, stderr: str) -> None:
    asked = nemo_skills.Execute(generated_code="", language=language, timeout=2.5)
    answer = nemo_skills._answer(ended(verdict), asked, 2.5)
    assert (answer["process_status"], answer["stderr"]) == (status, stderr)


@pytest.mark.parametrize(
    ("asked", "granted", "said"),
    [(b"5", 5.0, "5"), (b"5.0", 5.0, "5.0"), (b"9000", 600.0, "600.0"), (b"-1", 600.0, "600.0")],
)
def test_nemo_skills_says_the_time_as_asked_where_that_was_granted(
    asked: bytes, granted: float, said: str
) -> None:
    body = b'{"generated_code": "", "language": "python", "timeout": ' + asked + b"}"
    run = msgspec.json.decode(body, type=nemo_skills.Execute)
    answer = nemo_skills._answer(ended(Verdict.TIMEOUT), run, granted)
    assert answer["stderr"] == f"err\nExecution timed out after {said} seconds\n"


@pytest.mark.parametrize(
    ("most", "left"), [(3, "abc<output cut>"), (5, "abcde"), (0, "<output cut>")]
)
def test_nemo_skills_cuts_output(most: int, left: str) -> None:
    assert nemo_skills._cut("abcde", most) == left


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("", ""),
        ("a", "a\n"),
        ("\n\n a \n\n", " a\n"),
        ("\x1b[31mred\x1b[0m\n", "red\n"),
    ],
)
def test_nemo_skills_shows_plain_text(text: str, plain: str) -> None:
    assert nemo_sessions._plain(text) == plain


@pytest.mark.parametrize(
    ("language", "code", "runs"),
    [
        ("python", "", "#\n"),
        ("c", " \n", "//\n"),
        ("php", "", "<?php\n"),
        ("lua", "", "--\n"),
        ("bash", "ls", "ls"),
    ],
)
def test_no_program_is_one_that_does_nothing(language: str, code: str, runs: str) -> None:
    assert runnable(code, language) == runs


@pytest.mark.parametrize(("asked", "granted"), [(None, None), (64, 512), (512, 512), (1024, 1024)])
def test_a_compiler_has_the_memory_of_its_program_and_what_it_usually_needs(
    asked: int | None, granted: int | None
) -> None:
    """None asks for the most there is."""
    language = compiled_language("cpp")
    assert language is not None
    assert sandbox_fusion._compiler_memory_mb(language, asked) == granted


def test_php_without_its_tag_is_a_program() -> None:
    assert with_php_tag("echo 1;") == "<?php\necho 1;"
    assert with_php_tag("\n<?php echo 1;") == "<?php echo 1;"


def test_output_that_is_not_utf8_is_shown_with_replacements() -> None:
    """By all but Judge0, which asks for base64."""
    found = ended(Verdict.OK, b"a\xffb")
    assert sandbox_fusion.answer(found, {}, {})["run_result"]["stdout"] == "a\ufffdb"
    assert piston.answer_of("python", "3", found)["run"]["stdout"] == "a\ufffdb"
    assert dify._data(found)["stdout"] == "a\ufffdb"
