"""A bare aiohttp handler: JSON in, JSON of the same size as Crucible's out, nothing stored."""

from __future__ import annotations

from typing import Any

from aiohttp import web

EVAL_ID = "00000000-0000-4000-8000-000000000000"
_runner: web.AppRunner | None = None


async def handle(request: web.Request) -> web.Response:
    """The least that a JSON handler does."""
    asked = await request.json()
    answer = {
        "eval_id": EVAL_ID,
        "task_id": f"eval-{EVAL_ID}",
        "status": "queued",
        "queue": "evaluation",
        "queue_system": "celery",
        "href": f"/api/eval/{EVAL_ID}",
        "language": asked["language"],
    }
    return web.json_response(answer, status=202)


async def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start the server, without an access log like ``crucible api``."""
    global _runner
    app = web.Application()
    app.router.add_post("/api/eval", handle)
    _runner = web.AppRunner(app, access_log=None)
    await _runner.setup()
    await web.TCPSite(_runner, "127.0.0.1", 0, backlog=1024).start()
    return {"port": _runner.addresses[0][1]}


def run(job: dict[str, Any]) -> None:
    """Nothing to do: a load generator sends the requests."""


async def teardown(job: dict[str, Any]) -> None:
    """Stop listening."""
    if _runner is not None:
        await _runner.cleanup()
