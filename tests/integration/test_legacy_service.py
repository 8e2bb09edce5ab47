"""The legacy queue, its worker and its client over real HTTP on free ports."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from support import raw_http
from support.corpus import load_corpus
from support.listening import listening
from support.loop_turns import turns

from crucible.errors import (
    ConflictError,
    ExecutorUnavailable,
    InputError,
    LegacyRefused,
    LegacyTaskUnknown,
    LegacyUnavailable,
    LegacyWrongState,
    RequirementError,
    ResultTimeout,
    SettingsError,
)
from crucible.http.guard import Limits
from crucible.legacy import LegacyClient, LegacyQueue, TaskState, open_service, serve, work
from crucible.models import Outcome, Program, Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WAIT_S = 60.0


def program(code: str = "print(6*7)") -> Program:
    return Program(language="python", code=code, stdin=b"\xff\x00")


async def echo(sent: Program) -> Outcome:
    """An executor that tells what it was given."""
    return Outcome(verdict=Verdict.OK, exit_code=0, stdout=sent.code.encode() + sent.stdin)


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    async with open_service() as port:
        yield f"http://127.0.0.1:{port}"


@pytest_asyncio.fixture
async def client(url: str) -> AsyncIterator[LegacyClient]:
    async with LegacyClient(url) as client:
        yield client


@asynccontextmanager
async def worker(
    url: str, run: Callable[[Program], Awaitable[Outcome]], **options: Any
) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(work(url, run, stop, poll_s=0.01, **options))
        try:
            yield stop
        finally:
            stop.set()


async def ask(url: str, method: str, path: str, body: Any = None) -> tuple[int, Any, Any]:
    data = body if isinstance(body, bytes) or body is None else body.encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url + path, data=data) as answer,
    ):
        content = await answer.json(content_type=None) if await answer.read() else None
        return answer.status, content, answer.headers


async def test_program_through_queue_and_worker(url: str, client: LegacyClient) -> None:
    """What a client submits reaches the executor byte for byte, and its outcome comes back so."""
    async with worker(url, echo, name="w1"):
        submitted = await client.submit("a", program())
        assert submitted.status is TaskState.QUEUED
        found = await client.wait("a", WAIT_S)
    assert found.outcome == await echo(program())
    assert (found.status, found.worker) == (TaskState.COMPLETED, "w1")
    assert found.created_at <= (found.started_at or "") <= (found.finished_at or "")
    assert (await client.get("a")).status is TaskState.COMPLETED


async def test_whole_corpus_arrives_unchanged(url: str, client: LegacyClient) -> None:
    """Every program of the corpus passes queue and worker unchanged, in order."""
    ran: list[Program] = []

    async def remember(sent: Program) -> Outcome:
        ran.append(sent)
        return await echo(sent)

    programs = [entry.program() for entry in load_corpus()]
    for sent in programs:
        await client.submit(sent.eval_id, sent)
    async with worker(url, remember):
        for sent in programs:
            found = await client.wait(sent.eval_id, WAIT_S)
            assert found.outcome == await echo(sent)
    assert ran == programs


async def test_large_outcome(url: str, client: LegacyClient) -> None:
    """Megabytes of binary output and files come back whole."""
    large = Outcome(
        verdict=Verdict.OK,
        exit_code=0,
        stdout=bytes(range(256)) * 32_768,
        stderr=b"\xff" * 8_000_000,
        files={"f.bin": b"\x00" * 4_000_000},
    )

    async def run(_: Program) -> Outcome:
        return large

    async with worker(url, run):
        await client.submit("a", program("#" * 3_000_000))
        assert (await client.wait("a", WAIT_S)).outcome == large


async def test_raw_contract(url: str) -> None:
    """Statuses and bodies of the bare HTTP contract, one life of a task."""
    body = '{"id":"a","program":{"language":"python","code":"1"}}'
    assert (await ask(url, "GET", "/tasks/next"))[0] == 204
    assert (await ask(url, "POST", "/tasks", body))[0] == 201
    assert (await ask(url, "POST", "/tasks", body))[0] == 200
    assert (await ask(url, "GET", "/tasks/a/result"))[0] == 202
    status, taken, _ = await ask(url, "GET", "/tasks/next?worker=w")
    assert (status, taken["id"], taken["program"]["code"]) == (200, "a", "1")
    status, view, _ = await ask(url, "POST", "/tasks/a/status", '{"status":"running"}')
    assert (status, view["status"], view["worker"]) == (200, "running", "w")
    done = '{"verdict":"ok","exit_code":0,"stdout":"NDIK"}'
    assert (await ask(url, "POST", "/tasks/a/result", done))[0] == 200
    status, result, _ = await ask(url, "GET", "/tasks/a/result")
    assert (status, result["status"], result["outcome"]["stdout"]) == (200, "completed", "NDIK")
    assert (await ask(url, "GET", "/health"))[:2] == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/tasks", "", 400, "body"),
        ("POST", "/tasks", "{", 400, "body"),
        ("POST", "/tasks", b"\xff\xfe", 400, "body"),
        ("POST", "/tasks", "[]", 400, "body"),
        ("POST", "/tasks", "[" * 100_000, 400, "body"),
        ("POST", "/tasks", '{"id":"a"}', 422, "program"),
        ("POST", "/tasks", '{"id":"a","program":{"language":"python"}}', 422, "program.code"),
        ("POST", "/tasks", '{"id":"a b","program":{"language":"p","code":""}}', 422, "id"),
        ("POST", "/tasks", '{"id":"next","program":{"language":"p","code":""}}', 422, "id"),
        ("POST", "/tasks", '{"id":"a","extra":1,"program":{}}', 422, "extra"),
        (
            "POST",
            "/tasks",
            '{"id":"a","program":{"language":"p","code":"1","limits":{"memory_mb":"5"}}}',
            422,
            "program.limits.memory_mb",
        ),
        ("POST", "/tasks/a/result", '{"verdict":"splendid"}', 422, "verdict"),
        ("POST", "/tasks/a/status", '{"status":"queued"}', 422, "status"),
        ("PUT", "/drain", '{"draining":"yes"}', 422, "draining"),
        ("GET", "/tasks?status=lost", None, 422, "status"),
        ("GET", "/tasks?limit=0", None, 422, "limit"),
        ("GET", "/tasks?limit=ten", None, 422, "limit"),
        ("GET", "/tasks?limit=" + "9" * 5000, None, 422, "limit"),
        ("GET", "/tasks/nobody", None, 404, None),
        ("GET", "/nowhere", None, 404, None),
        ("HEAD", "/tasks/next", None, 404, None),
        ("PATCH", "/tasks", None, 405, None),
    ],
)
async def test_bad_input_names_its_field(
    url: str, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    """Bad input is a problem document that names the field; nothing is queued, nothing is 500."""
    got, problem, headers = await ask(url, method, path, body)
    assert got == status
    assert headers["Content-Type"] == "application/problem+json"
    if method != "HEAD":
        assert problem["status"] == status
        assert problem.get("field") == field
    assert (await ask(url, "GET", "/stats"))[1]["submitted_total"] == 0


async def test_ids_conflict_and_repeat(client: LegacyClient) -> None:
    """The same id with the same program is the first task, with another one a conflict."""
    first = await client.submit("a", program())
    assert await client.submit("a", program()) == first
    with pytest.raises(ConflictError, match="another program"):
        await client.submit("a", program("print(1)"))
    with pytest.raises(InputError) as caught:
        await client.submit("not an id", program())
    assert caught.value.field == "id"
    assert (await client.stats()).queued == 1


async def test_cancel_only_while_queued(client: LegacyClient) -> None:
    """A waiting task can be cancelled and is not handed out; a running one cannot."""
    await client.submit("a", program())
    await client.submit("b", program())
    assert (await client.cancel("a")).status is TaskState.CANCELLED
    taken = await client.take("w")
    assert taken is not None
    assert taken.id == "b"
    with pytest.raises(LegacyWrongState, match="running"):
        await client.cancel("b")
    assert (await client.wait("a", WAIT_S)).outcome is None
    assert await client.take("w") is None


async def test_drain_and_resume(url: str, client: LegacyClient) -> None:
    """Draining refuses the new with a 503 and serves the rest; it can be taken back."""
    await client.submit("a", program())
    await client.drain()
    with pytest.raises(LegacyRefused, match="draining"):
        await client.submit("b", program())
    status, _, headers = await ask(
        url, "POST", "/tasks", '{"id":"b","program":{"language":"python","code":"1"}}'
    )
    assert status == 503
    assert int(headers["Retry-After"]) > 0
    async with worker(url, echo):
        assert (await client.wait("a", WAIT_S)).status is TaskState.COMPLETED
    assert (await client.stats()).draining
    await client.drain(draining=False)
    await client.submit("b", program())
    assert [task.id for task in await client.tasks(TaskState.QUEUED)] == ["b"]


async def test_reserved_id_takes_nothing(client: LegacyClient) -> None:
    """Asking for a task called ``next`` does not take the first in line."""
    await client.submit("a", program())
    for ask_for in (client.get, client.result, client.cancel):
        with pytest.raises(LegacyTaskUnknown):
            await ask_for("next")
    assert (await client.stats()).queued == 1


async def test_odd_ids_are_unknown(client: LegacyClient) -> None:
    """Ids that would be other paths or other queries are unknown tasks."""
    for odd in ("a/result", "../stats", "a?b", "#", "%2e%2e", " ", "..", "."):
        with pytest.raises(LegacyTaskUnknown):
            await client.get(odd)


async def test_executor_fault_fails_the_task_once(url: str, client: LegacyClient) -> None:
    """A fault of the platform fails the task without a verdict and without a second try."""
    tries = 0

    async def broken(_: Program) -> Outcome:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ExecutorUnavailable("engine gone")
        raise RuntimeError("a bug")

    async with worker(url, broken):
        await client.submit("a", program())
        await client.submit("b", program())
        first, second = await client.wait("a", WAIT_S), await client.wait("b", WAIT_S)
    assert (first.status, first.message) == (
        TaskState.FAILED,
        "ExecutorUnavailable: engine gone",
    )
    assert (second.status, second.message) == (TaskState.FAILED, "internal error: RuntimeError")
    assert (first.outcome, second.outcome, tries) == (None, None, 2)


async def test_worker_ends_what_it_runs_before_it_stops(url: str, client: LegacyClient) -> None:
    """A stop in the middle of a program lets it end and hands its result in; the rest waits."""
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(sent: Program) -> Outcome:
        started.set()
        await go_on.wait()
        return await echo(sent)

    await client.submit("a", program())
    await client.submit("b", program())
    async with worker(url, slow) as stop:
        await asyncio.wait_for(started.wait(), WAIT_S)
        stop.set()
        go_on.set()
    assert (await client.get("a")).status is TaskState.COMPLETED
    assert (await client.get("b")).status is TaskState.QUEUED


async def test_two_workers_share_without_doubles(url: str, client: LegacyClient) -> None:
    """Two workers on one queue run every task exactly once, each one program at a time."""
    ran: list[str] = []
    busy = {"w1": 0, "w2": 0}

    def runner(name: str) -> Callable[[Program], Awaitable[Outcome]]:
        async def run(sent: Program) -> Outcome:
            busy[name] += 1
            assert busy[name] == 1
            await asyncio.sleep(0)
            ran.append(sent.code)
            busy[name] -= 1
            return await echo(sent)

        return run

    async with worker(url, runner("w1"), name="w1"), worker(url, runner("w2"), name="w2"):
        for n in range(40):
            await client.submit(f"t{n}", program(str(n)))
        results = [await client.wait(f"t{n}", WAIT_S) for n in range(40)]
    assert sorted(ran, key=int) == [str(n) for n in range(40)]
    assert all(found.status is TaskState.COMPLETED for found in results)


async def test_crash_loses_everything_and_the_worker_comes_back() -> None:
    """A new process on the old port knows no task; its worker serves it without a restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    async with LegacyClient(url) as client, worker(url, echo):
        with pytest.raises(LegacyUnavailable):
            await client.stats()
        async with open_service(port=port):
            await client.submit("a", program())
            await client.wait("a", WAIT_S)
        async with open_service(port=port):
            with pytest.raises(LegacyTaskUnknown):
                await client.result("a")
            with pytest.raises(LegacyTaskUnknown):
                await client.wait("a", WAIT_S)
            await client.submit("a", program("print(2)"))
            assert (await client.wait("a", WAIT_S)).status is TaskState.COMPLETED


