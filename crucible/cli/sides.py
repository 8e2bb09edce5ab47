"""What commands about a migration share: whom they ask, and who asks."""

from __future__ import annotations

import asyncio
import getpass
import socket
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from crucible.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.migration.sides import Sides

T = TypeVar("T")

Reason = Annotated[str, typer.Option(help="Why; kept with the change.")]
ServiceUrl = Annotated[
    str | None,
    typer.Option(help="The legacy queue service (QUEUE_SERVICE_URL).", show_default=False),
]


def settings_of(queue_url: str | None, service_url: str | None) -> Settings:
    """The settings with a command's flags."""
    flags = {"celery_broker_url": queue_url, "queue_service_url": service_url}
    return load_settings(flags=flags)


def with_sides(settings: Settings, work: Callable[[Sides], Awaitable[T]]) -> T:
    """What ``work`` makes of both sides; connected for as long as it lasts."""
    from crucible.migration.sides import Sides

    async def do() -> T:
        async with Sides.connect(settings) as sides:
            return await work(sides)

    return asyncio.run(do())


def who() -> str:
    """Who types the command, for the audit."""
    return f"{getpass.getuser()}@{socket.gethostname()}"
