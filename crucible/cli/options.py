"""Command line options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QueueUrl = Annotated[
    str | None,
    typer.Option(help="The task queue server (CELERY_BROKER_URL).", show_default=False),
]
EventBusUrl = Annotated[
    str | None,
    typer.Option(help="The event bus server (CRUCIBLE_EVENT_BUS_URL).", show_default=False),
]
ResultUrl = Annotated[
    str | None,
    typer.Option(help="Where results are stored (CELERY_RESULT_BACKEND).", show_default=False),
]
Host = Annotated[
    str | None, typer.Option(help="Address to listen on (CRUCIBLE_HOST).", show_default=False)
]
Port = Annotated[
    int | None,
    typer.Option(help="Port to listen on (CRUCIBLE_PORT).", show_default=False, min=0, max=65535),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        help="Programs to run at once (CRUCIBLE_CONCURRENCY); 0: one a core, at least two.",
        show_default=False,
        min=0,
    ),
]
LogLevel = Annotated[
    str | None, typer.Option(help="debug, info, warning or error.", show_default=False)
]
