"""Every route while the queue server answers and does not serve: that is no fault of ours."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from support.api_rig import ended, running_api
from support.keyed import make_key
from support.server_states import State, provoked, stage

from benchmarks.fake_worker import fake_worker
from crucible.api.routes import ROUTES
from crucible.broker.wire.encode import encode_task
from crucible.compat.facades import FACADES
from crucible.history.database import open_database
from crucible.history.migrate import migrate
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import aiohttp
    from support.server_states import Stage

pytestmark = pytest.mark.timeout(400)

#: A cluster is refused at the start.
STATES = [state for state in State if state is not State.CROSSSLOT]
#: Requests at a time.
AT_ONCE = 8
PROGRAM = {"code": "print(1)"}
CASES = {"name": "n", "cases": [{"id": "one", **PROGRAM}]}
MORE = {"at": 1, "cases": [{"id": "two", **PROGRAM}]}
#: What is posted to each path.
BODIES: dict[str, Any] = {
    "/api/eval": PROGRAM,
    "/api/eval/batch": [PROGRAM, PROGRAM],
    "/api/v1/keys": {"name": "n", "tenant": "t", "scopes": ["read"]},
    "/api/v1/webhooks": {"url": "https://1.1.1.1/", "events": ["evaluation.completed"]},
    "/api/v1/sessions": {},
    "/api/v1/sessions/{session_id}/execute": PROGRAM,
    "/api/v1/workflows": {"chain": [{"id": "one", **PROGRAM}, {"id": "two", **PROGRAM}]},
    "/api/v1/migration": {"celery_percentage": 1.0, "reason": "a test"},
    **{f"{prefix}/assessments": CASES for prefix in ("", "/api/v1")},
    **{f"{prefix}/assessments/{{assessment_id}}/cases": MORE for prefix in ("", "/api/v1")},
    "/run_code": {**PROGRAM, "language": "python"},
    "/run_jupyter": {"cells": ["1"], "kernel": "python3"},
    "/api/v2/execute": {"language": "python", "version": "*", "files": [{"content": "1"}]},
    "/v1/sandbox/run": {**PROGRAM, "language": "python3"},
    "/execute": {"generated_code": "1", "language": "python", "timeout": 1},
    "/submissions": {"source_code": "1", "language_id": 71},
    "/submissions/batch": {"submissions": [{"source_code": "1", "language_id": 71}]},
}
#: What is refused at rest: ids of what the test does not make, and what has not come to its end.
REFUSED = {
    ("GET", "/api/eval/{eval_id}/output/{name}"): 404,
    ("GET", "/api/eval/{eval_id}/request"): 410,
    ("POST", "/api/eval/{eval_id}/retry"): 410,
    ("POST", "/api/v1/webhooks/deliveries/{delivery_id}/replay"): 404,
    ("GET", "/assessments/{assessment_id}/report"): 409,
    ("GET", "/api/v1/assessments/{assessment_id}/report"): 409,
    # It was started by the path before.
    ("POST", "/api/v1/assessments/{assessment_id}/cases"): 409,
    ("GET", "/submissions/batch"): 400,
    ("GET", "/submissions"): 403,
}


class Asked(NamedTuple):
    """A request and its answer."""

    method: str
    path: str
    status: int
    text: str


class Service:
    """An api, with one of everything that a path may name.

    Args:
        client: of it.
        headers: with a key that may do everything.
    """

    def __init__(self, client: aiohttp.ClientSession, headers: dict[str, str]) -> None:
        self.client = client
        self.ids = {"queue": "evaluation", "letter_id": "1-1", "delivery_id": "1-1"}
        self.ids |= {"name": "stdout", "id": "71"}
        self._headers = headers

    async def ask(self, method: str, path: str, body: Any = None) -> Asked:
        """A path as in the table of routes; of a stream of events the head alone is read."""
        full = re.sub(r"\{(\w+)\}", lambda named: self.ids[named[1]], path)
        async with self.client.request(method, full, json=body, headers=self._headers) as answer:
            stream = answer.content_type == "text/event-stream"
            text = "" if stream else await answer.text()
            return Asked(method, path, answer.status, text)

    async def make(self, path: str, named: str, field: str = "id", **more: Any) -> None:
        """Make one of something, and remember its id."""
        made = await self.ask("POST", path, {**BODIES[path], **more})
        assert made.status in (201, 202), made
        self.ids[named] = json.loads(made.text)[field]

    async def ask_all(
        self, at_once: int, wanted: Callable[[str, str], bool] = lambda method, path: True
    ) -> list[Asked]:
        """Every route, some at a time."""
        free = asyncio.Semaphore(at_once)

        async def one(method: str, path: str) -> Asked:
            body = BODIES.get(path) if method in ("POST", "PUT") else None
            async with free:
                return await self.ask(method, path, body)

        return list(
            await asyncio.gather(*(one(*route) for route in all_routes() if wanted(*route)))
        )


def all_routes() -> list[tuple[str, str]]:
    """Method and path of each; WebSockets have tests of their own."""
    own = [(route.method, route.path) for route in ROUTES]
    facades = [
        (route.method, route.path)
        for facade in FACADES.values()
        for route in facade.routes
        if not route.path.endswith("/connect")
    ]
    return [*own, *facades]


@asynccontextmanager
async def service(on: Stage, directory: Path) -> AsyncIterator[Service]:
    """An api with keys, a history, events, facades, and a worker that runs nothing."""
    history = f"sqlite:///{directory}/history.sqlite"
    async with open_database(history) as engine:
        await migrate(engine)
    key = await make_key(on.server.url, "t", "submit", "read", "admin")
    raw = encode_task("other", [], task_id="other", queue="celery")
    letter: Any = {"task_id": "other", "queue": "celery", "reason": "test", "raw": raw}
    await on.admin.xadd(Keys().dlq, letter, id="1-1")
    async with (
        running_api(on.url, history_url=history, publish_deadline_s=1.9) as client,
        fake_worker(on.url),
    ):
        found = Service(client, key.headers)
        client.headers.update(key.headers)
        found.ids["eval_id"] = found.ids["token"] = (await ended(client, PROGRAM))["eval_id"]
        found.ids["task_id"] = f"eval-{found.ids['eval_id']}"
        await found.make("/assessments", "assessment_id", "assessment_id", draft=True)
        await found.make("/api/v1/workflows", "workflow_id", "workflow_id")
        await found.make("/api/v1/webhooks", "webhook_id")
        await found.make("/api/v1/keys", "key_id")
        await found.make("/api/v1/sessions", "session_id")
        yield found


async def test_at_rest_each_route_does_its_work(tmp_path: Path) -> None:
    """Else an answer in a state would say nothing of that state."""
    async with stage(tmp_path, "embedded", State.OOM) as on, service(on, tmp_path) as asked:
        # What the paths name is still needed, and facades without a body have answers of their own.
        own = {route.path for route in ROUTES}
        answers = await asked.ask_all(
            1, lambda method, path: method != "DELETE" and (path in own or path in BODIES)
        )
    refused = {(one.method, one.path): one for one in answers if one.status >= 400}
    assert {route: one.status for route, one in refused.items()} == REFUSED, refused


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.value)
async def test_each_route_says_that_the_server_is_away(
    state: State, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """503 or its facade's answer, no internal error; and all goes on once the server serves."""
    async with stage(tmp_path, "embedded", state) as on, service(on, tmp_path) as asked:
        caplog.clear()
        async with provoked(on):
            answers = await asked.ask_all(AT_ONCE)
        own = {route.path for route in ROUTES}
        assert not [one for one in answers if one.status == 500]
        assert {one.status for one in answers if one.path in own and one.status > 500} == {503}
        assert not [one.getMessage() for one in caplog.records if one.exc_info]
        assert "unexpected error" not in caplog.text
        told = [one.getMessage() for one in caplog.records if "cannot be sent" in one.getMessage()]
        assert len(told) == 1, told
        assert (await ended(asked.client, PROGRAM))["status"] == "completed"
