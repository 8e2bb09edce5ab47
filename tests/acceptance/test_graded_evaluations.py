"""Many tests in one request, over HTTP, by either kind of worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from support.api_rig import port_of, running_api
from support.worker_rig import async_worker, crucible, stock_worker

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    import aiohttp
    from stock_rig.child import Child

pytestmark = [pytest.mark.docker, pytest.mark.stock, pytest.mark.timeout(400)]

ADD = "a, b = map(int, input().split())\nprint(a + b)"
ADD_IN_C = """
#include <stdio.h>
int main() { int a, b; scanf("%d%d", &a, &b); printf("%d", a + b); }
"""
TESTS = [
    {"id": "small", "stdin": "1 2\n", "expected": "3\n"},
    {"stdin": "2 2\n", "expected": "5\n", "points": 2},
    {"id": "bad", "stdin": "x\n", "expected": "0\n"},
]


def worker_of(kind: str, queue_url: str) -> AbstractAsyncContextManager[Child]:
    """One worker of the kind that is alone on the queues."""
    return async_worker(queue_url) if kind == "async" else stock_worker(queue_url)


async def ended(client: aiohttp.ClientSession, **body: Any) -> dict[str, Any]:
    """Submit and wait."""
    async with client.post("/api/eval", json=body) as response:
        accepted = await response.json()
        assert response.status == 202, accepted
    while True:
        async with client.get(f"{accepted['href']}?wait=20") as response:
            view: dict[str, Any] = await response.json()
        if view["status"] in ("completed", "failed", "cancelled"):
            return view


@pytest.mark.parametrize("kind", ["async", "stock"])
async def test_a_graded_evaluation(redis_url: str, kind: str) -> None:
    """Each test is reported with its verdict, points, output and usage, and what they come to."""
    async with running_api(redis_url) as client, worker_of(kind, redis_url):
        async with asyncio.timeout(120):
            view = await ended(client, code=ADD, tests=TESTS)
            in_c = await ended(
                client,
                language="c",
                code=ADD_IN_C,
                tests=TESTS[:1],
                isolation="nested",
            )
            broken = await ended(client, language="c", code="int main(", tests=TESTS[:1])
    assert (view["status"], view["verdict"]) == ("completed", "wrong_answer")
    assert (view["passed"], view["total"], view["score"]) == (1, 3, 0.25)
    first, second, third = view["tests"]
    assert first["usage"].pop("wall_time_ms") >= 0
    assert {name: first[name] for name in ("id", "verdict", "points", "output", "exit_code")} == {
        "id": "small",
        "verdict": "accepted",
        "points": 1.0,
        "output": "3\n",
        "exit_code": 0,
    }
    assert (second["id"], second["verdict"], second["points"]) == ("2", "wrong_answer", 0.0)
    assert "expected '5', found '4'" in second["message"]
    assert (third["verdict"], third["exit_code"]) == ("nonzero_exit", 1)
    assert "ValueError" in third["error"]
    assert view["usage"]["memory_peak_kb"] > 0
    assert "compile" not in view
    assert (in_c["verdict"], in_c["isolation"], in_c["score"]) == ("accepted", "nested", 1.0)
    assert in_c["compile"]["exit_code"] == 0
    assert (broken["verdict"], broken["passed"]) == ("compile_error", 0)
    assert [test["verdict"] for test in broken["tests"]] == ["skipped"]
    assert "main" in broken["compile"]["error"]


#: The first tests end at once, the third runs until it is stopped.
SLOW = "n = int(input())\nprint(n)\nimport time\nif n == 3: time.sleep(100)"


@pytest.mark.parametrize("kind", ["async", "stock"])
async def test_progress_and_cancelling(redis_url: str, kind: str) -> None:
    """Clients of HTTP and of Celery see how many tests are done; what was judged stays."""
    tests = [{"stdin": f"{n}\n", "expected": f"{n}\n"} for n in range(1, 6)]
    body = {"code": SLOW, "tests": tests, "eval_id": "slow", "limits": {"wall_time_s": 100}}
    app = Celery(broker=redis_url, backend=redis_url)
    async with running_api(redis_url) as client, worker_of(kind, redis_url):
        async with client.post("/api/eval", json=body) as response:
            assert response.status == 202
        async with asyncio.timeout(90):
            while True:
                async with client.get("/api/eval/slow") as response:
                    view = await response.json()
                if view.get("progress", {}).get("tests_done") == 2:
                    break
                await asyncio.sleep(0.05)
        assert view["status"] == "running"
        assert view["progress"] == {"tests_done": 2, "tests_total": 5, "passed": 2}
        result = await asyncio.to_thread(lambda: app.AsyncResult("eval-slow")._get_task_meta())
        assert (result["status"], result["result"]["tests_done"]) == ("PROGRESS", 2)
        async with asyncio.timeout(60), client.delete("/api/eval/slow") as response:
            view = await response.json()
    assert (view["status"], view["verdict"]) == ("cancelled", "cancelled")
    if kind == "async":  # a stock worker kills its child, which leaves nothing
        verdicts = [test["verdict"] for test in view["tests"]]
        assert verdicts == ["accepted", "accepted", "skipped", "skipped", "skipped"]
        assert (view["passed"], view["total"], view["score"]) == (2, 5, 0.4)


async def test_the_command(redis_url: str, tmp_path: Path) -> None:
    """A folder of tests, a checker and a mode; a table, a summary, and an exit code that tells."""
    problem = tmp_path / "problem"
    problem.mkdir()
    for name, given, answer in (("1", "1 2", "3"), ("2", "5 5", "10"), ("10", "0 0", "0")):
        (problem / f"{name}.in").write_text(given)
        (problem / f"{name}.out").write_text(f"{answer}\n")
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(ADD)
    wrong.write_text("a, b = map(int, input().split())\nprint(min(a + b, 3))")
    checker = tmp_path / "checker.py"
    checker.write_text("import sys\nsys.exit(open(sys.argv[2]).read() != open(sys.argv[3]).read())")

    async with running_api(redis_url) as client, async_worker(redis_url):
        url = f"http://127.0.0.1:{port_of(client)}"

        async def submit(*arguments: str, code: int) -> str:
            given = ("submit", *arguments, "--url", url)
            async with crucible(given, COLUMNS="200") as command:
                assert await command.wait(60) == code, command.log
                return command.log

        passed = await submit(str(right), "--tests", str(problem), "--compare", "exact", code=0)
        failed = await submit(
            *(str(wrong), "--tests", str(problem), "--checker", str(checker)),
            *("--stop", "first_failure", "--limit", "wall_time_s=5"),
            code=1,
        )
        refused = await submit(str(right), "--checker", str(checker), code=2)
    assert "accepted: 3 of 3 tests passed, score 1" in passed
    assert passed.index("\n1 ") < passed.index("\n2 ") < passed.index("\n10 ")
    assert "wrong_answer: 1 of 3 tests passed, score 0.333" in failed
    assert "skipped: test 2 failed" in failed
    assert "--tests" in refused
