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
from crucible.validation import PATH_SHOWN, not_json

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
    steps: tuple[str | int, ...] = (field,)
    if field == "env":
        # The decoder stopped at the wrong value; what follows may be malformed.
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, AttributeError):
            env = msgspec.json.decode(body)["env"].items()
            for key in (key for key, value in env if type(value) is not str):
                field, steps = f"env.{key[:_KEY_SHOWN]}", ("env", key)
                break
    return _error(field, steps, error.detail)


#: A place in a body: the place it is within, and its own key or index there. Linked, since copies
#: of a long key for every value below it would be many.
_Place = tuple["_Place", "str | int"] | None


def undecodable(error: Exception, body: bytes) -> InputError:
    """The error of a body that the decoder could not read; with the field where there is one.

    Args:
        error: the decoder's.
        body: what was to be decoded.
    """
    if isinstance(error, UnicodeDecodeError):
        # The decoder counts from the beginning of the text that is wrong.
        try:
            body.decode()
        except UnicodeDecodeError as counted:
            return not_json(counted)
    return _first_fault(body) or not_json(error)


def _first_fault(body: bytes) -> InputError | None:
    """The first value that Python's ``json`` writes and reads, and no other: None without one.

    Those are NaN, infinity, and text with half of a surrogate pair, which no UTF-8 can have.
    """
    try:
        rest: list[tuple[_Place, Any]] = [(None, json.loads(body.decode()))]
    except (ValueError, RecursionError):
        return None
    while rest:
        place, value = rest.pop()
        if detail := _fault_of(value):
            steps = _steps_to(place)
            return _error(_path_of(steps), steps, detail)
        if isinstance(value, dict):
            rest += [((place, key), value[key]) for key in reversed(value)]
        elif isinstance(value, list):
            rest += [((place, at), value[at]) for at in reversed(range(len(value)))]
    return None


def _fault_of(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if isinstance(value, str) and _has_half_pair(value):
        return "must not have half of a surrogate pair"
    if isinstance(value, dict) and any(map(_has_half_pair, value)):
        # An error cannot repeat such a name.
        return "must not have a name with half of a surrogate pair"
    return ""


def _has_half_pair(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _steps_to(place: _Place) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    while place is not None:
        place, step = place
        steps.append(step)
    return tuple(reversed(steps))


def _path_of(steps: tuple[str | int, ...]) -> str:
    named = (f"[{step}]" if isinstance(step, int) else f".{step[:_KEY_SHOWN]}" for step in steps)
    return "".join(named).removeprefix(".")[-PATH_SHOWN:]


def _error(field: str, steps: tuple[str | int, ...], detail: str) -> InputError:
    error = InputError(field, detail)
    # One that leads somewhere else would be worse than one that ends above it.
    while sum(len(str(step)) + 1 for step in steps) > PATH_SHOWN:
        steps = steps[:-1]
    error.steps = steps
    return error
