"""The executor behind HTTP: one pool for many processes, such as the children of a stock worker.

======================= ======================================================================
``POST /run``           a ``Program`` in, its ``Outcome`` out; JSON or msgpack, as asked
``POST /compile``       a ``Program`` in, its ``Compilation`` out, the artifact included
``POST /run/compiled``  a ``CompiledProgram`` in, its ``Outcome`` out
``POST /grade``         a ``Grading`` in, a stream of judgements out; msgpack
``POST /sessions``      a ``SessionSpec`` in, a session out (``sessions.served``)
``GET /health``         the process lives
``GET /ready``          programs can run now
``GET /environments``   the environments served, and which are built
``GET /isolations``     what programs can have here
``GET /stats``          what the pools have
======================= ======================================================================

How these fail says whether the program may be sent elsewhere: 503, it did not start; 502, it
was lost after it started; 4xx, it can never run as asked.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import msgspec
from aiohttp import web

from crucible.errors import (
    CrucibleError,
    ExecutorError,
    ExecutorRefused,
    InputError,
    SettingsError,
)
from crucible.executor.artifact import CompiledProgram
from crucible.executor.docker import DockerExecutor
from crucible.executor.grading.served import answer_grading
from crucible.executor.sandbox import ProgramLost
from crucible.executor.sessions.served import OPEN_SESSIONS, answer_cell, answer_session
from crucible.grading.models import Grading
from crucible.http.bearer import bearer_guard
from crucible.http.body import read_body
from crucible.http.guard import GUARD, service_guard
from crucible.http.hosts import HostPolicy, host_guard
from crucible.http.listening import listen, listen_unix
from crucible.http.problems import (
    internal_error,
    of_input,
    problem,
    problem_middleware,
    unavailable,
)
from crucible.http.protocol import GuardedRunner
from crucible.http.traced import traced
from crucible.models import Program
from crucible.settings import http_url, is_loopback

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection

    from crucible.executor.config import ExecutorConfig
    from crucible.executor.hooks import ExecutorHooks
    from crucible.models import Outcome
    from crucible.tracing import Tracing

log = logging.getLogger(__name__)

MSGPACK = "application/msgpack"
JSON = "application/json"
#: A program with its standard input and files, base64 included, and what was compiled of it.
MAX_BODY_BYTES = 96 << 20
#: Seconds that running programs have once the service is asked to stop; their own limits end most
#: of them sooner.
DRAIN_S = 30.0
#: Seconds a client is asked to wait while no program can be run.
RETRY_AFTER_S = 1

EXECUTOR: web.AppKey[DockerExecutor] = web.AppKey("executor", DockerExecutor)
_TO_MSGPACK = msgspec.msgpack.Encoder()
_TO_JSON = msgspec.json.Encoder()

T = TypeVar("T")


async def run(request: web.Request) -> web.Response:
    """Run one program, compiled before where its language needs it."""
    return await _serve(request, Program, request.app[EXECUTOR].run)


async def compile_program(request: web.Request) -> web.Response:
    """Compile one program."""
    return await _serve(request, Program, request.app[EXECUTOR].compile)


async def run_compiled(request: web.Request) -> web.Response:
    """Run one program with what was compiled of it."""

    async def work(asked: CompiledProgram) -> Outcome:
        return await request.app[EXECUTOR].run(asked.program, asked.artifact)

    return await _serve(request, CompiledProgram, work)


async def _serve(
    request: web.Request, kind: type[T], work: Callable[[T], Awaitable[object]]
) -> web.Response:
    """Do what is asked with a body of some kind. A client that hangs up cancels it."""
    packed = request.content_type == MSGPACK
    body = await read_body(request)
    try:
        asked = (msgspec.msgpack if packed else msgspec.json).decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return problem(400, "Not a program", f"not a program: {error}")
    try:
        answer = await work(asked)
    except ExecutorError as error:
        return _not_run(error)
    if packed:
        return web.Response(body=_TO_MSGPACK.encode(answer), content_type=MSGPACK)
    return web.Response(body=_TO_JSON.encode(answer), content_type=JSON)


async def grade(request: web.Request) -> web.StreamResponse:
    """Grade one program. A client that hangs up cancels it."""
    body = await read_body(request)
    try:
        grading = msgspec.msgpack.decode(body, type=Grading)
    except msgspec.DecodeError as error:
        return problem(400, "Not a grading", f"not a grading: {error}")
    try:
        return await answer_grading(request, request.app[EXECUTOR], grading)
    except ExecutorError as error:
        return _not_run(error)


async def open_session(request: web.Request) -> web.StreamResponse:
    """Open a session. A client that hangs up ends it."""
    try:
        return await answer_session(request, request.app[EXECUTOR])
    except ExecutorError as error:
        return _not_run(error)


def _not_run(error: ExecutorError) -> web.Response:
    if isinstance(error, ProgramLost):
        return problem(502, "Program lost", str(error))
    if isinstance(error, ExecutorRefused):
        return problem(422, "Program refused", str(error))
    return unavailable(str(error), RETRY_AFTER_S)


async def health(_: web.Request) -> web.Response:
    """Say that the process lives."""
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Say whether programs can run now."""
    try:
        await request.app[EXECUTOR].check()
    except ExecutorError as error:
        return unavailable(str(error), RETRY_AFTER_S)
    return web.json_response({"status": "ready"})