async def test_wait_has_a_deadline(client: LegacyClient) -> None:
    """Waiting for a task nobody serves ends at its deadline."""
    await client.submit("a", program())
    with pytest.raises(ResultTimeout, match="a has not ended"):
        await client.wait("a", 0.05)


async def test_every_broken_answer_is_unavailable() -> None:
    """Silence, nonsense, redirects and foreign errors are all LegacyUnavailable, in time."""
    silent = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/tasks/silent":
                await silent.wait()
            case "/tasks/nonsense":
                return web.Response(text="<html>")
            case "/tasks/wrong":
                return web.json_response({"status": "queued"})
            case "/tasks/moved":
                raise web.HTTPFound("/tasks/elsewhere")
            case "/tasks/cut":
                assert request.transport is not None
                request.transport.abort()
        return web.Response(status=404, text="not here")

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    async with listening(app) as url, LegacyClient(url, deadline_s=0.5) as client:
        try:
            for task_id in ("silent", "nonsense", "wrong", "moved", "cut", "foreign"):
                with pytest.raises(LegacyUnavailable):
                    await client.get(task_id)
        finally:
            silent.set()


async def test_token_guards_all_but_health() -> None:
    """With a token nothing but ``/health`` is served without it."""
    async with open_service(token="s3cret") as port:
        url = f"http://127.0.0.1:{port}"
        assert (await ask(url, "GET", "/health"))[0] == 200
        status, _, headers = await ask(url, "GET", "/stats")
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        async with LegacyClient(url, token="wrong") as client:
            with pytest.raises(LegacyUnavailable, match="401"):
                await client.stats()
        async with LegacyClient(url, token="s3cret") as client, worker(url, echo, token="s3cret"):
            await client.submit("a", program())
            await client.wait("a", WAIT_S)


