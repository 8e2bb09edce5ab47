"""What was wrong with a body that could not be read: errors that name the field.

Nothing of this costs a request that can be read.
"""

from __future__ import annotations

import json
import math
import re
from contextlib import suppress
from typing import Any

import msgspec

from crucible.errors import InputError

#: Characters that an error repeats of what a client sent: of a key, of a path, and in all.
_SHOWN, _PATH_SHOWN, _DETAIL_SHOWN = 40, 200, 400
_MISSING_OR_UNKNOWN = re.compile(r"field `([^`]*)`")
_PATH = re.compile(r" - at `\$\.?([^`]*)`\Z")


def input_error(error: msgspec.ValidationError) -> InputError:
    """A schema error as one that names the field."""
    text = str(error)
    path = match[1] if (match := _PATH.search(text)) else ""
    detail = _PATH.sub("", text)
    if named := _MISSING_OR_UNKNOWN.search(detail):
        path = f"{path}.{named[1]}" if path else named[1]
    return InputError(path[:_PATH_SHOWN], detail[:1].lower() + detail[1:_DETAIL_SHOWN])


def with_key(error: InputError, body: bytes) -> InputError:
    """The same with the key in its path, which msgspec leaves out (``env[...]``).

    Args:
        error: of reading a request.
        body: what was read.
    """
    field, within, _ = error.field.partition("[...]")
    if not within:
        return error
    if field == "env":
        # What follows the wrong value was not read, and may be anything.
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
            env = msgspec.json.decode(body)["env"].items()
            field = next(
                (f"env.{key[:_SHOWN]}" for key, value in env if type(value) is not str), field
            )
    return InputError(field, error.detail)


def not_finite(body: bytes) -> InputError | None:
    """The refusal of the first field that is NaN or infinite; None where none is.

    Neither is JSON, but Python's clients write both.
    """
    try:
        rest: list[tuple[str, Any]] = [("", json.loads(body.decode()))]
    except (ValueError, RecursionError):
        return None
    while rest:
        path, value = rest.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return InputError(path, "must be a finite number")
        # Cut at each step: a long key above many values would be copied for each of them.
        if isinstance(value, dict):
            named = [(f"{path}.{key[:_SHOWN]}"[-_PATH_SHOWN:], value[key]) for key in value]
            rest += [(name.removeprefix("."), within) for name, within in reversed(named)]
        elif isinstance(value, list):
            numbered = [(f"{path}[{at}]"[-_PATH_SHOWN:], within) for at, within in enumerate(value)]
            rest += reversed(numbered)
    return None
