"""One trace of an evaluation, through workers of either kind, at a receiver of OTLP/HTTP."""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from stock_rig.child import Child
from stock_rig.environments import PROJECT, TESTS
from stock_rig.worker import StockWorker
from support.api_rig import queued, running_api
from support.kept_spans import ENDPOINT, kept_spans, read, received
from support.migration_rig import completed
from support.otlp import listening_receiver
from support.receiver import listening_receiver as listening_webhook
from support.worker_rig import (
    QUEUES,
    START_S,
    async_worker,
    crucible,
    plain_environment,
    stock_worker,
)

from crucible.broker.wire.decode import decode

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp
    from redis.asyncio import Redis
    from support.otlp import Received, Receiver

#: The way of an evaluation, in order.
WAY = ["http", "publish", "claim", "sandbox", "program", "result"]
#: Kinds of spans as OTLP has them.
SERVER, PRODUCER, CONSUMER = 2, 4, 5


async def traced(client: aiohttp.ClientSession, **more: object) -> tuple[str, str, str]:
    """Submit within a trace of the client's own: its id, its span, and the evaluation's id."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    body = {"code": "print(6*7)", "language": "python", **more}
    headers = {"traceparent": f"00-{trace_id}-{span_id}-01"}
    async with client.post("/api/eval", json=body, headers=headers) as response:
        assert response.status == 202, await response.text()
        return trace_id, span_id, (await response.json())["eval_id"]


def by_stage(spans: list[Received]) -> dict[str, Received]:
    """The first span of each stage."""
    return {one.stage: one for one in reversed(spans)}


def assert_way(spans: list[Received], span_id: str, eval_id: str) -> None:
    """The spans of the way are there once each, in order, each below the right one."""
    way = [one for one in spans if one.stage in WAY and not one.name.startswith("POST /run")]
    assert [one.stage for one in way] == WAY
    http, publish, claim, _, program, result = way
    assert (http.name, publish.name, claim.name) == (
        "POST /api/eval",
        "send evaluation",
        "process evaluation",
    )
    assert [one.kind for one in (http, publish, claim)] == [SERVER, PRODUCER, CONSUMER]
    assert [one.parent_id for one in (http, publish, claim, result)] == [
        span_id,
        http.span_id,
        publish.span_id,
        claim.span_id,
    ]
    # By the clock of one machine.
    assert publish.end_ns <= http.end_ns
    assert claim.start_ns <= program.start_ns <= program.end_ns <= claim.end_ns <= result.end_ns
    assert claim.links == [claim.trace_id]
    for one in (publish, claim, result):
        assert one.attributes["messaging.destination.name"] == "evaluation"
        assert one.attributes["messaging.message.id"] == f"eval-{eval_id}"
        assert one.attributes["crucible.eval_id"] == eval_id
    assert http.attributes["http.response.status_code"] == 202
    assert program.attributes["crucible.verdict"] == "ok"
    assert not any(one.failed for one in way)


async def spans_of(receiver: Receiver, trace_id: str, *more: str) -> list[Received]:
    """The spans of a trace, once all stages of the way, and these, have arrived."""
    stages = {*WAY, *more}
    return await receiver.until(trace_id, lambda spans: stages <= {one.stage for one in spans})


@pytest.mark.parametrize("direct", [True, False])
async def test_every_way_to_submit_is_traced(redis_url: str, redis: Redis, *, direct: bool) -> None:
    """With and without the fast path: each message carries the context of its own publication."""
    exporter = InMemorySpanExporter()
    with kept_spans(exporter):
        flags = {"otlp_endpoint": ENDPOINT, "trace_sample_rate": 1.0}
        async with running_api(redis_url, direct=direct, **flags) as client:
            body = {"code": "print(1)", "language": "python"}
            async with client.post("/api/eval", json={**body, "eval_id": "a"}) as response:
                assert response.status == 202
            # Known by now: nothing is sent.
            async with client.post("/api/eval", json={**body, "eval_id": "a"}) as response:
                assert response.status == 200
            async with client.post("/api/eval?wait=0.1", json={**body, "eval_id": "b"}) as response:
                assert response.status == 202
            async with client.post("/api/eval", json={"code": 1}) as response:
                assert response.status == 422
            async with client.post("/api/eval/batch", json=[body, body]) as response:
                assert response.status == 202
            messages = [decode(raw) for raw in await queued(redis)]
    spans = exporter.get_finished_spans()
    found = Counter(one.name for one in spans)
    assert found == {
        "POST /api/eval": 4,
        "POST /api/eval/batch": 1,
        "send evaluation": 2,
        "send batch": 1,
    }
    contexts = {one.name: one.get_span_context() for one in spans}
    carried = Counter(str(one.headers["traceparent"])[36:52] for one in messages)
    assert sorted(carried.values()) == [1, 1, 2]
    sent = contexts["send batch"]
    assert sent is not None
    assert carried[f"{sent.span_id:016x}"] == 2
    statuses = Counter((one.attributes or {}).get("http.response.status_code") for one in spans)
    assert statuses == {202: 3, 200: 1, 422: 1, None: 3}


def keeping_worker(kind: str, redis_url: str, path: Path) -> Child:
    """A worker of either kind that writes the spans in its memory to ``path`` as it stops."""
    variables = {
        "CELERY_BROKER_URL": redis_url,
        "CRUCIBLE_OTLP_ENDPOINT": ENDPOINT,
        "CRUCIBLE_TRACE_SAMPLE_RATE": "0",
        "CRUCIBLE_POOL_MIN": "1",
        "KEPT_SPANS": str(path),
    }
    if kind == "stock":
        return StockWorker(
            PROJECT,
            redis_url,
            queues=QUEUES,
            app="support.kept_spans_app",
            environment=variables,
        )
    command = [sys.executable, "-m", "support.kept_spans", "worker"]
    return Child(command, plain_environment(PYTHONPATH=str(TESTS), **variables))


@pytest.mark.docker
@pytest.mark.stock
@pytest.mark.parametrize(
    ("kind", "service"), [("async", "crucible-worker"), ("stock", "crucible-stock-worker")]
)
async def test_one_trace_in_memory(redis_url: str, tmp_path: Path, kind: str, service: str) -> None:
    """Without a receiver: api and worker of either kind have the way between them."""
    exporter, path = InMemorySpanExporter(), tmp_path / "spans.json"
    with kept_spans(exporter):
        # One request in a hundred would be sampled beside the one that brings its trace.
        async with running_api(redis_url, otlp_endpoint=ENDPOINT, trace_sample_rate=0.0) as client:
            async with keeping_worker(kind, redis_url, path) as worker:
                trace_id, span_id, eval_id = await traced(client)
                await completed(client, eval_id)
                await worker.stop(START_S)
    spans = sorted([*received(exporter), *read(path)], key=lambda one: one.start_ns)
    assert {one.trace_id for one in spans} == {trace_id}
    assert_way(spans, span_id, eval_id)
    services = {one.stage: one.service for one in spans}
    assert {services[stage] for stage in WAY[:2]} == {"crucible-api"}
    assert {services[stage] for stage in WAY[2:]} == {service}


@pytest.mark.docker
async def test_one_trace_through_an_async_worker(redis_url: str, tmp_path: Path) -> None:
    """From the request to the stored result, and on to the webhook and the history."""
    async with listening_receiver() as receiver, listening_webhook() as hook:
        variables = {
            "CRUCIBLE_OTLP_ENDPOINT": receiver.url,
            "CRUCIBLE_EVENT_BUS_URL": redis_url,
            "CRUCIBLE_HISTORY_URL": f"sqlite:///{tmp_path}/history.sqlite",
            "CRUCIBLE_WEBHOOK_NETWORKS": "127.0.0.0/8",
            "CRUCIBLE_POOL_MIN": "1",
            "CRUCIBLE_LOG_FORMAT": "json",
        }
        async with crucible(["historian", "migrate"], **variables) as migration:
            assert await migration.wait() == 0
        networks = ("127.0.0.0/8",)
        async with (
            async_worker(redis_url, "--concurrency", "2", **variables) as worker,
            crucible(["historian"], **variables),
            running_api(
                redis_url,
                otlp_endpoint=receiver.url,
                trace_sample_rate=0.0,
                webhook_networks=networks,
            ) as client,
        ):
            await worker.wait_for_log("serves the queues", START_S)
            trace_id, span_id, eval_id = await traced(client, webhook_url=hook.url)
            await completed(client, eval_id)
            spans = await spans_of(receiver, trace_id, "webhook", "history")
            await hook.until(1)
    assert_way(spans, span_id, eval_id)
    found = by_stage(spans)
    assert found["webhook"].parent_id == found["claim"].span_id
    assert found["webhook"].name == "process webhooks"
    services = {one.stage: one.service for one in spans}
    assert services["history"] == "crucible-historian"
    assert services["claim"] == services["sandbox"] == "crucible-worker"
    written = {one.name for one in spans if one.stage == "history"}
    # A program that a busy machine holds up reports progress as well.
    steps = {"queued", "running", "progress", "completed"}
    assert written <= {f"write {step}" for step in steps}
    batches = [one for one in receiver.spans if one.name == "process events"]
    assert any(trace_id in one.links for one in batches)
    # What nobody asked to be traced is not: the rate is zero.
    assert {one.trace_id for one in receiver.spans} == {trace_id, *(b.trace_id for b in batches)}


@pytest.mark.docker
@pytest.mark.stock
async def test_one_trace_through_a_stock_worker(redis_url: str, tmp_path: Path) -> None:
    """The shipped application reads the header; programs run in an executor service."""
    socket = f"unix://{tmp_path}/executor.sock"
    async with listening_receiver() as receiver:
        variables = {
            "CRUCIBLE_OTLP_ENDPOINT": receiver.url,
            "CRUCIBLE_EVENT_BUS_URL": redis_url,
            "CRUCIBLE_POOL_MIN": "1",
        }
        arguments = ["executor", "--socket", f"{tmp_path}/executor.sock"]
        worker = stock_worker(
            redis_url,
            concurrency=1,
            environment={**variables, "CRUCIBLE_EXECUTOR_URLS": socket},
        )
        async with (
            crucible(arguments, **variables) as executor,
            running_api(redis_url, otlp_endpoint=receiver.url) as client,
        ):
            await executor.wait_for_log("executor listening", START_S)
            async with worker:
                trace_id, span_id, eval_id = await traced(client)
                await completed(client, eval_id)
                # Of the next task, in the same process, the client wants no trace.
                unsampled = {"traceparent": f"00-{secrets.token_hex(16)}-{'1' * 16}-00"}
                body = {"code": "print(1)", "language": "python"}
                async with client.post("/api/eval", json=body, headers=unsampled) as response:
                    await completed(client, (await response.json())["eval_id"])
                spans = await spans_of(receiver, trace_id)
    assert_way(spans, span_id, eval_id)
    services = {one.stage: one.service for one in spans}
    assert services["claim"] == services["result"] == "crucible-stock-worker"
    assert services["sandbox"] == services["program"] == "crucible-executor"
    asked = next(one for one in spans if one.name == "POST /run")
    found = by_stage(spans)
    assert asked.parent_id == found["claim"].span_id
    assert found["program"].parent_id == asked.span_id
    assert not {one.trace_id for one in receiver.spans} & {unsampled["traceparent"][3:35]}
