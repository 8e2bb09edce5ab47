"""The OpenAPI document against what the API does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.api_rig import running_api
from support.json_schema import is_instance

from crucible.api.openapi import description
from crucible.api.routes import ROUTES
from crucible.compat.facades import FACADES
from crucible.embedded.server import free_port
from crucible.settings import load_settings


def test_the_description_has_every_route() -> None:
    """No route is left out of the OpenAPI document, and none is made up."""
    described = {
        (method.upper(), path)
        for path, operations in description()["paths"].items()
        for method in operations
    }
    pages = {"/", "/openapi.json", "/docs", "/docs/docs.css", "/docs/docs.js"}
    routes = [route for route in ROUTES if route.path not in pages]
    facades = {(route.method, route.path) for one in FACADES.values() for route in one.routes}
    assert described == {(route.method, route.path) for route in routes} | facades
    for route in routes:
        operation = description()["paths"][route.path][route.method.lower()]
        named = {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"}
        assert named == route.query


def test_facades_are_described_by_their_names() -> None:
    """Each has a tag of its name; one that is not served is not described."""
    paths = description()["paths"]
    tags = {path: next(iter(paths[path].values())).get("tags") for path in paths}
    assert tags["/run_code"] == ["sandbox_fusion"]
    assert tags["/api/eval"] is None
    body = paths["/submissions/batch"]["post"]["requestBody"]["content"]["application/json"]
    name = body["schema"]["$ref"].rsplit("/", 1)[1]
    assert name in description()["components"]["schemas"]
    assert "/run_code" not in description(load_settings({}, flags={"compat": "judge0"}))["paths"]


def test_patterns_are_those_of_json_schema() -> None:
    r"""Python's ``\Z`` is the letter Z to everybody else; what is checked ends at the end."""
    text = json.dumps(description())
    assert '"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$"' in text
    assert 'Z"' not in text


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/eval", "{", 400),
        ("POST", "/api/eval", "{}", 422),
        ("POST", "/api/eval", '{"code":"x","eval_id":"one"}', 202),
        ("POST", "/api/eval", '{"code":"x","eval_id":"known"}', 200),
        ("POST", "/api/eval", '{"code":"y","eval_id":"known"}', 409),
        ("POST", "/api/eval/batch", '[{"code":"x"},{"code":""}]', 202),
        ("POST", "/api/eval/batch?wait=0", '[{"code":"x"}]', 200),
        ("POST", "/api/eval/batch", "{", 400),
        ("GET", "/api/eval/{eval_id}", None, 404),
        ("GET", "/api/eval/{eval_id}?wait=x", None, 422),
        ("DELETE", "/api/eval/{eval_id}", None, 404),
        ("GET", "/api/languages", None, 200),
        ("GET", "/api/environments", None, 200),
        ("GET", "/api/v1/queues", None, 200),
        ("GET", "/api/v1/autoscale", None, 200),
        ("GET", "/api/v1/dlq", None, 200),
        ("GET", "/api/v1/dlq?limit=0", None, 422),
        ("GET", "/api/v1/dlq/{letter_id}", None, 404),
        ("DELETE", "/api/v1/dlq/{letter_id}", None, 404),
        ("POST", "/api/v1/dlq/{letter_id}/replay", None, 404),
        ("GET", "/api/v1/migration", None, 200),
        ("PUT", "/api/v1/migration", "{", 400),
        ("PUT", "/api/v1/migration", '{"celery_percentage":2}', 422),
        ("PUT", "/api/v1/migration", "{}", 422),
        ("PUT", "/api/v1/migration", '{"reason":"x","by":"me"}', 422),
        ("GET", "/api/v1/migration/mismatches", None, 200),
        ("GET", "/api/v1/migration/mismatches?limit=0", None, 422),
        ("GET", "/ready", None, 200),
        ("POST", "/api/eval/{eval_id}/retry", None, 404),
        ("DELETE", "/api/eval?status=queued", None, 200),
        ("DELETE", "/api/eval", None, 422),
        ("GET", "/tasks", None, 200),
        ("GET", "/tasks?cursor=x", None, 422),
        ("GET", "/tasks/{task_id}", None, 200),
        ("GET", "/api/v1/tasks/{task_id}/result", None, 202),
        ("DELETE", "/tasks/{task_id}", None, 200),
        ("GET", "/workers/status", None, 200),
        ("GET", "/api/v1/me", None, 200),
        ("GET", "/api/v1/workers", None, 200),
        ("GET", "/api/v1/queues/recent", None, 200),
        ("POST", "/api/v1/queues/{queue}/purge", None, 200),
        ("GET", "/api/v1/migration/sides", None, 200),
        ("GET", "/api/eval/{eval_id}/request", None, 404),
    ],
)
async def test_every_answer_is_described(
    redis_url: str, method: str, path: str, body: str | None, status: int
) -> None:
    """What a route answers is in the OpenAPI document, with the type of its body."""
    headers = {"Content-Type": "application/json"} if body else {}
    async with running_api(redis_url) as client:
        async with client.post("/api/eval", json={"code": "x", "eval_id": "known"}) as response:
            assert response.status == 202
        concrete = path.format(
            eval_id="nobody", letter_id="1-1", task_id="eval-known", queue="batch"
        )
        async with client.request(method, concrete, data=body, headers=headers) as response:
            assert response.status == status
            kind = response.content_type
    described = description()["paths"][path.partition("?")[0]][method.lower()]["responses"]
    assert list(described[str(status)]["content"]) == [kind]


