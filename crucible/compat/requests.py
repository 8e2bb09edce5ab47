"""Bodies and programs as other systems take them, where the api itself is stricter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from crucible.http.body import read_body
from crucible.validation import input_error, not_json

if TYPE_CHECKING:
    from aiohttp import web

T = TypeVar("T")

#: A program of a comment alone, by language, where a comment does not begin with two slashes.
_COMMENTS = dict.fromkeys(("python", "bash", "perl", "ruby"), "#\n") | {"lua": "--\n"}
_PHP = "<?php\n"


async def body_of(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body of a request, decoded.

    Raises:
        InputError: it is not JSON, or a field is of the wrong type; names the field.
        BodyTooLarge: it is.
    """
    body = await read_body(request)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise input_error(error, decoder.type) from None
    # Text that is no UTF-8, and arrays in arrays without end, have errors of their own.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise not_json(error) from None


def json_of(body: bytes | str, kind: Any = Any) -> Any:
    """A body as JSON, where what is wrong with it is the text of one kind of error.

    Args:
        body: what was sent.
        kind: of what it has to be.

    Raises:
        msgspec.DecodeError: it is none, or of another type.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(not_json(error))) from None


def runnable(code: str, language: str) -> str:
    """A program that does nothing where there is none.

    The api refuses an empty one. Elsewhere it is a program like any other: a model that has
    written nothing gets the outcome of nothing, and no error of the sandbox.

    Args:
        code: the source text.
        language: by our name.
    """
    if code and not code.isspace():
        return code
    return _PHP if language == "php" else _COMMENTS.get(language, "//\n")


def with_php_tag(code: str) -> str:
    """A program in PHP, with the tag without which all of it would be printed."""
    code = code.lstrip()
    return code if code.startswith("<?php") else _PHP + code
