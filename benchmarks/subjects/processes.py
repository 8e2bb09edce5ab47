"""Child processes of subjects that consist of several commands. Standard library only."""

from __future__ import annotations

from typing import Any

from command import Command

_commands: list[Command] = []


def start(*arguments: str, **environment: str) -> Command:
    """Start a command; ``run`` checks that it is alive and ``teardown`` stops it."""
    command = Command(*arguments, **environment)
    _commands.append(command)
    return command


def pids() -> list[int]:
    """Process ids in the order they were started."""
    return [command.pid for command in _commands]


def run(job: dict[str, Any]) -> None:
    """Check that all commands are alive; a load generator sends the requests."""
    for command in _commands:
        command.check()


def teardown(job: dict[str, Any]) -> None:
    """Stop them in the order they were started."""
    for command in _commands:
        command.stop()
