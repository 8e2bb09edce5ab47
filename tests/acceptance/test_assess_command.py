"""``crucible assess`` against an API, a worker and containers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import pytest
from support.api_rig import port_of, running_api
from support.assessment_rig import Programs, case, serving
from support.worker_rig import async_worker, plain_environment

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = "examples/assessment"
#: Verdicts of the cases of the example that fail.
SEEDED = {
    "bad-exit": "nonzero_exit",
    "bad-exception": "nonzero_exit",
    "bad-signal": "signalled",
    "bad-timeout": "timeout",
    "bad-cpu": "cpu_limit",
    "bad-memory": "memory_limit",
    "bad-output": "output_limit",
    "bad-disk": "disk_limit",
    "bad-pids": "pids_limit",
    "bad-compile": "compile_error",
    "bad-answer": "wrong_answer",
    "bad-presentation": "presentation_error",
    "bad-partial": "partial",
    "bad-half": "wrong_answer",
    "bad-flaky": "nonzero_exit",
}


async def assess(url: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code and both outputs of the command."""
    command = [sys.executable, "-m", "crucible", "assess", "--url", url, *arguments]
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *command, env=plain_environment(COLUMNS="400"), stdout=pipe, stderr=pipe
    )
    output, error = await child.communicate()
    assert child.returncode is not None
    return child.returncode, output.decode(), error.decode()


async def test_the_example_fails_as_it_is_meant_to(redis_url: str, tmp_path: Path) -> None:
    """Fifty cases in four languages; each of those that fail has the verdict it was made for."""
    async with running_api(redis_url) as client:
        url = f"http://127.0.0.1:{port_of(client)}"
        async with async_worker(redis_url):
            code, output, error = await assess(
                url, EXAMPLE, "--isolation", "nested", "--report", str(tmp_path)
            )
    assert code == 1, error
    report = json.loads((tmp_path / "report.json").read_text())
    cases = {one["id"]: one for one in report["cases"]}
    assert len(cases) >= 50
    assert {one["language"] for one in report["cases"]} == {"python", "javascript", "bash", "c"}
    failed = {name: one["verdict"] for name, one in cases.items() if not one["passed"]}
    assert failed == SEEDED
    assert cases["bad-flaky"]["flaky"] is True
    assert cases["bad-half"]["score"] == 0.75
    assert "40 of 55 cases passed" in output
    assert "100.0 %" in error
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert 'failures="15"' in (tmp_path / "junit.xml").read_text()


async def test_the_exit_code_says_whether_it_passes(redis_url: str, tmp_path: Path) -> None:
    """A file in JSON, its report in JSON, and what changed since an earlier report."""
    suite, report = tmp_path / "suite.json", tmp_path / "report"
    where = ("--report", str(report))
    async with running_api(redis_url) as client, serving(redis_url, Programs()):
        url = f"http://127.0.0.1:{port_of(client)}"
        suite.write_text(json.dumps({"cases": [case(id="a"), case("timeout", id="b")]}))
        code, output, _ = await assess(url, str(suite), *where)
        assert (code, "1 of 2 cases passed" in output) == (1, True)
        earlier = tmp_path / "earlier.json"
        (report / "report.json").rename(earlier)
        suite.write_text(json.dumps({"cases": [case(id="a"), case(id="b")]}))
        code, output, _ = await assess(url, str(suite), "--json", "--compare", str(earlier), *where)
        assert code == 0
        found = json.loads(output)
        assert found["summary"]["passed"] is True
        assert [one["case"] for one in found["comparison"]["improvements"]] == ["b"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('{"cases": []}', 2, "cases: must not be empty"),
        ('{"cases": [', 2, "suite.json: "),
        ('{"cases": [{"file": "none.py"}]}', 2, "cases[0].file: "),
        (None, 1, "cases[37].language: "),
    ],
)
async def test_what_is_wrong_is_named(
    redis_url: str, tmp_path: Path, text: str | None, code: int, said: str
) -> None:
    """The file, the case and the field; nothing runs."""
    suite = tmp_path / "suite.json"
    if text is None:
        cases = [case(language="cobol" if number == 37 else "python") for number in range(40)]
        # So large that it goes in parts.
        for one in cases[:4]:
            one["stdin"] = "x" * 400_000
        text = json.dumps({"cases": cases})
    suite.write_text(text)
    async with running_api(redis_url) as client:
        url = f"http://127.0.0.1:{port_of(client)}"
        found, _, error = await assess(url, str(suite), "--no-report")
        assert found == code, error
        assert said in " ".join(error.replace("│", " ").split())
        async with client.get("/assessments") as response:
            stages = [one["status"] for one in (await response.json())["assessments"]]
        assert stages in ([], ["cancelled"])
