"""The model evaluation pipeline: workers of both kinds, containers, downloads, deaths."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from support.listening import listening
from support.patience import PATIENCE_S
from support.worker_rig import async_worker, stock_worker

from crucible.broker import Publisher
from crucible.errors import TaskFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

pytestmark = pytest.mark.timeout(400)

EXAMPLE = Path("examples/model")
SUITE: dict[str, Any] = {**json.loads((EXAMPLE / "suite.json").read_text()), "isolation": "nested"}
MODEL = (EXAMPLE / "classifier.py").read_bytes()
SHA256 = hashlib.sha256(MODEL).hexdigest()
TASK = "tasks.evaluate_ai_model"
WAIT_S = 90.0
RESERVED = {"slots": 2, "gpu0": 1}


class ModelHost:
    """Serves the model; the first answers break off after a few bytes.

    Attributes:
        url: of the model.
        ranges: what was asked for.
    """

    def __init__(self, breaks: int) -> None:
        self.url = ""
        self.ranges: list[str] = []
        self._breaks = breaks

    async def answer(self, request: web.Request) -> web.StreamResponse:
        at = int(request.headers.get("Range", "bytes=0-")[6:-1])
        self.ranges.append(request.headers.get("Range", ""))
        size = len(MODEL)
        headers = {"Content-Length": str(size - at)}
        if at:
            headers["Content-Range"] = f"bytes {at}-{size - 1}/{size}"
        response = web.StreamResponse(status=206 if at else 200, headers=headers)
        await response.prepare(request)
        if self._breaks:
            self._breaks -= 1
            await response.write(MODEL[at : at + 100])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(MODEL[at:])
        return response


@asynccontextmanager
async def model_host(breaks: int = 0) -> AsyncIterator[ModelHost]:
    host = ModelHost(breaks)
    application = web.Application()
    application.router.add_get("/models/classifier.py", host.answer)
    async with listening(application) as url:
        host.url = f"{url}/models/classifier.py"
        yield host


def environment(tmp_path: Path) -> dict[str, str]:
    """What a worker needs to run pipelines here."""
    return {
        "CRUCIBLE_MODEL_NETWORKS": "127.0.0.0/8",
        "CRUCIBLE_MODEL_CACHE_DIR": str(tmp_path / "models"),
        "CRUCIBLE_MODEL_DIR": str(EXAMPLE.resolve()),
        "CRUCIBLE_RESOURCES": "slots=4,gpu0=1",
        "CRUCIBLE_GPUS": "simulated:1",
    }


def told(report: dict[str, Any]) -> list[tuple[str, str, bool, int]]:
    """A report apart from its timings."""
    return [
        (one["id"], one["verdict"], one["passed"], one.get("repetitions", 1))
        for one in report["cases"]
    ]


EXPECTED = [
    (case["id"], "accepted" if "tests" in case else "ok", True, case.get("repetitions", 1))
    for case in SUITE["cases"]
]


async def test_the_example_goes_through_the_whole_pipeline(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Reserved, downloaded in pieces, tested in sandboxes, given back; and once, not twice."""
    worker = async_worker(redis_url, **environment(tmp_path))
    async with model_host(breaks=2) as host, Publisher.connect(redis_url) as publisher, worker:
        options = {"sha256": SHA256, "resources": RESERVED}
        sent = await publisher.send_task(TASK, [host.url, SUITE], options, queue="assessments")
        again = await publisher.send_task(TASK, [host.url, SUITE], options, queue="assessments")
        found = {one.id: await one.get(timeout=WAIT_S) for one in (sent, again)}
        # Both slots begin at once: whichever comes second names the other.
        (first,) = {one["task_id"] for one in found.values() if one.get("status") == "running"}
        report = found[first]
        assert host.ranges == ["", "bytes=100-", "bytes=200-"]
        assert report["artifact"] == {"sha256": SHA256, "size": len(MODEL)}
        assert report["reserved"] == RESERVED
        assert report["passed"] is True
        assert told(report) == EXPECTED
        assert await redis.hlen("crucible:reservations") == 0
        assert not await redis.keys("crucible:pipeline:*")
        # The same model again, as a file: it is in the cache.
        file = (EXAMPLE / "classifier.py").resolve().as_uri()
        sent = await publisher.send_task(TASK, [file, SUITE], options, queue="assessments")
        assert told(await sent.get(timeout=WAIT_S)) == EXPECTED


