"""The history in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.history import FILTERS, LARGEST_PAGE, EvaluationPage, Stats
from crucible.api.openapi_forms import Responses, Schemas, limit, response, some


def history_list(of: Schemas, errors: Responses) -> dict[str, Any]:
    """The operation that lists evaluations.

    Args:
        of: references to schemas.
        errors: the error responses.
    """
    return {
        "summary": "Evaluations of the history, newest first",
        "description": "`metadata.KEY=VALUE` selects by a field of the metadata.",
        "parameters": [*map(text, sorted(FILTERS | {"cursor"})), limit(LARGEST_PAGE)],
        "responses": {
            "200": response("A page of them.", of[EvaluationPage]),
            **some(errors, "422", "503"),
        },
    }


def stats_paths(of: Schemas, errors: Responses) -> dict[str, Any]:
    """The path of the counts; arguments as of ``history_list``."""
    bucket = {"type": "integer", "minimum": 60, "maximum": 31_536_000}
    return {
        "/api/v1/stats": {
            "get": {
                "summary": "Counts by status, verdict and bucket of time",
                "parameters": [
                    *map(text, ("tenant", "since", "until")),
                    {"name": "bucket", "in": "query", "schema": bucket},
                ],
                "responses": {
                    "200": response("The counts.", of[Stats]),
                    **some(errors, "422", "503"),
                },
            }
        }
    }


def text(name: str) -> dict[str, Any]:
    """A parameter that is text."""
    return {"name": name, "in": "query", "schema": {"type": "string", "minLength": 1}}