@pytest.mark.parametrize(
    "path", [path for path in description()["paths"] if path.startswith("/api")]
)
def test_whatever_asks_the_queue_server_may_find_it_away(path: str) -> None:
    """503 is among the answers of all that is not known to the process itself."""
    for operation in description()["paths"][path].values():
        itself = path in ("/api/environments", "/api/languages", "/api/v1/migration")
        assert "503" in operation["responses"] or itself


@pytest.mark.parametrize("legacy", [False, True], ids=["celery", "both"])
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("EvalRequest", {"code": ""}),
        ("EvalRequest", {"code": " \n"}),
        ("EvalRequest", {"code": "x", "language": "cobol"}),
        ("EvalRequest", {"code": "x", "limits": {"memory_mb": 1}}),
        ("EvalRequest", {"code": "x", "limits": {"memory_mb": 2000}}),
        ("EvalRequest", {"code": "x", "limits": {"wall_time_s": 0}}),
        ("EvalRequest", {"code": "x", "language": "py"}),
        ("EvalRequest", {"code": "x", "language": "go"}),
        ("EvalRequest", {"code": "x", "environment": "default"}),
        ("EvalRequest", {"code": "x", "environment": "judge"}),
        ("EvalRequest", {"code": "x", "isolation": "container"}),
        ("EvalRequest", {"code": "x", "isolation": "nested"}),
        ("EvalRequest", {"code": "x", "isolation": None}),
        ("EvalRequest", {"code": "x", "args": ["\0"]}),
        ("EvalRequest", {"code": "x", "args": ["a"] * 1001}),
        ("EvalRequest", {"code": "x", "env": {"1": "a"}}),
        ("EvalRequest", {"code": "x", "output_files": ["a"] * 65}),
        ("EvalRequest", {"code": "x", "files": [{"name": "", "content": ""}]}),
        ("Change", {}),
        ("Change", {"reason": "x"}),
        ("Change", {"dual_write": None}),
        ("Change", {"celery_percentage": 1.0}),
        ("Change", {"celery_percentage": 2}),
        ("Change", {"dual_write": True}),
        ("Change", {"force_legacy_queue": True}),
        ("Change", {"celery_enabled": False}),
        ("Change", {"celery_percentage": 0.5}),
    ],
)
async def test_the_document_is_no_wider_than_the_service(
    redis_url: str, name: str, body: dict[str, Any], legacy: bool
) -> None:
    """What is refused as it stands is no instance of the schema, what is accepted is one."""
    flags: dict[str, Any] = {"isolations": ("container",)}
    if legacy:
        flags["queue_service_url"] = f"http://127.0.0.1:{free_port()}"
    path, method = {
        "EvalRequest": ("/api/eval", "POST"),
        "Change": ("/api/v1/migration", "PUT"),
    }[name]
    async with running_api(redis_url, **flags) as client:
        async with client.get("/openapi.json") as response:
            document = await response.json()
        async with client.request(method, path, json=body) as response:
            refused = response.status == 422
    components = document["components"]["schemas"]
    assert is_instance(body, components[name], components) == (not refused)


@pytest.mark.parametrize("before", ["ì", "x", "0-0", "000-0", "1-", "1-1", "0-1", ""])
async def test_ids_of_pages_are_described(redis_url: str, before: str) -> None:
    """As they are taken."""
    async with running_api(redis_url) as client:
        async with client.get("/api/v1/dlq", params={"before": before}) as response:
            taken = response.status == 200
    parameters = description()["paths"]["/api/v1/dlq"]["get"]["parameters"]
    schema = next(one["schema"] for one in parameters if one["name"] == "before")
    assert is_instance(before, schema, {}) == taken
