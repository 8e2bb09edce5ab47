"""The description of the API, made from the types it uses."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from aiohttp import web

import crucible
from crucible.api import dead_letters, history, migration
from crucible.api.app_keys import SETTINGS
from crucible.api.dead_letters import LetterPage, LetterShown, Replayed
from crucible.api.environments import EnvironmentShown, LanguageShown
from crucible.api.evaluations import Accepted
from crucible.api.event_frames import CONTENT_TYPE, EventShown, Resync
from crucible.api.history import EvaluationPage, Stats
from crucible.api.migration import MigrationStatus, MismatchList
from crucible.api.schemas import LETTER_ID, Problem, schemas
from crucible.broker.admin.census import Census
from crucible.evaluation.readiness import Report
from crucible.evaluation.request import EvalRequest
from crucible.migration.state import Change
from crucible.models import Evaluation, Status
from crucible.settings import Settings

_Schemas = dict[Any, dict[str, Any]]
_Responses = dict[str, dict[str, Any]]
_ERRORS = {
    "400": "The body cannot be decoded, or is not JSON.",
    "403": "A browser sent it for a page of another origin.",
    "404": "Nothing has this id.",
    "408": "It arrived too slowly.",
    "409": "The present state forbids it: an id used before with different content, for one.",
    "413": "The body is too large.",
    "415": "The Content-Type is not JSON, or the content coding is not supported.",
    "421": "The Host is no name of this service.",
    "422": "A field or a parameter is invalid; it is named.",
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
def description(settings: Settings = Settings()) -> dict[str, Any]:  # noqa: B008 - immutable
    """The OpenAPI 3.1 document of an installation."""
    of, components = schemas(settings)
    errors = {
        status: _response(text, of[Problem], "application/problem+json")
        for status, text in _ERRORS.items()
    }
    paths = {
        **_evaluations(of, errors),
        **_events(of, errors),
        **_operations(of, errors),
        **_migration(of, errors),
        "/metrics": {"get": _simple("Counters and depths, for Prometheus")},
        "/health": {"get": _simple("Whether the process lives")},
        "/ready": {
            "get": {
                "summary": "Whether evaluations would be accepted and run",
                "responses": {
                    "200": _response(
                        "They would; `degraded` where no worker is there yet.", of[Report]
                    ),
                    "503": _response(
                        "They would not; the failing dependency is named.", of[Report]
                    ),
                },
            }
        },
    }
    for operations in paths.values():
        for operation in operations.values():
            # Refused before any route is looked at, or by every one of them.
            operation["responses"] |= _some(errors, "403", "408", "421", "422")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crucible", "version": crucible.__version__},
        "paths": paths,
        "components": {"schemas": components},
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
            },
            "get": {
                "summary": "Evaluations of the history, newest first",
                "description": "`metadata.KEY=VALUE` selects by a field of the metadata.",
                "parameters": _list_parameters(),
                "responses": {
                    "200": _response("A page of them.", of[EvaluationPage]),
                    **_some(errors, "422", "503"),
                },
            },
        },
        "/api/v1/stats": {
            "get": {
                "summary": "Counts by status, verdict and bucket of time",
                "parameters": [
                    *(_text(name) for name in ("tenant", "since", "until")),
                    {
                        "name": "bucket",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 60, "maximum": 31_536_000},
                    },
                ],
                "responses": {
                    "200": _response("The counts.", of[Stats]),
                    **_some(errors, "422", "503"),
                },
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


def _list_parameters() -> list[dict[str, Any]]:
    names = sorted(history.FILTERS | {"cursor"})
    return [*map(_text, names), _limit(history.LARGEST_PAGE)]


def _text(name: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "string", "minLength": 1}}


def _events(of: _Schemas, errors: _Responses) -> dict[str, Any]:
    """Paths of server-sent events. Their schema describes the data of one event."""
    data = {"oneOf": [of[EventShown], of[Resync]]}
    resume = {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "string", "pattern": "^([0-9]{1,19}-[0-9]{1,19})?$"},
        "description": "Goes on behind this event; an event `resync` says where that is "
        "impossible.",
    }
    statuses = "|".join(status.value for status in Status)
    status = {
        "name": "status",
        "in": "query",
        "schema": {"type": "string", "pattern": f"^({statuses})(,({statuses}))*$"},
        "description": "Only events with one of these, separated by commas.",
    }
    text = "Events `evaluation` and `resync`, as they happen; a comment every 15 s without any."
    stream = {"200": _response(text, data, CONTENT_TYPE)}
    seen = {"204": {"description": "The client has seen the end, and need not ask again."}}
    return {
        "/api/eval/{eval_id}/events": {
            "get": {
                "summary": "Follow an evaluation up to its end",
                "parameters": [_EVAL_ID, resume],
                "responses": {**stream, **seen, **_some(errors, "404", "422", "503")},
            }
        },
        "/api/events": {
            "get": {
                "summary": "Follow all evaluations",
                "parameters": [status, resume],
                "responses": {**stream, **_some(errors, "422", "503")},
            }
        },
    }


def _operations(of: _Schemas, errors: _Responses) -> dict[str, Any]:
    """Paths for operators: queues and dead letters."""
    letter = {"name": "letter_id", "in": "path", "required": True, "schema": {"type": "string"}}
    before = {
        "name": "before",
        "in": "query",
        "schema": {"anyOf": [LETTER_ID, {"const": ""}]},
        "description": "Those older than this one; `before` of the page before.",
    }
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
    described = description(request.app[SETTINGS])
    return web.Response(body=msgspec.json.encode(described), content_type="application/json")
