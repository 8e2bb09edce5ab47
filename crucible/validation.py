"""msgspec's schema errors as ``InputError``: the path in their text becomes the field."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from crucible.errors import InputError

if TYPE_CHECKING:
    import msgspec

#: Characters that an error repeats of what a client sent: of a path, and of the sentence.
PATH_SHOWN, DETAIL_SHOWN = 200, 400
#: "Object missing required field `code`", "Object contains unknown field `x`".
_NAMED_FIELD = re.compile(r"field `([^`]*)`")
#: "Expected `int`, got `str` - at `$.limits.pids`"; a path of `$` alone is the whole value.
_PATH = re.compile(r" - at `\$\.?([^`]*)`\Z")


def input_error(error: msgspec.ValidationError) -> InputError:
    """A schema error as one that names the field."""
    text = str(error)
    path = match[1] if (match := _PATH.search(text)) else ""
    detail = _PATH.sub("", text)
    if named := _NAMED_FIELD.search(detail):
        path = f"{path}.{named[1]}" if path else named[1]
    return InputError(path[:PATH_SHOWN], detail[:1].lower() + detail[1:DETAIL_SHOWN])
