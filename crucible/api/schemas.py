"""The types of the API as JSON Schema: no wider than what is accepted, each field described.

msgspec knows types; what the checks behind them refuse is added here, from the same constants.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.api import (
    openapi_assessments,
    openapi_attempts,
    openapi_batch,
    openapi_console,
    openapi_sessions,
    openapi_tasks,
    openapi_webhooks,
    openapi_workflows,
)
from crucible.api.autoscale import Autoscale
from crucible.api.dead_letters import LetterPage, LetterShown, Replayed
from crucible.api.environments import EnvironmentShown, LanguageShown
from crucible.api.evaluations import Accepted, Forgotten
from crucible.api.events.frames import EventShown, Resync
from crucible.api.history import EvaluationPage, Stats
from crucible.api.keys import KeyList, Rotation
from crucible.api.migration import MigrationStatus, MismatchList
from crucible.api.openapi_assessments import narrow_assessments
from crucible.api.openapi_batch import narrow_batch
from crucible.api.openapi_sessions import narrow_sessions
from crucible.api.openapi_webhooks import narrow_webhooks
from crucible.api.openapi_workflows import narrow_workflows
from crucible.broker.admin.census import Census
from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.readiness import Report
from crucible.evaluation.request import EvalRequest
from crucible.executor.admission import (
    MAX_ARGUMENTS,
    MAX_CODE_BYTES,
    MAX_FILES,
    MAX_NAME_BYTES,
    MAX_STDIN_BYTES,
)
from crucible.executor.served import ServedEnvironments
from crucible.grading.models import MAX_TESTS
from crucible.identity.key_store import MAX_GRACE_S
from crucible.identity.keys import KeyMade, KeyRequest, KeyShown
from crucible.migration.state import SWITCHES, Change
from crucible.models import LIMIT_FLOORS, Evaluation, Limits
from crucible.webhooks.addresses import MAX_URL_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.settings import Settings

#: A JSON Schema.
Schema = dict[str, Any]


class FieldError(msgspec.Struct, kw_only=True):
    """What is wrong with one field.

    Attributes:
        field: its path; ``body`` stands for the whole body.
        detail: what is wrong with it, for people.
        pointer: where it is in the body, as a JSON pointer in a URI fragment (RFC 6901); absent
            where it is a parameter or a header field.
    """

    field: str
    detail: str
    pointer: str = ""


class Problem(msgspec.Struct, kw_only=True):
    """An error (RFC 9457).

    Attributes:
        type: always ``about:blank``; the title tells kinds apart.
        title: the kind of problem.
        status: the HTTP status.
        detail: this occurrence, for people.
        field: path of the offending field; ``body`` stands for the whole body.
        errors: the same with a pointer into the body.
    """

    type: str
    title: str
    status: int
    detail: str = ""
    field: str = ""
    errors: list[FieldError] = []


TYPES = (
    Problem, EvalRequest, Evaluation, Accepted, Forgotten, LanguageShown, EnvironmentShown, Report,
    Census, Autoscale,
    LetterShown,
    LetterPage, Replayed, Change, MigrationStatus, MismatchList, KeyRequest, KeyShown, KeyMade,
    KeyList, Rotation, EventShown, Resync,
    *openapi_batch.TYPES, *openapi_tasks.TYPES, *openapi_attempts.TYPES, *openapi_webhooks.TYPES,
    EvaluationPage, Stats, *openapi_assessments.TYPES, *openapi_workflows.TYPES,
    *openapi_sessions.TYPES, *openapi_console.TYPES,
)  # fmt: skip
#: Ids of dead letters, as ``deadletters.is_letter_id`` takes them.
LETTER_ID = {"type": "string", "pattern": "^(?!0+-0+$)[0-9]{1,19}-[0-9]{1,19}$"}
#: URLs of receivers, as ``webhooks.addresses.check_url`` takes them: here without their hosts.
URL_PATTERN = "^https?://[!-~]+$"
_NO_NUL = "^[^\\u0000]*$"


def schemas(settings: Settings) -> tuple[dict[Any, Schema], dict[str, Schema]]:
    """References to the schemas of ``TYPES``, and the schemas by name.

    Args:
        settings: of the installation; ceilings of limits and the legacy queue are its.
    """
    references, found = msgspec.json.schema_components(
        TYPES, ref_template="#/components/schemas/{name}"
    )
    components = {name: _in_ecma(schema) for name, schema in found.items()}
    kinds: dict[str, type] = {kind.__name__: kind for kind in TYPES} | {"LimitsRequest": Limits}
    for name, schema in components.items():
        _describe(schema, kinds.get(name))
    _narrow_request(components["EvalRequest"], components, settings)
    _narrow_request(components["BatchItem"], components, settings)
    _narrow_request(components["CaseRequest"], components, settings)
    _narrow_request(components["StepRequest"], components, settings)
    narrow_batch(components)
    narrow_assessments(components)
    narrow_workflows(components)
    components["KeyRequest"]["properties"]["scopes"]["uniqueItems"] = True
    components["Rotation"]["properties"]["grace_s"] |= {"minimum": 0, "maximum": MAX_GRACE_S}
    narrow_webhooks(components, URL_PATTERN)
    narrow_sessions(components, settings)
    _narrow_limits(components["LimitsRequest"]["properties"], ceilings_of(settings))
    _narrow_change(components["Change"]["properties"], legacy=bool(settings.queue_service_url))
    # One switch at least; null sets none.
    components["Change"]["anyOf"] = [
        {"properties": {name: {"not": {"type": "null"}}}, "required": [name]} for name in SWITCHES
    ]
    return dict(zip(TYPES, references, strict=True)), components


def _in_ecma(schema: Any) -> Any:
    r"""A schema with its patterns as JSON Schema spells them: ``\Z`` is a letter there."""
    if isinstance(schema, list):
        return [_in_ecma(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: part.replace(r"\Z", "$")
        if name == "pattern" and isinstance(part, str)
        else _in_ecma(part)
        for name, part in schema.items()
    }


def _describe(schema: Schema, kind: type | None = None) -> None:
    """Give each field what the docstring of its type says of it.

    Args:
        schema: of a type; its description is the docstring.
        kind: a type whose fields it has, with those that the type itself inherits.
    """
    text, fields = _split(schema.get("description", ""))
    if text:
        schema["description"] = text
    for above in (kind or object).__mro__:
        fields = {**_split(above.__doc__ or "")[1], **fields}
    for name, properties in schema.get("properties", {}).items():
        if name in fields:
            properties["description"] = fields[name]


def _split(docstring: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the whole, and of each attribute."""
    text, _, attributes = inspect.cleandoc(docstring).partition("Attributes:\n")
    entries = re.split(r"^    (\w+): ", attributes, flags=re.MULTILINE)[1:]
    fields = {
        name: _in_one_line(entry) for name, entry in zip(entries[::2], entries[1::2], strict=True)
    }
    return _in_one_line(text), fields


