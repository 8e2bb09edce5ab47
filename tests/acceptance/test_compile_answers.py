"""What clients are told of compiling, through HTTP, the queue and either kind of worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import running_api
from support.worker_rig import async_worker, stock_worker

if TYPE_CHECKING:
    import aiohttp

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
ENDLESS = (
    "#define A(x) x x\n#define B(x) A(A(A(A(x))))\n#define C(x) B(B(B(B(x))))\n"
    "int main(void) { C(C(C(;))) }"
)


async def evaluate(client: aiohttp.ClientSession, **body: Any) -> dict[str, Any]:
    """Submit and wait."""
    async with client.post("/api/eval", json={"language": "c", **body}) as response:
        assert response.status == 202, await response.text()
        href = (await response.json())["href"]
    while True:
        async with client.get(href, params={"wait": "20"}) as response:
            view: dict[str, Any] = await response.json()
        if view["finished_at"] is not None:
            return view


@pytest.mark.parametrize("kind", ["async", "stock"])
async def test_answers_tell_of_the_compiler(redis_url: str, kind: str) -> None:
    """One that compiles, the same again, one that does not, one that takes too long."""
    worker = async_worker(redis_url) if kind == "async" else stock_worker(redis_url, concurrency=1)
    async with running_api(redis_url) as client, worker:
        first, second = await evaluate(client, code=HELLO), await evaluate(client, code=HELLO)
        wrong = await evaluate(client, code="int main( {")
        slow = await evaluate(client, code=ENDLESS, compile_limits={"wall_time_s": 0.5})
        script = await evaluate(client, code="echo hello", language="sh")
    assert [(one["verdict"], one["output"]) for one in (first, second)] == [("ok", "hello\n")] * 2
    assert [one["compile"]["cached"] for one in (first, second)] == [False, True]
    assert set(first["compile"]) >= {"exit_code", "error", "usage", "cached"}
    assert first["compile"]["usage"]["wall_time_ms"] > 0
    assert (wrong["status"], wrong["verdict"], wrong["output"]) == ("failed", "compile_error", "")
    assert wrong["error"] == wrong["compile"]["error"]
    assert wrong["error"].startswith("main.c:1")
    assert (wrong["compile"]["exit_code"], wrong["compile"]["cached"]) == (1, False)
    assert slow["verdict"] == "compile_error"
    assert slow["message"] == "the compiler reached a compile limit: still running after 0.5 s"
    assert "compile" not in script


async def test_limits_of_a_compiler_are_bounded(redis_url: str) -> None:
    """As those of a program are, with a pointer to the one that is wrong."""
    body = {"code": HELLO, "language": "c", "compile_limits": {"memory_mb": 10**6}}
    async with (
        running_api(redis_url) as client,
        client.post("/api/eval", json=body) as response,
    ):
        assert response.status == 422
        (error,) = (await response.json())["errors"]
    assert error["pointer"] == "#/compile_limits/memory_mb"
