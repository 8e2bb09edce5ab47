"""What the parts of the OpenAPI document are put together from."""

from __future__ import annotations

from typing import Any

#: References to the schemas of types.
Schemas = dict[Any, dict[str, Any]]
#: Responses by status.
Responses = dict[str, dict[str, Any]]


def parameter(name: str, schema: dict[str, Any], text: str, *, where: str = "query") -> Any:
    """A parameter; one of the path is required."""
    described = {"name": name, "in": where, "schema": schema, "description": text}
    return described | ({"required": True} if where == "path" else {})


def flag(name: str, text: str) -> Any:
    """A parameter of the query that is true or false, as ``http.query.flag_of`` reads it."""
    return parameter(name, {"type": "string", "enum": ["true", "false"]}, text)


def limit(most: int) -> dict[str, Any]:
    """The parameter ``limit``."""
    schema = {"type": "integer", "minimum": 1, "maximum": most}
    return {"name": "limit", "in": "query", "schema": schema}


def some(errors: Responses, *statuses: str) -> Responses:
    """Those of the errors that an operation has."""
    return {status: errors[status] for status in statuses}


def content(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    """A body of one kind."""
    return {kind: {"schema": schema}}


def response(text: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    """A response with a body."""
    return {"description": text, "content": content(schema, kind)}


def simple(summary: str) -> dict[str, Any]:
    """An operation of which there is no more to say."""
    return {"summary": summary, "responses": {"200": {"description": summary}}}
