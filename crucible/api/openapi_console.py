"""What the console asks for, in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.openapi_forms import Responses, Schemas, parameter, response, some
from crucible.api.principal import Me
from crucible.api.queues import Purged
from crucible.api.recent import Recent
from crucible.api.sides import Sides
from crucible.api.workers import WorkerList
from crucible.evaluation.request import EvalRequest

TYPES = (Me, Purged, Recent, Sides, WorkerList)


def console_paths(of: Schemas, errors: Responses, eval_id: dict[str, Any]) -> dict[str, Any]:
    """Paths for people who look at an installation.

    Args:
        of: references to schemas.
        errors: the error responses.
        eval_id: the parameter ``eval_id``.
    """
    queue = parameter("queue", {"type": "string"}, "Its name.", where="path")
    away = some(errors, "503")
    gets = {
        "/api/v1/me": ("Who asks, and what there is here", Me),
        "/api/v1/workers": ("The workers, with what they run and measure", WorkerList),
        "/api/v1/queues/recent": ("What waited and completed in the last ten minutes", Recent),
        "/api/v1/migration/sides": ("Completions of both queue systems", Sides),
    }
    return {
        **{
            path: {
                "get": {
                    "summary": summary,
                    "responses": {"200": response(f"{summary}.", of[kind]), **away},
                }
            }
            for path, (summary, kind) in gets.items()
        },
        "/api/eval/{eval_id}/request": {
            "get": {
                "summary": "What an evaluation ran, fit to be submitted again",
                "parameters": [eval_id],
                "responses": {
                    "200": response("The request.", of[EvalRequest]),
                    **some(errors, "404", "409", "410", "503"),
                },
            }
        },
        "/api/v1/queues/{queue}/purge": {
            "post": {
                "summary": "Delete every message that waits in a queue",
                "parameters": [queue],
                "responses": {
                    "200": response("How many.", of[Purged]),
                    **some(errors, "404", "503"),
                },
            }
        },
        "/api/v1/flower": {
            "post": {
                "summary": "Let this browser open Flower's pages: sets a cookie for them alone",
                "responses": {"204": {"description": "It may, until it is closed."}, **away},
            }
        },
    }
