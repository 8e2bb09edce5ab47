"""Commands beside each other, for subjects that are made of several. Standard library only."""

from __future__ import annotations

from typing import Any

from command import Command

_commands: list[Command] = []


def start(*arguments: str, **environment: str) -> Command:
    """Start a command; ``run`` checks it and ``teardown`` ends it."""
    command = Command(*arguments, **environment)
    _commands.append(command)
    return command


def pids() -> list[int]:
    """Process ids in the order of the starts."""
    return [command.pid for command in _commands]


def run(job: dict[str, Any]) -> None:
    """The load comes from outside; only what runs is checked."""
    for command in _commands:
        command.check()


def teardown(job: dict[str, Any]) -> None:
    """Stop them in the order they were started."""
    for command in _commands:
        command.stop()
