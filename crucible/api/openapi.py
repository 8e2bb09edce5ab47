"""The description of the API, made from the types it uses."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from aiohttp import web

import crucible
from crucible.api import dead_letters, migration
from crucible.api.app_keys import SETTINGS
from crucible.api.autoscale import Autoscale
from crucible.api.dead_letters import LetterPage, LetterShown, Replayed
from crucible.api.environments import EnvironmentShown, LanguageShown
from crucible.api.evaluations import Accepted, Forgotten
from crucible.api.facades import facade_paths
from crucible.api.keys import KeyList, Rotation
from crucible.api.migration import MigrationStatus, MismatchList
from crucible.api.openapi_assessments import assessment_paths
from crucible.api.openapi_attempts import cancel_many, retry_paths
from crucible.api.openapi_batch import batch_paths
from crucible.api.openapi_console import console_paths
from crucible.api.openapi_events import event_paths
from crucible.api.openapi_forms import (
    Responses,
    Schemas,
    content,
    flag,
    limit,
    response,
    simple,
    some,
)
from crucible.api.openapi_history import history_list, stats_paths
from crucible.api.openapi_outputs import output_paths
from crucible.api.openapi_sessions import session_paths
from crucible.api.openapi_tasks import task_paths
from crucible.api.openapi_webhooks import webhook_paths
from crucible.api.openapi_workflows import workflow_paths
from crucible.api.schemas import LETTER_ID, Problem, schemas
from crucible.broker.admin.census import Census
from crucible.evaluation.readiness import Report
from crucible.evaluation.request import EvalRequest
from crucible.identity.keys import KeyMade, KeyRequest, KeyShown
from crucible.migration.state import Change
from crucible.models import Evaluation
from crucible.settings import Settings

_ERRORS = {
    "400": "The body cannot be decoded, or is not JSON.",
    "401": "No key came with it, or none that is valid.",
    "403": "The key lacks the scope, or a browser sent it for a page of another origin.",
    "404": "Nothing has this id.",
    "408": "It arrived too slowly.",
    "409": "The present state forbids it: an id used before with different content, for one.",
    "410": "What is asked for is not kept any more.",
    "413": "The body is too large.",
    "415": "The Content-Type is not JSON, or the content coding is not supported.",
    "421": "The Host is no name of this service.",
    "422": "A field or a parameter is invalid; it is named.",
    "429": "The rate of the key or its tenant is used up, or too much of the tenant is in flight; "
    "see Retry-After and RateLimit.",
    "503": "The queue server does not answer, or the queue is full; see Retry-After.",
}
#: Either of them; without any key made, a service on loopback takes none.
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A key, `crk_…`."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key."},
}
#: Answered to whoever asks on loopback, and elsewhere to keys.
_LOOPBACK = frozenset({"/metrics", "/api/v1/autoscale"})
#: Answered without a key.
_OPEN = _LOOPBACK | {"/health", "/ready"}
_WAIT = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "number", "minimum": 0},
    "description": "Seconds to wait for the evaluation to end.",
}
_EVAL_ID = {"name": "eval_id", "in": "path", "required": True, "schema": {"type": "string"}}
_PURGE = flag("purge", "Forget the evaluation: its result, history, events and deliveries.")
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
        status: response(text, of[Problem], "application/problem+json")
        for status, text in _ERRORS.items()
    }
    paths = {
        **_evaluations(of, errors),
        **event_paths(of, errors, _EVAL_ID),
        **batch_paths(of, errors, _WAIT, _KEY),
        **_operations(of, errors),
        **_keys(of, errors),
        **_migration(of, errors),
        **console_paths(of, errors, _EVAL_ID),
        **task_paths(of, errors),
        **webhook_paths(of, errors),
        **assessment_paths(of, errors),
        **workflow_paths(of, errors),
        **session_paths(of, errors),
        "/metrics": {"get": simple("Counters and depths, for Prometheus")},
        "/health": {"get": simple("Whether the process lives")},
        "/ready": {
            "get": {
                "summary": "Whether evaluations would be accepted and run",
                "responses": {
                    "200": response(
                        "They would; `degraded` where no worker is there yet.", of[Report]
                    ),
                    "503": response("They would not; the failing dependency is named.", of[Report]),
                },
            }
        },
    }
    for path, operations in paths.items():
        for operation in operations.values():
            # Refused before any route is looked at, or by every one of them.
            operation["responses"] |= some(errors, "403", "408", "421", "422")
            if path not in _OPEN:
                operation["responses"] |= some(errors, "401", "503")
                operation["security"] = [{name: []} for name in _SECURITY]
            elif path in _LOOPBACK:
                operation["responses"] |= some(errors, "401", "503")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Crucible", "version": crucible.__version__},
        "paths": {**paths, **facade_paths(settings, components)},
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _evaluations(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths for submitters."""
    ended = {"200": response("The evaluation.", of[Evaluation])}
    accepted = {"202": response("Queued durably.", of[Accepted])}
    stopping = {
        "200": response(
            "It has ended, now or before; or is forgotten.",
            {"anyOf": [of[Evaluation], of[Forgotten]]},
        ),
        "202": response("Its worker was asked to stop it and has not yet.", of[Evaluation]),
    }
    refused = some(errors, "400", "409", "413", "415", "422", "429", "503")
    language = {"type": "array", "items": of[LanguageShown]}
    environment = {"type": "array", "items": of[EnvironmentShown]}
    return {
        "/api/eval": {
            "post": {
                "summary": "Queue one program",
                "parameters": [_WAIT, _KEY],
                "requestBody": {"required": True, "content": content(of[EvalRequest])},
                "responses": {**accepted, **ended, **refused},
            },
            "get": history_list(of, errors),
            "delete": cancel_many(of, errors),
        },
        **stats_paths(of, errors),
        **retry_paths(of, errors, _EVAL_ID, _KEY),
        "/api/eval/{eval_id}": {
            "get": {
                "summary": "The evaluation as it is now",
                "parameters": [_EVAL_ID, _WAIT],
                "responses": {**ended, **some(errors, "404", "422", "503")},
            },
            "delete": {
                "summary": "Cancel an evaluation, queued or running; or forget it, whatever it is",
                "parameters": [_EVAL_ID, _PURGE],
                "responses": {**stopping, **some(errors, "404", "409", "422", "503")},
            },
        },
        **output_paths(errors, _EVAL_ID),
        "/api/languages": {
            "get": {
                "summary": "The languages programs may be in",
                "responses": {"200": response("The languages.", language)},
            }
        },
        "/api/environments": {
            "get": {
                "summary": "The environments programs may run in",
                "responses": {"200": response("The environments.", environment)},
            }
        },
    }


