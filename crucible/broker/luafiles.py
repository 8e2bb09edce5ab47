"""Scripts of claims: as ``scripts`` loads them, with a shared file put in front where needed."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from crucible.broker.scripts import Script

_INCLUDE = "-- include: "


@cache
def claim_script(name: str) -> Script:
    """The script ``lua/<name>.lua``; a file its first line includes is put in front of it."""
    folder = files("crucible.broker").joinpath("lua")
    text = folder.joinpath(f"{name}.lua").read_text("utf-8")
    first, _, rest = text.partition("\n")
    if first.startswith(_INCLUDE):
        text = folder.joinpath(first.removeprefix(_INCLUDE)).read_text("utf-8") + rest
    return Script(text)
