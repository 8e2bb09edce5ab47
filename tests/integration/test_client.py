"""``crucible.client`` against a real api and worker."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import port_of, running_api
from support.client_tasks import registry
from support.worker_rig import async_worker, crucible

from crucible.client import ApiRefused, ApiUnreached, AsyncCrucible, Crucible
from crucible.embedded.server import free_port
from crucible.errors import ApiError
from crucible.models import Status, Verdict
from crucible.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

QUEUES = ("high_priority", "evaluation", "batch")


@asynccontextmanager
async def service(redis_url: str) -> AsyncIterator[str]:
    """An api and a worker; the URL."""
    async with (
        Worker(registry, broker_url=redis_url, queues=QUEUES, concurrency=16),
        running_api(redis_url) as session,
    ):
        yield f"http://127.0.0.1:{port_of(session)}"


@asynccontextmanager
async def client(redis_url: str) -> AsyncIterator[AsyncCrucible]:
    async with service(redis_url) as url, AsyncCrucible(url) as opened:
        yield opened


async def test_a_program_is_run(redis_url: str) -> None:
    """What comes back is the evaluation, typed."""
    async with client(redis_url) as crucible_:
        found = await crucible_.run("print(1)", metadata={"who": "me"}, priority=9)
        assert (found.output, found.verdict, found.queue) == (
            "print(1)",
            Verdict.OK,
            "high_priority",
        )
        assert found.metadata == {"who": "me"}


async def test_submitting_and_waiting(redis_url: str) -> None:
    """An id of one's own finds the first submission; waiting has an end."""
    async with client(redis_url) as crucible_:
        accepted = await crucible_.submit("sleep 30", eval_id="mine")
        assert (accepted.eval_id, accepted.task_id, accepted.status) == (
            "mine",
            "eval-mine",
            Status.QUEUED,
        )
        assert (await crucible_.submit("sleep 30", eval_id="mine")).eval_id == "mine"
        with pytest.raises(TimeoutError, match="mine is still"):
            await crucible_.wait("mine", timeout=0.1)
        assert (await crucible_.cancel("mine")).eval_id == "mine"
        assert (await crucible_.wait("mine", timeout=20)).status == Status.CANCELLED


async def test_bytes_are_sent_as_they_are(redis_url: str) -> None:
    """Standard input and files that are no text arrive as base64."""
    async with client(redis_url) as crucible_:
        found = await crucible_.run("x", stdin=b"\xff\0", files={"a.bin": b"\xfe", "b.txt": "b"})
        assert found.verdict == Verdict.OK


async def test_a_refusal_names_the_field(redis_url: str) -> None:
    """The error has what the problem document has."""
    async with client(redis_url) as crucible_:
        with pytest.raises(ApiRefused) as caught:
            await crucible_.run("print(1)", language="cobol")
        assert (caught.value.status, caught.value.field) == (422, "language")
        assert "cobol" in str(caught.value)
        assert caught.value.errors[0]["pointer"] == "#/language"
        with pytest.raises(ApiRefused) as caught:
            await crucible_.get("nobody")
        assert caught.value.status == 404


async def test_map_keeps_the_order_and_bounds_the_window(redis_url: str) -> None:
    """Later programs that end earlier wait for their turn; no more are read than may run."""
    read = ended = most = 0

    def programs() -> Any:
        nonlocal read
        for number in range(60):
            read += 1
            yield f"sleep {0.1 if number % 10 == 0 else 0}"

    seen: list[tuple[int, int | None]] = []
    async with client(redis_url) as crucible_:
        outputs = []
        async for found in crucible_.map(
            programs(), window=7, progress=lambda done, total: seen.append((done, total))
        ):
            ended += 1
            most = max(most, read - len(seen))
            outputs.append(found.output)
    assert outputs == [f"sleep {0.1 if number % 10 == 0 else 0}" for number in range(60)]
    assert most <= 8
    assert seen == [(number + 1, None) for number in range(60)]