async def test_stock_workers_run_it_as_well(redis_url: str, redis: Redis, tmp_path: Path) -> None:
    """The same report, and nothing reserved afterwards."""
    worker = stock_worker(redis_url, environment=environment(tmp_path))
    async with model_host() as host, Publisher.connect(redis_url) as publisher, worker:
        options = {"sha256": SHA256, "resources": {"slots": 1}}
        sent = await publisher.send_task(TASK, [host.url, SUITE], options, queue="assessments")
        assert told(await sent.get(timeout=WAIT_S)) == EXPECTED
    assert await redis.hlen("crucible:reservations") == 0


async def test_what_is_wrong_leaves_nothing_reserved(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Wrong checksum, no such model, a forbidden address, an unknown resource, a wrong case."""
    many: list[dict[str, Any]] = [{"code": "1"} for _ in range(40)]
    many[37]["language"] = "cobol"
    worker = async_worker(redis_url, **environment(tmp_path))
    async with model_host() as host, Publisher.connect(redis_url) as publisher, worker:
        wrong: list[tuple[str, Any, dict[str, Any], str]] = [
            (host.url, SUITE, {"sha256": "0" * 64}, "checksum"),
            (host.url.replace("classifier", "none"), SUITE, {}, "404"),
            ("http://10.1.2.3/x", SUITE, {}, "private"),
            ("file:///etc/passwd", SUITE, {}, "CRUCIBLE_MODEL_DIR"),
            ("no-store", SUITE, {}, "CRUCIBLE_MODEL_URL"),
            (host.url, SUITE, {"resources": {"gpu9": 1}}, "resources.gpu9"),
            (host.url, SUITE, {"resources": {"slots": 5}}, "resources.slots"),
            (host.url, many, {}, "cases[37].language"),
            (host.url, [], {}, "cases"),
        ]
        for model_id, suite, options, said in wrong:
            options = {"resources": {"slots": 1}, **options}
            sent = await publisher.send_task(TASK, [model_id, suite], options, queue="assessments")
            with pytest.raises(TaskFailed) as failed:
                await sent.get(timeout=WAIT_S)
            assert said in str(failed.value), model_id
        assert await redis.hlen("crucible:reservations") == 0
        assert not await redis.keys("crucible:pipeline:*")


async def test_a_killed_worker_changes_nothing(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    """SIGKILL in the middle of a pipeline: the same report, each run once, nothing reserved."""
    async with model_host() as host, Publisher.connect(redis_url) as publisher:
        options = {"sha256": SHA256, "resources": RESERVED}
        sent = await publisher.send_task(TASK, [host.url, SUITE], options, queue="assessments")
        async with async_worker(redis_url, **environment(tmp_path)) as worker:
            await _until_runs(redis, 2)
            os.kill(worker.pid, signal.SIGKILL)
            await worker.wait(PATIENCE_S)
        async with async_worker(redis_url, **environment(tmp_path)):
            assert told(await sent.get(timeout=WAIT_S)) == EXPECTED
        assert await redis.hlen("crucible:reservations") == 0


async def _until_runs(redis: Redis, count: int) -> None:
    """Return once so many runs of the pipeline have ended; with 0, once it is there."""
    async with asyncio.timeout(WAIT_S):
        while True:
            keys = await redis.keys("crucible:pipeline:*")
            if keys and await redis.hlen(keys[0]) >= count + 1:
                return
            await asyncio.sleep(0.02)
