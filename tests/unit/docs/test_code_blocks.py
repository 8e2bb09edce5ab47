"""What the pages have a reader type is run by a test, or the page says why it is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
from support.page_blocks import PAGES, ROOT, blocks

from crucible.cli.main import app

#: A command of ours, up to where the shell would end it.
_COMMAND = re.compile(r"(?:^|[\s/])crucible ([a-z](?:(?![|;&#\n]).)+)")


def label(path: Path) -> str:
    """How a page is named in test ids."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_block_says_who_runs_it(page: Path) -> None:
    """``<!-- run by TEST -->``, a test that names the page, or ``<!-- not run: REASON -->``."""
    for block in blocks(page):
        if not block.typed:
            continue
        assert re.match(r"run by |not run: \w", block.note), f"{label(page)}:{block.line}"
        if block.note.startswith("run by "):
            test = (ROOT / block.note.removeprefix("run by ")).read_text()
            assert page.name in test, f"{label(page)}:{block.line}"


def unknown(words: list[str]) -> list[str]:
    """What a command line has that no command of ours knows."""
    command: Any = typer.main.get_command(app)
    flags = {"--help", "--version"}
    for word in words:
        children = getattr(command, "commands", {})
        if word in children:
            command = children[word]
            continue
        if children and not word.startswith("-") and not command.params:
            return [word]
        break
    for parameter in command.params:
        flags |= {*parameter.opts, *parameter.secondary_opts}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [flag for flag in given if flag not in flags]


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_command_exists(page: Path) -> None:
    """With the flags that the page gives it, also where it is not run."""
    shells = [one.text for one in blocks(page) if one.typed and one.language != "python"]
    lines = [found for text in shells for found in _COMMAND.findall(text)]
    assert {line: unknown(line.split()) for line in lines if unknown(line.split())} == {}


def test_a_command_that_does_not_exist_is_found() -> None:
    """The test above would notice."""
    assert unknown(["keys", "creat", "me"]) == ["creat"]
    assert unknown(["submit", "file.py", "--langauge=python"]) == ["--langauge"]
    assert unknown(["dlq", "list", "--json"]) == []
