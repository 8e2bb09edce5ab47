"""Retries and bulk cancellation in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.attempts import Cancelled, RetryAccepted
from crucible.api.history import FILTERS
from crucible.api.openapi_forms import Responses, Schemas, parameter, response, some
from crucible.api.openapi_history import text
from crucible.models import Evaluation

TYPES = (RetryAccepted, Cancelled)
_CURSOR = parameter("cursor", {"type": "string"}, "`cursor` of the answer before.")


def retry_paths(of: Schemas, errors: Responses, eval_id: Any, key: Any) -> dict[str, Any]:
    """The path of retries; ``eval_id`` and ``key`` are parameters."""
    return {
        "/api/eval/{eval_id}/retry": {
            "post": {
                "summary": "Run an evaluation again, as a new one with the same content",
                "parameters": [eval_id, key],
                "responses": {
                    "202": response("Queued durably.", of[RetryAccepted]),
                    "200": response("Retried under this key before.", of[Evaluation]),
                    **some(errors, "404", "409", "410", "422", "429", "503"),
                },
            }
        }
    }


def cancel_many(of: Schemas, errors: Responses) -> dict[str, Any]:
    """The operation ``DELETE /api/eval``."""
    return {
        "summary": "Cancel the evaluations that match; one filter at least",
        "description": "The filters of the list, and `metadata.KEY=VALUE`. What has ended stays "
        "as it is.",
        "parameters": [*map(text, sorted(FILTERS)), _CURSOR],
        "responses": {
            "200": response("How many, and how to go on.", of[Cancelled]),
            **some(errors, "422", "503"),
        },
    }
