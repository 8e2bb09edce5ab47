"""The legacy queue over HTTP: one process, one deque, everything in memory.

==========================  ==============================================================
``POST /tasks``             submit: 201, or 200 for one that is known already
``GET /tasks/next``         take the first in line (``?worker=NAME``), or 204
``POST /tasks/{id}/result`` a worker hands in an outcome
``POST /tasks/{id}/status`` a worker is ``running`` it, or it ``failed`` to run
``GET /tasks/{id}``         status
``GET /tasks/{id}/result``  200 with the result once it has ended, 202 before
``DELETE /tasks/{id}``      cancel while it waits
``GET /tasks``              list (``?status=&limit=``)
``GET /stats``              depths and totals
``GET /health``             alive
``PUT /drain``              ``{"draining": true}``: refuse new tasks, serve the rest
==========================  ==============================================================

Tasks and results live in this process alone. A crash or a restart loses all of them, as it did in
the system this stands for; whoever asks afterwards gets 404 ``task-unknown``.
"""

from __future__ import annotations

import errno
import hmac
import logging
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web

from crucible.errors import InputError, RequirementError, SettingsError
from crucible.legacy.problems import problems, unauthorized
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

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable

    from aiohttp.typedefs import Handler, Middleware

    from crucible.breaker import Circuit

log = logging.getLogger(__name__)

#: Largest body: both streams and some files of an outcome at their ceilings, in base64.
MAX_BODY_BYTES = 64 * 1024 * 1024
#: Most tasks one listing holds.
MAX_LISTED = 1000
#: Seconds requests in flight may take once the server is told to stop.
SHUTDOWN_S = 2.0

_PATH = re.compile(r" - at `\$\.?([^`]*)`\Z")
_NAMED = re.compile(r"field `([^`]*)`")
_QUEUE = web.AppKey("queue", LegacyQueue)
T = TypeVar("T")


async def serve(
    host: str,
    port: int,
    stop: asyncio.Event,
    *,
    token: str = "",
    queue: LegacyQueue | None = None,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve a legacy queue until ``stop`` is set; what it holds then is lost.

    Args:
        host: address to listen on; not loopback only with a token.
        port: port to listen on; 0 asks for any free one.
        stop: ends it; requests in flight are answered first.
        token: bearer token every request except ``/health`` must carry; empty means none.
        queue: the queue to serve; a new one by default.
        started: called with the port once it listens.

    Raises:
        SettingsError: the address may not be served without a token.
        RequirementError: the address cannot be bound.
    """
    async with open_service(host, port, token=token, queue=queue) as bound:
        log.info("legacy queue listening on %s", http_url(host, bound))
        if started is not None:
            started(bound)
        await stop.wait()


@asynccontextmanager
async def open_service(
    host: str = "127.0.0.1", port: int = 0, *, token: str = "", queue: LegacyQueue | None = None
) -> AsyncIterator[int]:
    """A legacy queue service; its value is the port. Arguments and errors as for ``serve``."""
    if not token and not is_loopback(host):
        raise SettingsError("CRUCIBLE_HOST", f"{host!r}: only loopback is served without a token")
    app = build_app(queue or LegacyQueue(), token=token)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = f"port {port} on {host} is taken" if taken else f"cannot listen: {error}"
            raise RequirementError(reason, "choose another with --port" if taken else "") from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def build_app(queue: LegacyQueue, *, token: str = "") -> web.Application:
    """The application over one queue."""
    middlewares: list[Middleware] = [problems, _guard(token)] if token else [problems]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[_QUEUE] = queue
    app.add_routes(
        [
            web.post("/tasks", _submit),
            web.get("/tasks", _list, allow_head=False),
            # GET though it takes: the original's workers poll it. No HEAD, it would take as well.
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
    return _json(task.view(), status=201 if fresh else 200)


async def _list(request: web.Request) -> web.Response:
    try:
        status = TaskState(asked) if (asked := request.query.get("status")) else None
    except ValueError:
        known = ", ".join(TaskState)
        raise InputError("status", f"must be one of {known}") from None
    limit = request.query.get("limit", "100")
    # Thousands of digits are too many for ``int``.
    plain = limit.isascii() and limit.isdigit() and len(limit) <= len(str(MAX_LISTED))
    if not plain or not 1 <= int(limit) <= MAX_LISTED:
        raise InputError("limit", f"must be a whole number from 1 to {MAX_LISTED}")
    found = request.app[_QUEUE].tasks(status, int(limit))
    return _json(TaskList(tasks=[task.view() for task in found]))


async def _find(request: web.Request) -> web.Response:
    wanted = await _body(request, Wanted)
    found = request.app[_QUEUE].find(wanted.ids)
    return _json(TaskList(tasks=[task.view() for task in found]))


async def _next(request: web.Request) -> web.Response:
    worker = request.query.get("worker", "")
    if len(worker) > 200:
        raise InputError("worker", "at most 200 characters")
    task = request.app[_QUEUE].take(worker, _circuits_of(request))
    if task is None or task.program is None:
        return web.Response(status=204)
    return _json(TakenTask(id=task.id, program=task.program))


def _circuits_of(request: web.Request) -> dict[str, Circuit]:
    """What the worker tells of its circuit breakers; those of the original told nothing."""
    text = request.query.get("circuits", "{}")
    try:
        return msgspec.json.decode(text, type=Circuits)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InputError("circuits", str(error)) from None


async def _finish(request: web.Request) -> web.Response:
    outcome = await _body(request, Outcome)
    return _json(request.app[_QUEUE].finish(request.match_info["id"], outcome).view())


async def _change(request: web.Request) -> web.Response:
    change = await _body(request, StatusChange)
    queue, task_id = request.app[_QUEUE], request.match_info["id"]
    if change.status == "running":
        return _json(queue.confirm_running(task_id).view())
    return _json(queue.fail(task_id, change.message).view())


async def _view(request: web.Request) -> web.Response:
    return _json(request.app[_QUEUE].get(request.match_info["id"]).view())


async def _result(request: web.Request) -> web.Response:
    task = request.app[_QUEUE].get(request.match_info["id"])
    return _json(task.result(), status=200 if task.status in ENDED_STATES else 202)


async def _cancel(request: web.Request) -> web.Response:
    return _json(request.app[_QUEUE].cancel(request.match_info["id"]).view())


async def _stats(request: web.Request) -> web.Response:
    return _json(request.app[_QUEUE].stats())


async def _health(_: web.Request) -> web.Response:
    return _json({"status": "ok"})


async def _drain(request: web.Request) -> web.Response:
    drain = await _body(request, Drain)
    request.app[_QUEUE].draining = drain.draining
    return _json(drain)


async def _body(request: web.Request, kind: type[T]) -> T:
    """The request's body as ``kind``.

    Raises:
        InputError: naming the field, or none where the body is not JSON at all.
    """
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.ValidationError as error:
        text = str(error)
        found = _PATH.search(text)
        detail = _PATH.sub("", text)
        path = [found[1]] if found and found[1] else []
        named = _NAMED.search(detail)
        raise InputError(".".join(path + ([named[1]] if named else [])), detail) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("", f"the body is not valid JSON: {error}") from None


def _json(value: object, status: int = 200) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, status=status, content_type="application/json")


def _guard(token: str) -> Middleware:
    wanted = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody in without the token, except to ask whether the service is alive."""
        # Bytes that are no UTF-8 were read as surrogates: a wrong token like any other.
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if request.path != "/health" and not hmac.compare_digest(given, wanted):
            return unauthorized()
        return await handler(request)

    return guard