async def test_each_of_many_has_its_own_error(redis_url: str) -> None:
    """A refused program hurts itself alone; ``map`` raises it in its place."""
    programs: list[Any] = ["a", {"code": "b", "language": "cobol"}, "c"]
    async with client(redis_url) as crucible_:
        found = [one async for one in crucible_.as_completed(programs)]
        by_index = {one.index: one for one in found}
        assert isinstance(by_index[1].error, ApiRefused)
        assert by_index[1].evaluation is None
        assert by_index[2].evaluation is not None
        assert by_index[2].evaluation.output == "c"
        in_order = crucible_.map(programs)
        assert (await anext(in_order)).output == "a"
        with pytest.raises(ApiRefused, match="cobol"):
            await anext(in_order)


async def test_what_is_abandoned_is_cancelled_here(redis_url: str) -> None:
    """Leaving the loop ends the requests under way, and the client can be closed."""
    async with client(redis_url) as crucible_:
        results = crucible_.as_completed([*["sleep 0"] * 3, *["sleep 2"] * 5])
        async for _ in results:
            break
        await results.aclose()
        assert (await crucible_.run("still works")).output == "still works"


async def test_an_api_that_is_away(redis_url: str) -> None:
    """It is asked again for as long as the caller wants, and then an error says so."""
    async with AsyncCrucible(f"http://127.0.0.1:{free_port()}", retry_for_s=0.3) as crucible_:
        with pytest.raises(ApiUnreached, match="does not answer"):
            await crucible_.run("x")
    for url in ("ftp://x", "127.0.0.1:8000", "http://", "http://[:::"):
        with pytest.raises(ApiError, match="is not the address of an API"):
            AsyncCrucible(url)


async def test_restarts_of_api_and_worker_are_waited_out(redis_url: str) -> None:
    """SIGKILL of both, again and again: every program ends once, with its own result."""
    port = free_port()
    tasks = ("--tasks", "support.client_tasks:registry", "--queues", ",".join(QUEUES))

    def api() -> AbstractAsyncContextManager[Any]:
        return crucible(
            ["api", "--port", str(port)],
            CELERY_BROKER_URL=redis_url,
            CRUCIBLE_EVENT_BUS_URL=redis_url,
        )

    path = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    results: dict[int, str] = {}

    async def client_side(started: asyncio.Event) -> None:
        programs = [{"code": f"sleep {0.01 + index / 1e6:.6f}"} for index in range(600)]
        async with AsyncCrucible(f"http://127.0.0.1:{port}") as crucible_:
            async for one in crucible_.as_completed(programs, window=32):  # type: ignore[arg-type]
                assert one.evaluation is not None, one.error
                assert one.index not in results
                results[one.index] = one.evaluation.output
                if len(results) % 100 == 99:
                    started.set()

    started = asyncio.Event()
    running = asyncio.create_task(client_side(started))
    for kills in range(3):
        async with api() as server, async_worker(redis_url, *tasks, **path) as worker:
            await server.wait_for_log(r"listening on http://")
            await asyncio.wait_for(started.wait(), 60)
            started.clear()
            if kills == 2:
                await running
                break
            server.send_signal(signal.SIGKILL)
            worker.send_signal(signal.SIGKILL)
            await server.wait()
            await worker.wait()
    assert results == {index: f"sleep {0.01 + index / 1e6:.6f}" for index in range(600)}


async def test_the_blocking_client(redis_url: str) -> None:
    """The same without an event loop: results, errors, and iteration that is left early."""

    def without_a_loop(url: str) -> None:
        with Crucible(url) as crucible_:
            assert crucible_.run("one").output == "one"
            assert [one.output for one in crucible_.map(["a", "b"], window=2)] == ["a", "b"]
            with pytest.raises(ApiRefused):
                crucible_.get("nobody")
            for one in crucible_.as_completed(["x"] * 5):
                assert one.evaluation is not None
                break
            assert crucible_.submit("two").status == Status.QUEUED
        with pytest.raises(RuntimeError, match="not open"):
            crucible_.run("closed")

    async with service(redis_url) as url:
        await asyncio.to_thread(without_a_loop, url)
