"""Assessments in the OpenAPI document."""

from __future__ import annotations

from typing import Any

from crucible.api.assessments import LARGEST_PAGE, AssessmentForgotten, AssessmentList
from crucible.api.events.assessment import AssessmentEvent
from crucible.api.events.frames import CONTENT_TYPE, Resync
from crucible.api.openapi_events import RESUME, event_shape
from crucible.api.openapi_forms import (
    Responses,
    Schemas,
    content,
    flag,
    limit,
    parameter,
    response,
    some,
)
from crucible.assessments.comparison import Comparison
from crucible.assessments.report import AssessmentReport
from crucible.assessments.service import REPORTS
from crucible.assessments.suite import (
    MAX_CASES,
    MAX_REPETITIONS,
    AssessmentRequest,
    CaseRequest,
    CasesRequest,
)
from crucible.assessments.view import AssessmentShown, Started

TYPES = (
    AssessmentRequest, CaseRequest, CasesRequest, AssessmentShown, AssessmentList, Started,
    AssessmentReport, Comparison, AssessmentEvent, AssessmentForgotten,
)  # fmt: skip
_BAD_BODY = ("400", "409", "413", "415", "422", "503")


def assessment_paths(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths of suites, under both prefixes.

    Args:
        of: references to schemas.
        errors: the error responses.
    """
    paths: dict[str, Any] = {}
    for prefix in ("", "/api/v1"):
        paths |= _paths(f"{prefix}/assessments", of, errors)
    return paths


def _paths(root: str, of: Schemas, errors: Responses) -> dict[str, Any]:
    shown = of[AssessmentShown]
    event = event_shape("assessment", "resync", data=[of[AssessmentEvent], of[Resync]])
    one = parameter("assessment_id", {"type": "string"}, "Its id.", where="path")
    purge = flag(
        "purge", "Delete it with its cases and report. Its runs stay; 409 where it has not ended."
    )
    missing = some(errors, "404", "503")
    return {
        root: {
            "get": {
                "summary": "Assessments of the tenant, the newest first",
                "parameters": [limit(LARGEST_PAGE)],
                "responses": {
                    "200": response("The newest.", of[AssessmentList]),
                    **some(errors, "422", "503"),
                },
            },
            "post": {
                "summary": "Make an assessment; nothing runs before it is started",
                "requestBody": {"required": True, "content": content(of[AssessmentRequest])},
                "responses": {
                    "201": response("It is kept.", shown),
                    "200": response("The same was made before.", shown),
                    **some(errors, *_BAD_BODY),
                },
            },
        },
        f"{root}/{{assessment_id}}": {
            "get": {
                "summary": "The assessment as it is now",
                "parameters": [one],
                "responses": {"200": response("The assessment.", shown), **missing},
            },
            "delete": {
                "summary": "Cancel all that is left of an assessment; or delete one that has ended",
                "parameters": [one, purge],
                "responses": {
                    "200": response(
                        "It has ended; or is deleted.",
                        {"anyOf": [shown, of[AssessmentForgotten]]},
                    ),
                    **missing,
                    **some(errors, "409", "422"),
                },
            },
        },
        f"{root}/{{assessment_id}}/cases": {
            "post": {
                "summary": "Add cases to a draft",
                "parameters": [one],
                "requestBody": {"required": True, "content": content(of[CasesRequest])},
                "responses": {
                    "200": response("They are kept.", shown),
                    **some(errors, "404", *_BAD_BODY),
                },
            }
        },
        f"{root}/{{assessment_id}}/start": {
            "post": {
                "summary": "Run an assessment in the background",
                "parameters": [one],
                "responses": {
                    "202": response("Its task is queued durably.", of[Started]),
                    **missing,
                    **some(errors, "409", "422"),
                },
            }
        },
        f"{root}/{{assessment_id}}/events": {
            "get": {
                "summary": "Follow an assessment up to its end",
                "description": "Events `assessment`, as it changes; a comment every 15 s without "
                "any.",
                "parameters": [one, RESUME],
                "responses": {
                    "200": response("What it is now, and each change.", event, CONTENT_TYPE),
                    "204": {"description": "The client has seen the end, and need not ask again."},
                    **missing,
                    **some(errors, "422"),
                },
            }
        },
        f"{root}/{{assessment_id}}/report": {"get": _report(one, of, errors)},
    }


def _report(one: dict[str, Any], of: Schemas, errors: Responses) -> dict[str, Any]:
    either = {"anyOf": [of[AssessmentReport], of[Comparison]]}
    made = response("The report, or the comparison with the baseline.", either)
    for kind in ("html", "junit"):
        made["content"] |= content({"type": "string"}, REPORTS[kind])
    return {
        "summary": "The report of an assessment that has completed",
        "parameters": [
            one,
            parameter("format", {"type": "string", "enum": list(REPORTS)}, "`json` by default."),
            parameter(
                "baseline",
                {"type": "string"},
                "Id of an earlier assessment: the answer is what changed since. As JSON only.",
            ),
        ],
        "responses": {"200": made, **some(errors, "404", "409", "422", "503")},
    }


def narrow_assessments(components: dict[str, dict[str, Any]]) -> None:
    """What the types cannot say: how many cases there may be."""
    asked = components[AssessmentRequest.__name__]["properties"]
    asked["cases"]["maxItems"] = MAX_CASES
    case = components[CaseRequest.__name__]["properties"]
    repetitions = next(one for one in case["repetitions"]["anyOf"] if one.get("type") == "integer")
    assert repetitions["maximum"] == MAX_REPETITIONS
