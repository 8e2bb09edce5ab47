"""The OpenAPI document against what the API does."""

from __future__ import annotations

import json

import pytest
from support.api_rig import running_api

from crucible.api.app import ROUTES
from crucible.api.openapi import description


def test_the_description_has_every_route() -> None:
    """No route is left out of the OpenAPI document, and none is made up."""
    described = {
        (method.upper(), path)
        for path, operations in description()["paths"].items()
        for method in operations
    }
    itself = {("GET", "/openapi.json"), ("GET", "/docs")}
    assert described == {(route.method, route.path) for route in ROUTES} - itself


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
        ("GET", "/api/eval/{eval_id}", None, 404),
        ("GET", "/api/eval/{eval_id}?wait=x", None, 422),
        ("DELETE", "/api/eval/{eval_id}", None, 404),
        ("GET", "/api/languages", None, 200),
        ("GET", "/api/environments", None, 200),
        ("GET", "/api/v1/queues", None, 200),
        ("GET", "/api/v1/dlq", None, 200),
        ("GET", "/api/v1/dlq?limit=0", None, 422),
        ("GET", "/api/v1/dlq/{letter_id}", None, 404),
        ("DELETE", "/api/v1/dlq/{letter_id}", None, 404),
        ("POST", "/api/v1/dlq/{letter_id}/replay", None, 404),
        ("GET", "/api/v1/migration", None, 200),
        ("PUT", "/api/v1/migration", "{", 400),
        ("PUT", "/api/v1/migration", '{"celery_percentage":2}', 422),
        ("GET", "/api/v1/migration/mismatches", None, 200),
        ("GET", "/api/v1/migration/mismatches?limit=0", None, 422),
        ("GET", "/ready", None, 200),
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
        concrete = path.format(eval_id="nobody", letter_id="1-1")
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
