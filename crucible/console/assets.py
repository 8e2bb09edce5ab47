"""The files that make the console, as ``scripts/console`` has built them.

Their names have a hash of their contents, so a browser may keep each for ever; only the page that
names them is asked for again.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

#: What is built: a script, a style sheet, and what the script loads once a screen needs it.
_NAME = re.compile(r"[A-Za-z.]+-[A-Z0-9]{8}\.(js|css)")
_KINDS = {"js": "text/javascript", "css": "text/css"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the console.

    Attributes:
        name: with the hash of its contents.
        kind: its media type.
        body: its contents.
        packed: the same compressed with gzip.
    """

    name: str
    kind: str
    body: bytes
    packed: bytes


def packed(body: bytes) -> bytes:
    """Compress with gzip; the same bytes each time."""
    return gzip.compress(body, 9, mtime=0)


@cache
def assets() -> dict[str, Asset]:
    """Every file by name; read and compressed once."""
    found = {}
    for entry in (files("crucible.console") / "static").iterdir():
        match = _NAME.fullmatch(entry.name)
        if match:
            body = entry.read_bytes()
            found[entry.name] = Asset(entry.name, _KINDS[match[1]], body, packed(body))
    return found


def named(suffix: str) -> str:
    """The name of the file that the page itself loads: its ``js`` or ``css``."""
    return next(
        name for name in assets() if name.startswith("main-") and name.endswith(f".{suffix}")
    )
