"""The blocks of code on the pages of docs/, and running them as a reader would, for tests."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: What a reader would type, with a language or without.
CODE = frozenset({"console", "python", "sh", "bash"})
_COMMAND = re.compile(r"(\$ |curl |crucible |celery |pip |docker |make |python )")
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^>]*) -->\n+)?^```(?P<language>[^\n`]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        note: the comment above it: who runs it, or why nobody does.
        language: as the page names it; may be empty.
        text: its lines.
        line: its number on the page.
    """

    note: str
    language: str
    text: str
    line: int

    @property
    def typed(self) -> bool:
        """Whether a reader would type it."""
        return self.language in CODE or (not self.language and bool(_COMMAND.match(self.text)))


def blocks(page: Path) -> list[Block]:
    """All of a page, in their order."""
    text = page.read_text()
    return [
        Block(
            found["note"] or "",
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("language")) + 1,
        )
        for found in _BLOCK.finditer(text)
    ]


def code(page: str, language: str, containing: str, changes: Mapping[str, str]) -> str:
    """The one block of a page with these words, with what a test has elsewhere put in place.

    Args:
        page: from the root of the repository.
        language: of the block.
        containing: words of it.
        changes: what the page says, and what stands for it in the test.
    """
    [text] = [
        block.text
        for block in blocks(ROOT / page)
        if block.language == language and containing in block.text
    ]
    for old, new in changes.items():
        assert old in text, f"{page} does not say {old} here"
        text = text.replace(old, new)
    return text


async def run_python(text: str, names: dict[str, Any]) -> None:
    """Run a block, which may await outside of a function, with and into these names."""
    made = compile(text, "page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    running = eval(made, names)
    if inspect.isawaitable(running):
        await running


def commands(text: str) -> tuple[dict[str, str], list[list[str]]]:
    """What a console block exports, and the other commands in words."""
    exports: dict[str, str] = {}
    found: list[list[str]] = []
    for line in text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            exports[name] = value
        else:
            found.append(words)
    return exports, found