def _operations(of: Schemas, errors: Responses) -> dict[str, Any]:
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
            "parameters": [limit(dead_letters.LARGEST_PAGE), before],
            "responses": {
                "200": response("A page of them.", of[LetterPage]),
                **some(errors, "422", "503"),
            },
        }
    }
    one = {
        "get": {
            "summary": "One dead letter",
            "parameters": [letter],
            "responses": {
                "200": response("The letter.", of[LetterShown]),
                **some(errors, "404", "503"),
            },
        },
        "delete": {
            "summary": "Delete a dead letter for good",
            "parameters": [letter],
            "responses": {"204": {"description": "Deleted."}, **some(errors, "404", "503")},
        },
    }
    replay = {
        "summary": "Put a dead letter back into its queue",
        "parameters": [letter],
        "responses": {
            "202": response("Put back.", of[Replayed]),
            **some(errors, "404", "422", "503"),
        },
    }
    return {
        "/api/v1/queues": {
            "get": {
                "summary": "How many messages wait in each queue",
                "responses": {
                    "200": response("The census.", of[Census]),
                    **some(errors, "503"),
                },
            }
        },
        "/api/v1/autoscale": {
            "get": {
                "summary": "How many workers there should be",
                "responses": {
                    "200": response("The decision, and what it was made from.", of[Autoscale]),
                    **some(errors, "503"),
                },
            }
        },
        "/api/v1/dlq": page,
        "/api/v1/dlq/{letter_id}": one,
        "/api/v1/dlq/{letter_id}/replay": {"post": replay},
    }


def _keys(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths for operators: the keys of clients."""
    key_id = {"name": "key_id", "in": "path", "required": True, "schema": {"type": "string"}}
    refused = some(errors, "400", "413", "415", "422", "503")
    return {
        "/api/v1/keys": {
            "get": {
                "summary": "All keys, without their secrets",
                "responses": {"200": response("The newest first.", of[KeyList])},
            },
            "post": {
                "summary": "Make a key",
                "requestBody": {"required": True, "content": content(of[KeyRequest])},
                "responses": {
                    "201": response("The key, with its secret this once.", of[KeyMade]),
                    **refused,
                },
            },
        },
        "/api/v1/keys/{key_id}": {
            "delete": {
                "summary": "Revoke a key; every api process refuses it within a second",
                "parameters": [key_id],
                "responses": {
                    "200": response("The key.", of[KeyShown]),
                    **some(errors, "404", "503"),
                },
            }
        },
        "/api/v1/keys/{key_id}/rotate": {
            "post": {
                "summary": "Give a key a new secret",
                "parameters": [key_id],
                "requestBody": {"required": False, "content": content(of[Rotation])},
                "responses": {
                    "200": response("The key, with its new secret this once.", of[KeyMade]),
                    **some(errors, "404"),
                    **refused,
                },
            }
        },
    }


def _migration(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths for operators: the migration from the legacy queue."""
    answer = {"200": response("Where it stands.", of[MigrationStatus])}
    return {
        "/api/v1/migration": {
            "get": {"summary": "Where the migration stands", "responses": answer},
            "put": {
                "summary": "Set switches; in force in every process within a second",
                "requestBody": {"required": True, "content": content(of[Change])},
                "responses": {
                    **answer,
                    **some(errors, "400", "409", "413", "415", "422", "503"),
                },
            },
        },
        "/api/v1/migration/mismatches": {
            "get": {
                "summary": "Outcomes that differ between the queue systems",
                "parameters": [limit(migration.LARGEST_PAGE)],
                "responses": {
                    "200": response("The newest first.", of[MismatchList]),
                    **some(errors, "422", "503"),
                },
            }
        },
    }


async def document(request: web.Request) -> web.Response:
    """``GET /openapi.json``."""
    described = description(request.app[SETTINGS])
    return web.Response(body=msgspec.json.encode(described), content_type="application/json")
