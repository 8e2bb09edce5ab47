"""The legacy queue over HTTP: one process, one deque, everything in memory.

==========================  ==============================================================
``POST /tasks``             submit: 201, or 200 for one that is known already
``GET /tasks/next``         take the oldest queued task (``?worker=NAME``), or 204
``POST /tasks/{id}/result`` a worker hands in an outcome
``POST /tasks/{id}/status`` a worker is ``running`` it, or it ``failed`` to run
``GET /tasks/{id}``         status
``GET /tasks/{id}/result``  200 with the result once it has ended, 202 before
``DELETE /tasks/{id}``      cancel while it is queued
``GET /tasks``              list (``?status=&limit=``)
``GET /stats``              depths and totals
``GET /health``             whether the process lives
``PUT /drain``              ``{"draining": true}``: refuse new tasks, run the rest
==========================  ==============================================================

Tasks and results live in this process alone. A crash or a restart loses all of them, as in the
original system; whoever asks for one afterwards gets 404 ``task-unknown``.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web

from crucible.errors import ParameterError, SettingsError
from crucible.http.answers import json_answer
from crucible.http.bearer import bearer_guard
from crucible.http.body import read_body
from crucible.http.guard import GUARD, service_guard
from crucible.http.hosts import HostPolicy, host_guard
from crucible.http.listening import listen
from crucible.http.protocol import GuardedRunner
from crucible.http.query import limit_of
from crucible.legacy.problems import problems
from crucible.legacy.queue import LegacyQueue
from crucible.legacy.wire import (
    ENDED_STATES,
    Circuits,
    Drain,
    StatusChange,
    Submission,
    TakenTask,
    TaskList,
    TaskState,
    Wanted,
)
from crucible.models import Outcome
from crucible.settings import http_url, is_loopback
from crucible.validation import input_error, not_json

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Collection

    from crucible.breaker import Circuit

log = logging.getLogger(__name__)

#: Largest body: both streams and some files of an outcome at their ceilings, in base64.
MAX_BODY_BYTES = 64 * 1024 * 1024
#: Tasks in one listing, by default and at most.
PAGE, LARGEST_PAGE = 100, 1000
#: Seconds that requests in flight may take once the service is asked to stop.
SHUTDOWN_S = 2.0

_QUEUE = web.AppKey("queue", LegacyQueue)
T = TypeVar("T")


async def serve(
    host: str,
    port: int,
    stop: asyncio.Event,
    *,
    token: str = "",
    queue: LegacyQueue | None = None,
    allowed_hosts: Collection[str] = (),
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve a legacy queue until ``stop`` is set; what it holds then is lost.

    Args:
        host: address to listen on; any but loopback needs a token.
        port: port to listen on; 0 asks for any free one.
        stop: ends it; requests in flight are answered first.
        token: bearer token every request except ``/health`` must carry; empty means none.
        queue: the queue to serve; a new one by default.
        allowed_hosts: further names it is reached under without a token.
        started: called with the port once it listens.

    Raises:
        SettingsError: the address may not be served without a token.
        RequirementError: the address cannot be bound.
    """
    async with open_service(
        host, port, token=token, queue=queue, allowed_hosts=allowed_hosts
    ) as bound:
        log.info("legacy queue listening on %s", http_url(host, bound))
        if started is not None:
            started(bound)
        await stop.wait()


@asynccontextmanager
async def open_service(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    token: str = "",
    queue: LegacyQueue | None = None,
    allowed_hosts: Collection[str] = (),
) -> AsyncIterator[int]:
    """A legacy queue service; its value is the port. Arguments and errors as for ``serve``."""
    if not token and not is_loopback(host):
        raise SettingsError("CRUCIBLE_HOST", f"{host!r}: only loopback is served without a token")
    hosts = HostPolicy(host, allowed_hosts)
    app = build_app(queue or LegacyQueue(), token=token, hosts=hosts)
    runner = GuardedRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    try:
        await runner.setup()
        yield await listen(runner, host, port)
    finally:
        await runner.cleanup()


