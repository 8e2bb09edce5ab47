"""The batch in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.batch import MAX_ITEMS, NDJSON_TYPES
from crucible.api.batch_answers import BatchAccepted, ItemAccepted, ItemRejected
from crucible.api.openapi_forms import Responses, Schemas, content, response, some
from crucible.evaluation.batch_item import BatchItem

NDJSON = "application/x-ndjson"


def batch_paths(
    of: Schemas, errors: Responses, wait: dict[str, Any], key: dict[str, Any]
) -> dict[str, Any]:
    """The path of the batch.

    Args:
        of: references to schemas.
        errors: the error responses.
        wait: the parameter ``wait``.
        key: the parameter ``Idempotency-Key``.
    """
    lines = {"type": "string", "description": "A JSON object a line."}
    # An item that is wrong is an outcome, so the body may have anything for one.
    array = {"type": "array", "maxItems": MAX_ITEMS, "items": {}}
    one = "Each item is a `BatchItem`; one that is not is rejected alone."
    body = {
        "description": f"{one} To {MAX_ITEMS} items and 64 MiB.",
        "required": True,
        "content": content(array) | {kind: {"schema": lines} for kind in sorted(NDJSON_TYPES)},
    }
    ended = "With `wait`: every item with its `index`, evaluations in the order they end."
    return {
        "/api/eval/batch": {
            "post": {
                "summary": "Queue many programs",
                "parameters": [wait, key],
                "requestBody": body,
                "responses": {
                    "202": response("What became of each, in order.", of[BatchAccepted]),
                    "200": response(ended, lines, NDJSON),
                    **some(errors, "400", "413", "415", "422", "429", "503"),
                },
            }
        }
    }


def narrow_batch(components: dict[str, dict[str, Any]]) -> None:
    """What the types cannot say: an item of an answer is one of two."""
    names = ItemAccepted.__name__, ItemRejected.__name__
    items = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
    components[BatchAccepted.__name__]["properties"]["items"]["items"] = items


TYPES = (BatchItem, ItemAccepted, ItemRejected, BatchAccepted)
