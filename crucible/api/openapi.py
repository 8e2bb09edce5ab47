"""The description of the API, made from the types it uses."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from aiohttp import web

import crucible
from crucible.api import dead_letters, migration
from crucible.api.dead_letters import LetterPage, LetterShown, Replayed
from crucible.api.environments import EnvironmentShown, LanguageShown
from crucible.api.evaluations import Accepted
from crucible.api.migration import MigrationStatus, MismatchList
from crucible.broker.admin.census import Census
from crucible.evaluation.readiness import Report
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


_TYPES = (
    EvalRequest, Evaluation, Accepted, LanguageShown, EnvironmentShown, Report, Census,
    LetterShown, LetterPage, Replayed, Change, MigrationStatus, MismatchList,
)  # fmt: skip
_Schemas = dict[Any, dict[str, Any]]
_Responses = dict[str, dict[str, Any]]
_ERRORS = {
    "400": "The body cannot be decoded, or is not JSON.",
    "404": "Nothing has this id.",
    "409": "The present state forbids it: an id used before with different content, for one.",
    "413": "The body is too large.",
    "415": "The Content-Type is not JSON, or the content coding is not supported.",
    "422": "A field is invalid; it is named.",
    "503": "The queue server does not answer, or the queue is full; see Retry-After.",
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0},
    "description": "Seconds to wait for the evaluation to end.",
}
_EVAL_ID = {"name": "eval_id", "in": "path", "required": True, "schema": {"type": "string"}}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same key again returns the first evaluation instead of a second one. "
    "Used instead of an eval_id, not together with one.",
}


@cache
def description() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    schemas, components = msgspec.json.schema_components(
        (Problem, *_TYPES), ref_template="#/components/schemas/{name}"
    )
    problem, *rest = schemas
    of = dict(zip(_TYPES, rest, strict=True))
    errors = {
        status: _response(text, problem, "application/problem+json")
        for status, text in _ERRORS.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crucible", "version": crucible.__version__},
        "paths": {
            **_evaluations(of, errors),
            **_operations(of, errors),
            **_migration(of, errors),
            "/metrics": {"get": _simple("Counters and depths, for Prometheus")},
            "/health": {"get": _simple("Whether the process lives")},
            "/ready": {
                "get": {
                    "summary": "Whether evaluations would be accepted and run",
                    "responses": {
                        "200": _response("They would.", of[Report]),
                        "503": _response(
                            "They would not; the failing dependency is named.", of[Report]
                        ),
                    },
                }
            },
        },
        "components": {"schemas": _in_ecma(components)},
    }


def _in_ecma(schema: Any) -> Any:
    r"""A schema with its patterns as JSON Schema spells them: ``\Z`` is a letter there."""
    if isinstance(schema, list):
        return [_in_ecma(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: part.replace(r"\Z", "$")
        if name == "pattern" and isinstance(part, str)
        else _in_ecma(part)
        for name, part in schema.items()
    }


def _evaluations(of: _Schemas, errors: _Responses) -> dict[str, Any]:
    """Paths for submitters."""
    ended = {"200": _response("The evaluation.", of[Evaluation])}
    accepted = {"202": _response("Queued durably.", of[Accepted])}
    stopping = {
        "200": _response("It has ended, now or before.", of[Evaluation]),
        "202": _response("Its worker was asked to stop it and has not yet.", of[Evaluation]),
    }
    refused = _some(errors, "400", "409", "413", "415", "422", "503")
    language = {"type": "array", "items": of[LanguageShown]}
    environment = {"type": "array", "items": of[EnvironmentShown]}
    return {
        "/api/eval": {
            "post": {
                "summary": "Queue one program",
                "parameters": [_WAIT, _KEY],
                "requestBody": {"required": True, "content": _content(of[EvalRequest])},
                "responses": {**accepted, **ended, **refused},
            }
        },
        "/api/eval/{eval_id}": {
            "get": {
                "summary": "The evaluation as it is now",
                "parameters": [_EVAL_ID, _WAIT],
                "responses": {**ended, **_some(errors, "404", "422", "503")},
            },
            "delete": {
                "summary": "Cancel an evaluation, queued or running",
                "parameters": [_EVAL_ID],
                "responses": {**stopping, **_some(errors, "404", "409", "503")},
            },
        },
        "/api/languages": {
            "get": {
                "summary": "The languages programs may be in",
                "responses": {"200": _response("The languages.", language)},
            }
        },
        "/api/environments": {
            "get": {
                "summary": "The environments programs may run in",
                "responses": {"200": _response("The environments.", environment)},
            }
        },
    }


def _operations(of: _Schemas, errors: _Responses) -> dict[str, Any]:
    """Paths for operators: queues and dead letters."""
    letter = {"name": "letter_id", "in": "path", "required": True, "schema": {"type": "string"}}
    before = {"name": "before", "in": "query", "schema": {"type": "string"}}
    page = {
        "get": {
            "summary": "The newest dead letters",
            "parameters": [_limit(dead_letters.LARGEST_PAGE), before],
            "responses": {
                "200": _response("A page of them.", of[LetterPage]),
                **_some(errors, "422", "503"),
            },
        }
    }
    one = {
        "get": {
            "summary": "One dead letter",
            "parameters": [letter],
            "responses": {
                "200": _response("The letter.", of[LetterShown]),
                **_some(errors, "404", "503"),
            },
        },
        "delete": {
            "summary": "Delete a dead letter for good",
            "parameters": [letter],
            "responses": {"204": {"description": "Deleted."}, **_some(errors, "404", "503")},
        },
    }
    replay = {
        "summary": "Put a dead letter back into its queue",
        "parameters": [letter],
        "responses": {
            "202": _response("Put back.", of[Replayed]),
            **_some(errors, "404", "422", "503"),
        },
    }
    return {
        "/api/v1/queues": {
            "get": {
                "summary": "How many messages wait in each queue",
                "responses": {
                    "200": _response("The census.", of[Census]),
                    **_some(errors, "503"),
                },
            }
        },
        "/api/v1/dlq": page,
        "/api/v1/dlq/{letter_id}": one,
        "/api/v1/dlq/{letter_id}/replay": {"post": replay},
    }


def _migration(of: _Schemas, errors: _Responses) -> dict[str, Any]:
    """Paths for operators: the migration from the legacy queue."""
    answer = {"200": _response("Where it stands.", of[MigrationStatus])}
    return {
        "/api/v1/migration": {
            "get": {"summary": "Where the migration stands", "responses": answer},
            "put": {
                "summary": "Set switches; in force in every process within a second",
                "requestBody": {"required": True, "content": _content(of[Change])},
                "responses": {
                    **answer,
                    **_some(errors, "400", "409", "413", "415", "422", "503"),
                },
            },
        },
        "/api/v1/migration/mismatches": {
            "get": {
                "summary": "Outcomes that differ between the queue systems",
                "parameters": [_limit(migration.LARGEST_PAGE)],
                "responses": {
                    "200": _response("The newest first.", of[MismatchList]),
                    **_some(errors, "422", "503"),
                },
            }
        },
    }


def _limit(most: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return {"name": "limit", "in": "query", "schema": schema}


def _some(errors: _Responses, *statuses: str) -> _Responses:
    return {status: errors[status] for status in statuses}


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
    """``GET /docs``: an overview for people, without scripts from other hosts."""
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
<p>The complete description, with every field: <a href="/openapi.json">/openapi.json</a></p>
</body></html>
"""
