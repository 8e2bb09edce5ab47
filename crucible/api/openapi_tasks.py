"""The task API in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.openapi_forms import Responses, Schemas, limit, parameter, response, some
from crucible.api.tasks import LARGEST_PAGE, TaskPage, WorkersStatus
from crucible.evaluation.task_view import TaskOutcome, TaskShown

TYPES = (TaskShown, TaskOutcome, TaskPage, WorkersStatus)
PREFIXES = ("", "/api/v1")
_TASK_ID = parameter(
    "task_id", {"type": "string"}, "Of an evaluation `eval-` and its id.", where="path"
)
_STATE = parameter("state", {"type": "string", "minLength": 1}, "States, with commas between.")
_CURSOR = parameter("cursor", {"type": "string"}, "`cursor` of the page before.")


def task_paths(of: Schemas, errors: Responses) -> dict[str, Any]:
    """The paths of the task API, bare and below ``/api/v1``."""
    workers = {
        "get": {
            "summary": "The workers, async and stock",
            "responses": {
                "200": response("All of them.", of[WorkersStatus]),
                **some(errors, "503"),
            },
        }
    }
    unknown = some(errors, "404", "503")
    one = {
        "get": {
            "summary": "A task as it is now",
            "parameters": [_TASK_ID],
            "responses": {"200": response("The task.", of[TaskShown]), **unknown},
        },
        "delete": {
            "summary": "Keep a task from running, or stop it",
            "parameters": [_TASK_ID],
            "responses": {
                "200": response("It has ended, now or before.", of[TaskShown]),
                "202": response("Its worker was asked to stop it.", of[TaskShown]),
                **some(errors, "404", "409", "503"),
            },
        },
    }
    listing = {
        "get": {
            "summary": "The tasks that are known: waiting, held by workers, ended",
            "parameters": [_STATE, limit(LARGEST_PAGE), _CURSOR],
            "responses": {
                "200": response("A page of them.", of[TaskPage]),
                **some(errors, "422", "503"),
            },
        }
    }
    result = {
        "get": {
            "summary": "What became of a task",
            "parameters": [_TASK_ID],
            "responses": {
                "200": response("It has ended.", of[TaskOutcome]),
                "202": response("It has not.", of[TaskOutcome]),
                **unknown,
            },
        }
    }
    paths = {
        "/tasks": listing,
        "/tasks/workers/status": workers,
        "/tasks/{task_id}": one,
        "/tasks/{task_id}/result": result,
        "/workers/status": workers,
    }
    # Copies: what is common to all operations is added to each.
    return {
        f"{prefix}{path}": {method: dict(operation) for method, operation in operations.items()}
        for prefix in PREFIXES
        for path, operations in paths.items()
    }