async def test_bytes_that_cannot_be_read_are_the_clients_fault() -> None:
    """A token that is no UTF-8 is a wrong one, and a body that is not what it says a 400."""
    async with open_service(token="s3cret") as port:
        head = b"POST /tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
        token = b"Authorization: Bearer %s\r\n"
        assert b" 401 " in await raw_http.sent(port, [head + token % b"\xff" + b"\r\n{}"])
        packed = b"Content-Encoding: gzip\r\n\r\n{}"
        assert b" 400 " in await raw_http.sent(port, [head + token % b"s3cret" + packed])


async def test_no_web_page_takes_tasks_and_no_client_holds_much(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a token the queue checks Host and Origin; half a request is not waited for."""
    caplog.set_level(logging.INFO)
    hasty = functools.partial(Limits, head_s=0.2, grace_s=0.2, rate=1_000_000)
    monkeypatch.setattr("crucible.http.guard.Limits", hasty)
    ask = b"GET /tasks/next HTTP/1.1\r\nConnection: close\r\n%s\r\n\r\n"
    half = b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{"
    async with open_service(allowed_hosts=["queue.example"]) as port:
        for fields, status in (
            (b"Host: evil.example", b" 421 "),
            (b"Host: localhost\r\nOrigin: http://evil.example", b" 403 "),
            (b"Host: localhost\r\nSec-Fetch-Site: cross-site", b" 403 "),
            (b"Host: queue.example", b" 204 "),
        ):
            assert status in await raw_http.sent(port, [ask % fields])
        assert b" 408 " in await raw_http.sent(port, [half])
        async with raw_http.connected(port) as client:
            client.transport.write(half)
            await turns()
            client.transport.close()
            await client.end()
    async with open_service(token="s3cret") as port:
        # Nobody who knows the token is a web page.
        asked = ask % b"Host: evil.example\r\nAuthorization: Bearer s3cret"
        assert b" 204 " in await raw_http.sent(port, [asked])
    assert [r for r in caplog.records if r.levelno > logging.INFO] == []


async def test_serve_until_stopped() -> None:
    """``serve`` tells its port, ends on its event, and names a port that is taken."""
    stop, ports = asyncio.Event(), asyncio.Queue[int]()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve("127.0.0.1", 0, stop, started=ports.put_nowait))
        port = await asyncio.wait_for(ports.get(), WAIT_S)
        with pytest.raises(RequirementError, match=f"port {port} .* taken"):
            await serve("127.0.0.1", port, asyncio.Event())
        async with LegacyClient(f"http://127.0.0.1:{port}/") as client:
            assert (await client.stats()).uptime_s >= 0
        stop.set()
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0"):
        await serve("0.0.0.0", 0, stop)
    with pytest.raises(SettingsError, match="QUEUE_SERVICE_URL"):
        LegacyClient("localhost:8002")


async def test_injected_queue_is_the_one_served() -> None:
    """The service is a thin edge over the queue it was given."""
    queue = LegacyQueue(limit=1)
    async with (
        open_service(queue=queue) as port,
        LegacyClient(f"http://127.0.0.1:{port}") as client,
    ):
        await client.submit("a", program())
        with pytest.raises(LegacyRefused, match="full"):
            await client.submit("b", program())
        assert [task.id for task in queue.tasks(None, 10)] == ["a"]
        assert (await client.stats()).queued == 1