async def environments(request: web.Request) -> web.Response:
    """The environments served, and which are built."""
    try:
        states = await request.app[EXECUTOR].environments()
    except ExecutorError as error:
        return unavailable(str(error), RETRY_AFTER_S)
    return web.Response(body=_TO_JSON.encode(states), content_type=JSON)


async def isolations(request: web.Request) -> web.Response:
    """What programs can have here."""
    try:
        able = await request.app[EXECUTOR].isolations()
    except ExecutorError as error:
        return unavailable(str(error), RETRY_AFTER_S)
    return web.Response(body=_TO_JSON.encode(able), content_type=JSON)


async def stats(request: web.Request) -> web.Response:
    """What the pools hold."""
    return web.json_response(request.app[EXECUTOR].stats())


def _translate(error: CrucibleError) -> web.Response:
    if isinstance(error, InputError):
        return of_input(error, 400, "Not a program")
    log.error("unexpected error: %r", error)
    return internal_error()


def make_app(
    executor: DockerExecutor,
    token: str | None = None,
    hosts: HostPolicy | None = None,
    tracing: Tracing | None = None,
) -> web.Application:
    """The application around an open executor.

    Args:
        executor: runs the programs.
        token: bearer token of its clients; None means none.
        hosts: names it is reached under without a token; None on a Unix socket, which no browser
            opens.
        tracing: continues the traces of its clients.
    """
    traces = [] if tracing is None else [traced(tracing)]
    guards = [bearer_guard(token)] if token else [host_guard(hosts)] if hosts else []
    app = web.Application(
        client_max_size=MAX_BODY_BYTES,
        middlewares=[*traces, problem_middleware(_translate), *guards],
    )
    app[OPEN_SESSIONS] = {}
    app[EXECUTOR], app[GUARD] = executor, service_guard(MAX_BODY_BYTES)
    app.add_routes(
        [
            web.post("/run", run),
            web.post("/compile", compile_program),
            web.post("/run/compiled", run_compiled),
            web.post("/grade", grade),
            web.post("/sessions", open_session),
            web.post("/sessions/{session_id}/execute", answer_cell),
            web.get("/health", health),
            web.get("/ready", ready),
            web.get("/environments", environments),
            web.get("/isolations", isolations),
            web.get("/stats", stats),
        ]
    )
    return app


@asynccontextmanager
async def open_service(
    config: ExecutorConfig,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    unix_socket: str | None = None,
    token: str | None = None,
    hooks: ExecutorHooks | None = None,
    allowed_hosts: Collection[str] = (),
    tracing: Tracing | None = None,
) -> AsyncIterator[str]:
    """Serve an executor; the value is the URL it answers at.

    Raises:
        SettingsError: a token is needed and there is none.
        RequirementError: the address cannot be bound.
    """
    if not token and unix_socket is None and not is_loopback(host):
        raise SettingsError("CRUCIBLE_EXECUTOR_TOKEN", f"is required to listen on {host}")
    async with AsyncExitStack() as stack:
        executor = await stack.enter_async_context(DockerExecutor.open(config, hooks))
        hosts = HostPolicy(host, allowed_hosts) if unix_socket is None else None
        runner = GuardedRunner(
            make_app(executor, token, hosts, tracing),
            access_log=None,
            handler_cancellation=True,
            shutdown_timeout=DRAIN_S,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        if unix_socket is not None:
            await listen_unix(runner, unix_socket)
            yield f"unix://{unix_socket}"
        else:
            yield http_url(host, await listen(runner, host, port))


async def serve(
    config: ExecutorConfig,
    host: str,
    port: int,
    unix_socket: str | None,
    token: str | None,
    stop: asyncio.Event,
    *,
    allowed_hosts: Collection[str] = (),
    listening: Callable[[str], None] | None = None,
    hooks: ExecutorHooks | None = None,
    tracing: Tracing | None = None,
) -> None:
    """Serve until ``stop`` is set, then let running programs end.

    Args:
        config: the executor's.
        host: address to listen on; anything but loopback needs a token.
        port: 0 takes a free one.
        unix_socket: a path to listen on instead.
        token: bearer token that requests must carry.
        stop: set to end.
        allowed_hosts: further names it is reached under without a token.
        listening: called with the URL once requests are answered.
        hooks: notified of what the executor does.
        tracing: continues the traces of clients.

    Raises:
        SettingsError: a token is needed and there is none.
        RequirementError: the address cannot be bound.
    """
    async with open_service(
        config,
        host=host,
        port=port,
        unix_socket=unix_socket,
        token=token,
        hooks=hooks,
        allowed_hosts=allowed_hosts,
        tracing=tracing,
    ) as url:
        if listening is not None:
            listening(url)
        await stop.wait()