def _in_one_line(text: str) -> str:
    return " ".join(text.split()).replace("``", "`")


def _narrow_request(request: Schema, components: dict[str, Schema], settings: Settings) -> None:
    fields = request["properties"]
    fields["code"] |= {"minLength": 1, "maxLength": MAX_CODE_BYTES, "pattern": "\\S"}
    fields["stdin"]["maxLength"] = -(-MAX_STDIN_BYTES // 3) * 4  # in base64
    served = ServedEnvironments(settings.served_environments)
    languages = served.languages()
    aliases = [alias for language in languages.values() for alias in language.aliases]
    fields["language"]["enum"] = list(dict.fromkeys([*languages, *aliases]))
    fields["environment"] |= _any_of([one.name for one in served])
    fields["webhook_url"]["anyOf"][0] |= {"maxLength": MAX_URL_BYTES, "pattern": URL_PATTERN}
    fields["result_ttl_s"]["anyOf"][0] |= {"minimum": 1, "maximum": settings.max_result_ttl_s}
    fields["isolation"] |= _any_of(settings.isolations)
    fields["args"]["maxItems"] = MAX_ARGUMENTS
    fields["args"]["items"]["pattern"] = _NO_NUL
    fields["env"]["maxProperties"] = MAX_ARGUMENTS
    fields["env"]["additionalProperties"]["pattern"] = _NO_NUL
    fields["env"]["propertyNames"] = {"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,127}$"}
    fields["files"]["maxItems"] = fields["output_files"]["maxItems"] = MAX_FILES
    name = {"minLength": 1, "maxLength": MAX_NAME_BYTES}
    fields["output_files"]["items"] |= name
    tests = next(kind for kind in fields["tests"]["anyOf"] if kind["type"] == "array")
    tests |= {"minItems": 1, "maxItems": MAX_TESTS}
    code = {"minLength": 1, "maxLength": MAX_CODE_BYTES, "pattern": "\\S"}
    components["GraderRequest"]["properties"]["code"] |= code
    test = components["TestRequest"]["properties"]
    test["stdin"]["maxLength"] = fields["stdin"]["maxLength"]
    test["files"]["maxItems"] = MAX_FILES
    components["SourceFile"]["properties"]["name"] |= name


def _any_of(names: Sequence[str]) -> Schema:
    return {"anyOf": [{"type": "string", "enum": list(names)}, {"type": "null"}]}


def _narrow_limits(fields: dict[str, Schema], ceilings: Limits) -> None:
    for name in Limits.__struct_fields__:
        number = next(kind for kind in fields[name]["anyOf"] if kind["type"] != "null")
        number["minimum"] = getattr(LIMIT_FLOORS, name)
        number["maximum"] = getattr(ceilings, name)


def _narrow_change(fields: dict[str, Schema], *, legacy: bool) -> None:
    """Switches that need a legacy queue can only be left as they are where there is none."""
    share = {"type": "number", "minimum": 0.0, "maximum": 1.0}
    fields["celery_percentage"]["anyOf"][0] = share
    if legacy:
        return
    share["minimum"] = 1.0
    for name, value in (
        ("celery_enabled", True), ("force_legacy_queue", False), ("dual_write", False),
    ):  # fmt: skip
        fields[name]["anyOf"][0] = {"const": value}
