"""The description of the API, made from the types it uses."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from aiohttp import web

import crucible
from crucible.api.evaluations import Accepted
from crucible.api.migration import MigrationStatus, MismatchList
from crucible.api.readiness import Report
from crucible.broker.admin.census import Census
from crucible.evaluation.request import EvalRequest
from crucible.migration.state import Change
from crucible.models import Evaluation


class Problem(msgspec.Struct, kw_only=True):
    """An error (RFC 9457).

    Attributes:
        type: always ``about:blank``; the title tells kinds apart.
        title: the kind of problem.
        status: the HTTP status.
        detail: this occurrence, for people.
        field: path of the offending field; ``body`` stands for the whole body.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""


_WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0},
    "description": "Seconds to wait for the end of the evaluation.",
}
_EVAL_ID = {"name": "eval_id", "in": "path", "required": True, "schema": {"type": "string"}}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "The same key again returns the first evaluation instead of a second one.",
}


@cache
def description() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    types = (
        EvalRequest, Evaluation, Accepted, Report, Problem, Census,
        Change, MigrationStatus, MismatchList,
    )  # fmt: skip
    schemas, components = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    request, evaluation, accepted, report, problem, census, *migration = schemas
    errors = {
        status: _response(text, problem, "application/problem+json")
        for status, text in (
            ("400", "The body is not JSON."),
            ("409", "The id was used before with different content."),
            ("413", "The body is too large."),
            ("415", "The body is not sent as JSON."),
            ("422", "A field is wrong; it is named."),
            ("503", "The queue server is away or the queue is full; see Retry-After."),
        )
    }
    missing = {"404": _response("No evaluation has this id.", problem, "application/problem+json")}
    ended = {"200": _response("The evaluation.", evaluation)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crucible", "version": crucible.__version__},
        "paths": {
            "/api/eval": {
                "post": {
                    "summary": "Queue one program",
                    "parameters": [_WAIT, _KEY],
                    "requestBody": {"required": True, "content": _content(request)},
                    "responses": {"202": _response("Queued durably.", accepted), **ended, **errors},
                }
            },
            "/api/eval/{eval_id}": {
                "get": {
                    "summary": "What is known of an evaluation",
                    "parameters": [_EVAL_ID, _WAIT],
                    "responses": {**ended, **missing, "422": errors["422"], "503": errors["503"]},
                },
                "delete": {
                    "summary": "Cancel an evaluation, queued or running",
                    "parameters": [_EVAL_ID],
                    "responses": {
                        "200": _response("It has ended, now or before.", evaluation),
                        "202": _response("Its worker was told and has still to stop.", evaluation),
                        **missing,
                        "503": errors["503"],
                    },
                },
            },
            "/api/languages": {"get": _simple("What programs may be written in")},
            **_operations(census, missing, errors),
            **_migration(migration, errors),
            "/metrics": {"get": _simple("Counters and depths, for Prometheus")},
            "/health": {"get": _simple("Whether the process lives")},
            "/ready": {
                "get": {
                    "summary": "Whether evaluations would be accepted and run",
                    "responses": {
                        "200": _response("They would.", report),
                        "503": _response("They would not; the reason is named.", report),
                    },
                }
            },
        },
        "components": {"schemas": components},
    }


def _operations(
    census: dict[str, Any], missing: dict[str, Any], errors: dict[str, Any]
) -> dict[str, Any]:
    """Paths for operators: queues and dead letters."""
    letter = {"name": "letter_id", "in": "path", "required": True, "schema": {"type": "string"}}
    page = [
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
        {"name": "before", "in": "query", "schema": {"type": "string"}},
    ]
    away = {"503": errors["503"]}
    one = {
        "get": {**_simple("One dead letter"), "parameters": [letter]},
        "delete": {
            "summary": "Delete a dead letter for good",
            "parameters": [letter],
            "responses": {"204": {"description": "Deleted."}, **missing, **away},
        },
    }
    replay = {
        "summary": "Put a dead letter back into its queue",
        "parameters": [letter],
        "responses": {"202": {"description": "Put back."}, **missing, **away},
    }
    return {
        "/api/v1/queues": {
            "get": {
                "summary": "How much waits where",
                "responses": {"200": _response("The census.", census), **away},
            }
        },
        "/api/v1/dlq": {"get": {**_simple("The newest dead letters"), "parameters": page}},
        "/api/v1/dlq/{letter_id}": one,
        "/api/v1/dlq/{letter_id}/replay": {"post": replay},
    }


def _migration(types: list[dict[str, Any]], errors: dict[str, Any]) -> dict[str, Any]:
    """Paths for operators: the way off the legacy queue."""
    change, status, mismatches = types
    answer = {"200": _response("Where it stands.", status)}
    limit = {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}}
    return {
        "/api/v1/migration": {
            "get": {"summary": "Where the migration stands", "responses": answer},
            "put": {
                "summary": "Set switches; in force in every process within a second",
                "requestBody": {"required": True, "content": _content(change)},
                "responses": {**answer, **{code: errors[code] for code in ("409", "422", "503")}},
            },
        },
        "/api/v1/migration/mismatches": {
            "get": {
                "summary": "What ended differently on both sides",
                "parameters": [limit],
                "responses": {
                    "200": _response("The newest first.", mismatches),
                    "422": errors["422"],
                    "503": errors["503"],
                },
            }
        },
    }


def _content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {kind: {"schema": schema}}


def _response(text: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": text, "content": _content(schema, kind)}


def _simple(summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": summary}}}


async def document(request: web.Request) -> web.Response:
    """``GET /openapi.json``."""
    return web.Response(body=msgspec.json.encode(description()), content_type="application/json")


async def page(request: web.Request) -> web.Response:
    """``GET /docs``: the same for people, without scripts from elsewhere."""
    rows = "".join(
        f"<tr><td><code>{method.upper()}</code></td><td><code>{path}</code></td>"
        f"<td>{operation['summary']}</td></tr>"
        for path, operations in description()["paths"].items()
        for method, operation in operations.items()
    )
    return web.Response(text=_PAGE.format(rows=rows), content_type="text/html")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Crucible API</title>
<style>body{{font:16px/1.5 system-ui;max-width:50rem;margin:3rem auto;padding:0 1rem}}
td{{padding:.3rem 1rem .3rem 0;vertical-align:top}}code{{font-size:.95em}}</style></head>
<body><h1>Crucible API</h1><table>{rows}</table>
<p>The whole description, with every field: <a href="/openapi.json">/openapi.json</a></p>
</body></html>
"""
