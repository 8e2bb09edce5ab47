"""Which field of a request body is wrong, where the decoder's own error does not say it.

Runs only for bodies that were refused, so nothing here costs a request that can be decoded.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import msgspec

from crucible.errors import InputError
from crucible.validation import PATH_SHOWN

#: Characters of a key that an error repeats.
_KEY_SHOWN = 40


def with_key(error: InputError, body: bytes) -> InputError:
    """The error with the key in its path, which msgspec leaves out (``env[...]``).

    Args:
        error: of decoding a request.
        body: what was decoded.
    """
    field, within, _ = error.field.partition("[...]")
    if not within:
        return error
    if field == "env":
        # The decoder stopped at the wrong value; what follows may be malformed.
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
            env = msgspec.json.decode(body)["env"].items()
            field = next(
                (f"env.{key[:_KEY_SHOWN]}" for key, value in env if type(value) is not str), field
            )
    return InputError(field, error.detail)


def not_finite(body: bytes) -> InputError | None:
    """The error of the first field that is NaN or infinite; None where there is none.

    Neither is JSON, but Python's ``json`` writes both by default.
    """
    try:
        rest: list[tuple[str, Any]] = [("", json.loads(body.decode()))]
    except (ValueError, RecursionError):
        return None
    while rest:
        path, value = rest.pop()
        if isinstance(value, float) and not math.isfinite(value):
            return InputError(path, "must be a finite number")
        # Shortened at each level: a long key would otherwise be copied for every value below it.
        if isinstance(value, dict):
            named = [(f"{path}.{key[:_KEY_SHOWN]}"[-PATH_SHOWN:], value[key]) for key in value]
            rest += [(name.removeprefix("."), within) for name, within in reversed(named)]
        elif isinstance(value, list):
            numbered = [(f"{path}[{at}]"[-PATH_SHOWN:], within) for at, within in enumerate(value)]
            rest += reversed(numbered)
    return None
