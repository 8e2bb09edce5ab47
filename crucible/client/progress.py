"""How far many programs are: a bar on standard error, or whatever the caller does with it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    #: Called with how many have ended, and of how many; None where that is not known.
    OnProgress = Callable[[int, int | None], None]


@contextmanager
def reported(progress: bool | OnProgress, total: int | None) -> Iterator[OnProgress]:
    """Who is to be called as programs end.

    Args:
        progress: True draws a bar on standard error, False does nothing.
        total: how many programs there are, if that is known.
    """
    if callable(progress):
        yield progress
    elif progress:
        with _bar(total) as on_progress:
            yield on_progress
    else:
        yield _nobody


def _nobody(done: int, total: int | None) -> None:
    """Nobody wants to know."""


@contextmanager
def _bar(total: int | None) -> Iterator[OnProgress]:
    # Costs a tenth of a second to import, and most callers have no terminal.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("programs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("programs", total=total)

        def on_progress(done: int, _: int | None) -> None:
            bar.update(task, completed=done)

        yield on_progress