def build_app(
    queue: LegacyQueue, *, token: str = "", hosts: HostPolicy | None = None
) -> web.Application:
    """The application over one queue.

    Args:
        queue: it serves.
        token: bearer token of its clients; empty means none.
        hosts: names it is reached under without a token; loopback's by default.
    """
    guard = bearer_guard(token) if token else host_guard(hosts or HostPolicy("localhost"))
    app = web.Application(middlewares=[problems, guard], client_max_size=MAX_BODY_BYTES)
    app[_QUEUE], app[GUARD] = queue, service_guard(MAX_BODY_BYTES)
    app.add_routes(
        [
            web.post("/tasks", _submit),
            web.get("/tasks", _list, allow_head=False),
            # GET although it changes state: workers of the original poll it. A HEAD would take a
            # task as well and drop it, so there is none.
            web.get("/tasks/next", _next, allow_head=False),
            web.post("/tasks/find", _find),
            web.post("/tasks/{id}/result", _finish),
            web.post("/tasks/{id}/status", _change),
            web.get("/tasks/{id}", _view),
            web.get("/tasks/{id}/result", _result),
            web.delete("/tasks/{id}", _cancel),
            web.get("/stats", _stats),
            web.get("/health", _health),
            web.put("/drain", _drain),
        ]
    )
    return app


async def _submit(request: web.Request) -> web.Response:
    submission = await _body(request, Submission)
    task, fresh = request.app[_QUEUE].submit(submission.id, submission.program)
    return json_answer(task.view(), status=201 if fresh else 200)


async def _list(request: web.Request) -> web.Response:
    try:
        status = TaskState(asked) if (asked := request.query.get("status")) else None
    except ValueError:
        known = ", ".join(TaskState)
        raise ParameterError("status", f"must be one of {known}") from None
    found = request.app[_QUEUE].tasks(status, limit_of(request, PAGE, LARGEST_PAGE))
    return json_answer(TaskList(tasks=[task.view() for task in found]))


async def _find(request: web.Request) -> web.Response:
    wanted = await _body(request, Wanted)
    found = request.app[_QUEUE].find(wanted.ids)
    return json_answer(TaskList(tasks=[task.view() for task in found]))


async def _next(request: web.Request) -> web.Response:
    worker = request.query.get("worker", "")
    if len(worker) > 200:
        raise ParameterError("worker", "must have at most 200 characters")
    task = request.app[_QUEUE].take(worker, _circuits_of(request))
    if task is None or task.program is None:
        return web.Response(status=204)
    return json_answer(TakenTask(id=task.id, program=task.program))


def _circuits_of(request: web.Request) -> dict[str, Circuit]:
    """The worker's circuit breakers; workers of the original system report none."""
    text = request.query.get("circuits", "{}")
    try:
        return msgspec.json.decode(text, type=Circuits)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise ParameterError("circuits", "must be JSON of circuit breakers") from error


async def _finish(request: web.Request) -> web.Response:
    outcome = await _body(request, Outcome)
    return json_answer(request.app[_QUEUE].finish(request.match_info["id"], outcome).view())


async def _change(request: web.Request) -> web.Response:
    change = await _body(request, StatusChange)
    queue, task_id = request.app[_QUEUE], request.match_info["id"]
    if change.status == "running":
        return json_answer(queue.confirm_running(task_id).view())
    return json_answer(queue.fail(task_id, change.message).view())


async def _view(request: web.Request) -> web.Response:
    return json_answer(request.app[_QUEUE].get(request.match_info["id"]).view())


async def _result(request: web.Request) -> web.Response:
    task = request.app[_QUEUE].get(request.match_info["id"])
    return json_answer(task.result(), status=200 if task.status in ENDED_STATES else 202)


async def _cancel(request: web.Request) -> web.Response:
    return json_answer(request.app[_QUEUE].cancel(request.match_info["id"]).view())


async def _stats(request: web.Request) -> web.Response:
    return json_answer(request.app[_QUEUE].stats())


async def _health(_: web.Request) -> web.Response:
    return json_answer({"status": "ok"})


async def _drain(request: web.Request) -> web.Response:
    drain = await _body(request, Drain)
    request.app[_QUEUE].draining = drain.draining
    return json_answer(drain)


async def _body(request: web.Request, kind: type[T]) -> T:
    """The request's body as ``kind``.

    Raises:
        InputError: naming the field; without one where the body is not JSON.
    """
    try:
        return msgspec.json.decode(await read_body(request), type=kind)
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(error) from None
