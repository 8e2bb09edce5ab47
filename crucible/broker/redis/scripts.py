"""The broker's Lua scripts: package data, run by digest, loaded when the server lacks one."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Argument = bytes | str | int | float
    Execute = Callable[..., Awaitable[Any]]

_INCLUDE = "-- include: "


class Script:
    """One script; its header says what KEYS, ARGV and the return value are.

    Attributes:
        text: Lua source.
        digest: SHA-1 under which servers keep it.
    """

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    async def run(
        self, execute: Execute, keys: Sequence[Argument], args: Sequence[Argument]
    ) -> Any:
        """Run it with ``execute``, such as ``Redis.execute_command``.

        A server that was restarted or flushed does not know the digest; it then gets the text,
        which it also keeps. NOSCRIPT means nothing ran, so sending again is safe.
        """
        try:
            return await execute("EVALSHA", self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return await execute("EVAL", self.text, len(keys), *keys, *args)


@cache
def script(name: str) -> Script:
    """The script ``lua/<name>.lua``; a file that its first line includes is put in front of it."""
    folder = files("crucible.broker").joinpath("lua")
    text = folder.joinpath(f"{name}.lua").read_text("utf-8")
    first, _, rest = text.partition("\n")
    if first.startswith(_INCLUDE):
        text = folder.joinpath(first.removeprefix(_INCLUDE)).read_text("utf-8") + rest
    return Script(text)
