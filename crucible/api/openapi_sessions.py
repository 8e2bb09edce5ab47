"""Sessions in the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.api.openapi_forms import Responses, Schemas, content, response, some
from crucible.api.sessions import SessionList, SessionShown
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.session_service import (
    LEAST_S,
    CellRequest,
    SessionLimits,
    SessionRequest,
)
from crucible.executor.admission import MAX_CODE_BYTES, MAX_FILES, MAX_NAME_BYTES
from crucible.executor.served import ServedEnvironments
from crucible.executor.sessions.models import CellResult
from crucible.models import LIMIT_FLOORS

if TYPE_CHECKING:
    from crucible.settings import Settings

_PATH = "/api/v1/sessions"
_ID = {"name": "session_id", "in": "path", "required": True, "schema": {"type": "string"}}
TYPES = (SessionRequest, SessionShown, SessionList, CellRequest, CellResult)


def session_paths(of: Schemas, errors: Responses) -> dict[str, Any]:
    """Paths for interpreters that are kept.

    Args:
        of: references to schemas.
        errors: the error responses.
    """
    one = {"200": response("The session.", of[SessionShown]), **some(errors, "404", "503")}
    body = some(errors, "400", "413", "415", "422", "503")
    return {
        _PATH: {
            "get": {
                "summary": "Open sessions",
                "responses": {
                    "200": response("The oldest first.", of[SessionList]),
                    **some(errors, "503"),
                },
            },
            "post": {
                "summary": "Open a session: an interpreter that is kept",
                "requestBody": {"required": False, "content": content(of[SessionRequest])},
                "responses": {
                    "201": response("It takes cells.", of[SessionShown]),
                    **body,
                    **some(errors, "429"),
                },
            },
        },
        f"{_PATH}/{{session_id}}": {
            "get": {"summary": "One session", "parameters": [_ID], "responses": one},
            "delete": {"summary": "End a session", "parameters": [_ID], "responses": one},
        },
        f"{_PATH}/{{session_id}}/execute": {
            "post": {
                "summary": "Run a cell",
                "parameters": [_ID],
                "requestBody": {"required": True, "content": content(of[CellRequest])},
                "responses": {
                    "200": response("What came of it.", of[CellResult]),
                    **body,
                    **some(errors, "404", "410"),
                },
            }
        },
    }


def narrow_sessions(components: dict[str, dict[str, Any]], settings: Settings) -> None:
    """What the types cannot say: the bounds of numbers, and which names there are.

    Args:
        components: the schemas, changed in place.
        settings: of the installation.
    """
    ceilings = ceilings_of(settings)
    asked = components[SessionRequest.__name__]["properties"]
    for name, most in (
        ("idle_timeout_s", settings.session_idle_s),
        ("total_timeout_s", settings.session_total_s),
    ):
        _bound(asked[name], LEAST_S, most)
    asked["files"]["maxItems"] = MAX_FILES
    served = ServedEnvironments(settings.served_environments)
    asked["environment"]["anyOf"] = [{"enum": list(served.having("python"))}, {"type": "null"}]
    asked["isolation"]["anyOf"] = [{"enum": list(settings.isolations)}, {"type": "null"}]
    limits = components[SessionLimits.__name__]["properties"]
    for name in SessionLimits.__struct_fields__:
        _bound(limits[name], getattr(LIMIT_FLOORS, name), getattr(ceilings, name))
    cell = components[CellRequest.__name__]["properties"]
    cell["code"]["maxLength"] = MAX_CODE_BYTES
    cell["timeout_s"] |= {"minimum": LIMIT_FLOORS.wall_time_s, "maximum": ceilings.wall_time_s}
    cell["output_files"] |= {"maxItems": MAX_FILES}
    cell["output_files"]["items"] |= {"minLength": 1, "maxLength": MAX_NAME_BYTES}


def _bound(schema: dict[str, Any], least: float, most: float) -> None:
    number = next(kind for kind in schema["anyOf"] if kind["type"] != "null")
    number |= {"minimum": least, "maximum": most}
