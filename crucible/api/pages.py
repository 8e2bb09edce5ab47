"""The page ``/docs``: it describes the API and lets one try it.

Everything comes from this process: no asset of another host, no inline script or style. The
Content-Security-Policy says so.
"""

from __future__ import annotations

import json
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from aiohttp import web

import crucible
from crucible.api.app_keys import SETTINGS
from crucible.api.openapi import description

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crucible.settings import Settings

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: Bodies to begin with, by operation.
_EXAMPLES = {
    ("post", "/api/eval"): {"code": "print(6 * 7)", "language": "python"},
    ("put", "/api/v1/migration"): {"celery_percentage": 1.0, "reason": "all of it"},
}
_STATIC = files("crucible.api") / "static"


async def docs(request: web.Request) -> web.Response:
    """``GET /docs``: every operation with its fields, an example, and a form to try it."""
    return _html(_docs(request.app[SETTINGS]))


async def style(_: web.Request) -> web.Response:
    """``GET /docs/docs.css``."""
    return _static("docs.css", "text/css")


async def script(_: web.Request) -> web.Response:
    """``GET /docs/docs.js``."""
    return _static("docs.js", "text/javascript")


def _static(name: str, kind: str) -> web.Response:
    text = (_STATIC / name).read_text("utf-8")
    return web.Response(text=text, content_type=kind, headers=_HEADERS)


def _html(body: str) -> web.Response:
    return web.Response(
        text=f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>Crucible API</title>'
        f'<link rel="stylesheet" href="/docs/docs.css"><link rel="icon" href="data:,">'
        f'<script src="/docs/docs.js" defer></script></head><body>{body}</body></html>',
        content_type="text/html",
        headers=_HEADERS,
    )


@cache
def _docs(settings: Settings) -> str:
    document = description(settings)
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    contents = "".join(
        f'<li><a href="#{_anchor(method, path)}"><code>{method.upper()} {path}</code></a> '
        f"{escape(operation['summary'])}</li>"
        for method, path, operation in operations
    )
    sections = "".join(_section(document, *operation) for operation in operations)
    return (
        f"<h1>Crucible API</h1><p>Version {crucible.__version__}. For programs: "
        f'<a href="/openapi.json">/openapi.json</a>.</p><ul class="contents">{contents}</ul>'
        f"{sections}"
    )


def _anchor(method: str, path: str) -> str:
    return f"{method}-{path.strip('/').translate(str.maketrans('/{}.', '----'))}"


def _section(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    parameters = operation.get("parameters", [])
    example = json.dumps(_EXAMPLES.get((method, path), {}))
    return "".join(
        (
            f'<section id="{_anchor(method, path)}"><h2><code>{method.upper()} {path}</code></h2>',
            f"<p>{escape(operation['summary'])}</p>",
            _table("Parameters", _parameter_rows(parameters)),
            _table("Body", _field_rows(document, body["schema"])) if body else "",
            _table("Answers", _answer_rows(document, operation["responses"])),
            f"<h3>Example</h3><pre><code>{escape(_curl(method, path, example, body))}</code></pre>",
            _form(method, path, parameters, example if body else None),
            "</section>",
        )
    )


def _table(title: str, rows: Iterator[tuple[str, str, str]]) -> str:
    lines = "".join(
        f"<tr><th scope=row><code>{escape(name)}</code></th><td>{escape(kind)}</td>"
        f"<td>{escape(text)}</td></tr>"
        for name, kind, text in rows
    )
    return f"<h3>{title}</h3><table>{lines}</table>" if lines else ""


def _parameter_rows(parameters: list[dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    for one in parameters:
        where = f"{one['in']}, {_kind({}, one['schema'])}"
        yield one["name"], where, one.get("description", "")


def _field_rows(
    document: dict[str, Any], schema: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, str, str]]:
    found = _resolved(document, schema)
    for name, field in found.get("properties", {}).items():
        required = "required. " if name in found.get("required", ()) else ""
        yield f"{prefix}{name}", _kind(document, field), required + field.get("description", "")
        for below, mark in ((field, "."), (field.get("items", {}), "[].")):
            for part in (below, *below.get("anyOf", ())):
                if "$ref" in part:
                    yield from _field_rows(document, part, f"{prefix}{name}{mark}")


def _answer_rows(
    document: dict[str, Any], responses: dict[str, Any]
) -> Iterator[tuple[str, str, str]]:
    for status, response in sorted(responses.items()):
        kinds = [_kind(document, c["schema"]) for c in response.get("content", {}).values()]
        yield status, " or ".join(kinds), response["description"]


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = document["components"]["schemas"][name] if name else schema
    return found


#: What a schema says of a value, and how it is written here.
_BOUNDS = {
    "minimum": "≥ {}",
    "maximum": "≤ {}",
    "minLength": "≥ {} characters",
    "maxLength": "≤ {} characters",
    "maxItems": "≤ {} entries",
    "maxProperties": "≤ {} entries",
    "pattern": "{}",
    "default": "default {}",
}


def _kind(document: dict[str, Any], schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        words = [" or ".join(_kind(document, part) for part in schema["anyOf"])]
    elif "enum" in schema:
        words = [" | ".join(map(str, schema["enum"]))]
    elif "const" in schema:
        words = [json.dumps(schema["const"])]
    elif schema.get("type") == "array":
        words = [f"array of {_kind(document, schema['items'])}"]
    else:
        words = [schema.get("type", "any")]
    words += [
        form.format(json.dumps(schema[name]) if name == "default" else schema[name])
        for name, form in _BOUNDS.items()
        if name in schema
    ]
    return ", ".join(words)


def _curl(method: str, path: str, example: str, body: object) -> str:
    shown = path.replace("{eval_id}", "$EVAL_ID").replace("{letter_id}", "$LETTER_ID")
    flags = "" if method == "get" else f" -X {method.upper()}"
    data = f" \\\n  -H 'Content-Type: application/json' -d '{example}'" if body else ""
    return f'curl -sS{flags} "$CRUCIBLE{shown}"{data}'


def _form(method: str, path: str, parameters: list[dict[str, Any]], example: str | None) -> str:
    """What ``docs.js`` makes a request of."""
    inputs = "".join(
        f'<label>{escape(one["name"])} <input name="{escape(one["name"])}" '
        f'data-in="{one["in"]}"></label>'
        for one in parameters
    )
    body = "" if example is None else f"<textarea rows=6>{escape(example)}</textarea>"
    return (
        f'<details><summary>Try it</summary><form data-method="{method.upper()}" '
        f'data-path="{escape(path)}">{inputs}{body}<button>Send</button></form>'
        f'<pre class="answer" aria-live="polite"></pre></details>'
    )
