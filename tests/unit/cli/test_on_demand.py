"""Subcommands are imported when they are asked for, and only then."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from crucible.cli.main import app

LIST_IMPORTED = """
import json, sys
from contextlib import suppress
from crucible.cli.main import app
with suppress(SystemExit):
    app(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""


def imported_by(*words: str) -> set[str]:
    """The modules that are in memory after a command."""
    done = subprocess.run(
        [sys.executable, "-c", LIST_IMPORTED, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("words", [("settings", "--json"), ("queues", "--help"), ("--version",)])
def test_a_command_imports_no_other(words: tuple[str, ...]) -> None:
    """Nor what only others need, such as an HTTP client."""
    imported = imported_by(*words)
    commands = {"settings", "queues", "worker", "assess", "up", "client"} - {words[0]}
    assert not imported & {f"crucible.cli.{name}" for name in commands}
    assert not imported & {"aiohttp", "sqlalchemy", "redis"}


def test_every_command_is_described() -> None:
    """Each name leads to a command or to a group of that name."""
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    names = root.list_commands(None)  # type: ignore[arg-type]
    found = {name: root.get_command(None, name) for name in names}  # type: ignore[arg-type]
    assert {name: command and command.name for name, command in found.items()} == {
        name: name for name in names
    }
    assert all(command and command.get_short_help_str() for command in found.values())


@pytest.mark.parametrize(
    ("typed", "meant"), [("stats", "'status'"), ("worke", "'worker'"), ("assessment", "'assess'")]
)
def test_a_name_that_is_not_known_is_answered_by_the_nearest(typed: str, meant: str) -> None:
    """Among all commands, imported or not."""
    done = CliRunner().invoke(app, [typed])
    assert done.exit_code == 2
    assert f"No such command '{typed}'" in done.output
    assert meant in done.output
