"""Large outputs in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.openapi_forms import Responses, some


def output_paths(errors: Responses, eval_id: dict[str, Any]) -> dict[str, Any]:
    """The path of a large output.

    Args:
        errors: the error responses.
        eval_id: the parameter.
    """
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "/api/eval/{eval_id}/output/{name}": {
            "get": {
                "summary": "The whole of a large output, as the program wrote it",
                "description": "Its path is `output_href` or `error_href` of the evaluation. "
                "Compressed with zstd for clients that accept it.",
                "parameters": [eval_id, name],
                "responses": {
                    "200": {"description": "The bytes.", "content": octets},
                    **some(errors, "404", "503"),
                },
            }
        }
    }
