"""What the migration commands share: connections to both sides, and the user's name."""

from __future__ import annotations

import asyncio
import getpass
import socket
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.migration.operations.sides import Sides

T = TypeVar("T")

Reason = Annotated[str, typer.Option(help="Reason, kept in the audit log.")]
#: Settings of the commands that connect to both sides.
SECTIONS = (Section.TASK_QUEUE, Section.LEGACY_QUEUE, Section.CEILINGS)


def with_sides(settings: Settings, work: Callable[[Sides], Awaitable[T]]) -> T:
    """The result of ``work``, which gets connections to both sides while it runs."""
    from crucible.migration.operations.sides import Sides

    async def do() -> T:
        async with Sides.connect(settings) as sides:
            return await work(sides)

    return asyncio.run(do())


def who() -> str:
    """``user@host`` of the person at the terminal, for the audit log."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
