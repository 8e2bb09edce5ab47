"""Whether a value is an instance of a JSON Schema, with the keywords that our schemas use."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, Any] = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list,
    "object": dict, "null": type(None),
}  # fmt: skip
_NOTES = {"title", "description", "default", "required"}


def is_instance(value: Any, schema: Any, components: dict[str, Any]) -> bool:
    """Whether ``value`` is one; a keyword that is not known here is an error."""
    if schema is True or schema is False:
        return bool(schema)
    return all(_holds(value, schema, keyword, components) for keyword in schema)


def _holds(value: Any, schema: Any, keyword: str, components: dict[str, Any]) -> bool:
    is_text, is_list, is_object = (isinstance(value, kind) for kind in (str, list, dict))
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    said = schema[keyword]

    def within(part: Any, of: Any) -> bool:
        return is_instance(part, of, components)

    match keyword:
        case "$ref":
            return within(value, components[said.rpartition("/")[2]])
        case "not":
            return not within(value, said)
        case "anyOf":
            return any(within(value, one) for one in said)
        case "type":
            right = isinstance(value, _TYPES[said])
            return right and (said == "boolean" or not isinstance(value, bool))
        case "enum":
            return value in said
        case "const":
            return bool(value == said and type(value) is type(said))
        case "pattern":
            return not is_text or re.search(said, value) is not None
        case "minLength":
            return not is_text or len(value) >= said
        case "maxLength":
            return not is_text or len(value) <= said
        case "minimum":
            return not is_number or value >= said
        case "maximum":
            return not is_number or value <= said
        case "maxItems":
            return not is_list or len(value) <= said
        case "items":
            return not is_list or all(within(item, said) for item in value)
        case "maxProperties":
            return not is_object or len(value) <= said
        case "propertyNames":
            return not is_object or all(within(name, said) for name in value)
        case "properties":
            missing = set(schema.get("required", ())) - set(value) if is_object else set()
            parts = said.items() if is_object else ()
            return not missing and all(within(value[n], of) for n, of in parts if n in value)
        case "additionalProperties":
            names = set(value) - set(schema.get("properties", ())) if is_object else set()
            return all(within(value[name], said) for name in names)
        case _:
            assert keyword in _NOTES, f"{keyword} is not known here"
            return True
