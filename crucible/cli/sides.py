"""What commands about a migration share: whom they ask, and who asks."""

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

Reason = Annotated[str, typer.Option(help="Why; kept with the change.")]
#: What a command that looks at both sides reads.
SECTIONS = (Section.TASK_QUEUE, Section.LEGACY_QUEUE, Section.CEILINGS)


def with_sides(settings: Settings, work: Callable[[Sides], Awaitable[T]]) -> T:
    """What ``work`` makes of both sides; connected for as long as it lasts."""
    from crucible.migration.operations.sides import Sides

    async def do() -> T:
        async with Sides.connect(settings) as sides:
            return await work(sides)

    return asyncio.run(do())


def who() -> str:
    """Who types the command, for the audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
