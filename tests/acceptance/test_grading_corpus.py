"""The problems of ``tests/data/grading`` in each isolation, by either kind of worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import running_api
from support.grading_corpus import Solution, problems, solutions
from support.worker_rig import async_worker, stock_worker

if TYPE_CHECKING:
    import aiohttp

pytestmark = [pytest.mark.docker, pytest.mark.stock, pytest.mark.timeout(600)]


async def graded(client: aiohttp.ClientSession, solution: Solution, isolation: str) -> Any:
    """The evaluation of a solution, once it has ended."""
    async with client.post("/api/eval", json=solution.request(isolation)) as response:
        accepted = await response.json()
        assert response.status == 202, accepted
    while True:
        async with client.get(f"{accepted['href']}?wait=20") as response:
            view = await response.json()
        if view["status"] in ("completed", "failed", "cancelled"):
            return view


def difference(solution: Solution, view: dict[str, Any]) -> Any:
    """How an evaluation differs from what it is to be; None where it does not."""
    verdicts, score = solution.expected()
    found = [test["verdict"] for test in view.get("tests", [])]
    if found != verdicts or abs(view["score"] - score) > 1e-9:
        ends = zip(view.get("tests", []), verdicts, strict=False)
        first = next((test for test, verdict in ends if test["verdict"] != verdict), None)
        return {"is": found, "to be": list(map(str, verdicts)), "first": first, "view": view}
    failed = [verdict for verdict in verdicts if verdict not in ("accepted", "skipped")]
    return None if view["verdict"] == (failed[0] if failed else "accepted") else view["verdict"]


@pytest.mark.parametrize("kind", ["async", "stock"])
@pytest.mark.parametrize("isolation", ["container", "nested"])
async def test_the_same_verdicts_everywhere(redis_url: str, kind: str, isolation: str) -> None:
    """Each test of each solution ends as it must, wherever it runs and whoever serves it."""
    # C++ is in ``judge`` alone.
    both = {"CRUCIBLE_ENVIRONMENTS": "default,judge"}
    asynchronous = kind == "async"
    worker = (
        async_worker(redis_url, **both)
        if asynchronous
        else stock_worker(redis_url, environment=both)
    )
    every = list(solutions())
    if kind == "stock":
        # It runs the same functions; what starts or compiles slowly is left to the other.
        every = [one for one in every if one.path.suffix == ".py"]
    async with running_api(redis_url, environments=("default", "judge")) as client, worker:
        views = await asyncio.gather(*(graded(client, one, isolation) for one in every))
    wrong = {
        solution.name: found
        for solution, view in zip(every, views, strict=True)
        if (found := difference(solution, view))
    }
    assert not wrong


def test_the_corpus_has_what_it_is_to_have() -> None:
    """Five problems and more, 20 tests each, in four languages, right and wrong in every way."""
    every = list(solutions())
    assert len(problems()) >= 5
    assert all(len(problem.tests()) >= 20 for problem in problems())
    for problem in problems():
        kinds = [one.path.stem for one in every if one.problem.name == problem.name]
        assert kinds.count("right") == 4
        assert {"wrong", "partial", "slow", "hungry", "presentation"} <= set(kinds)
    assert {one.path.suffix for one in every} == {".py", ".js", ".c", ".cpp"}
