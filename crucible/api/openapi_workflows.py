"""Workflows in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.openapi_forms import Responses, Schemas, content, parameter, response, some
from crucible.workflows.request import MAX_STEPS, StepRequest, WorkflowRequest
from crucible.workflows.view import StepShown, WorkflowShown

TYPES = (WorkflowRequest, StepRequest, WorkflowShown, StepShown)
_ROOT = "/api/v1/workflows"


def workflow_paths(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths of workflows.

    Args:
        of: references to schemas.
        errors: the error responses.
    """
    shown = of[WorkflowShown]
    one = parameter("workflow_id", {"type": "string"}, "Its id.", where="path")
    refused = some(errors, "400", "409", "413", "415", "422", "503")
    return {
        _ROOT: {
            "post": {
                "summary": "Queue a chain, a group, a chord, or steps in any order",
                "requestBody": {"required": True, "content": content(of[WorkflowRequest])},
                "responses": {
                    "202": response("Queued durably.", shown),
                    "200": response("The same was queued before.", shown),
                    **refused,
                },
            }
        },
        f"{_ROOT}/{{workflow_id}}": {
            "get": {
                "summary": "A workflow, with results by step",
                "parameters": [one],
                "responses": {
                    "200": response("The workflow.", shown),
                    **some(errors, "404", "503"),
                },
            },
            "delete": {
                "summary": "Cancel all that is left of a workflow",
                "parameters": [one],
                "responses": {
                    "200": response("It has ended.", shown),
                    **some(errors, "404", "503"),
                },
            },
        },
    }


def narrow_workflows(components: dict[str, dict[str, Any]]) -> None:
    """What the types cannot say: how many steps there may be."""
    asked = components[WorkflowRequest.__name__]["properties"]
    for name in ("chain", "group", "steps"):
        steps = next(one for one in asked[name]["anyOf"] if one.get("type") == "array")
        steps |= {"minItems": 1, "maxItems": MAX_STEPS}
    components["ChordRequest"]["properties"]["header"] |= {"minItems": 1, "maxItems": MAX_STEPS - 1}
