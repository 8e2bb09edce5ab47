"""``crucible bench budgets``: processor time of the hot paths against their budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from benchmarks.budgets import Account


def run(
    only: Collection[str], turns: int, scale: float, json_file: Path | None, *, report: bool
) -> None:
    """Measure and show; exit code 1 where a path costs more than it may.

    Args:
        only: these paths; empty for all.
        turns: measurements of each.
        scale: 1.0 for real figures; tests use less.
        json_file: where everything is written as well.
        report: show only.
    """
    from benchmarks import budgets

    console = Console(stderr=True)
    accounts = asyncio.run(
        budgets.measure(
            budgets.read_budgets(budgets.FILE.read_text("utf-8")),
            turns,
            scale,
            lambda path: console.print(f"measuring {path}"),
            only,
        )
    )
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode(_document(accounts))))
    Console(width=None if Console().is_terminal else 160).print(_table(accounts))
    over = [account.path for account in accounts if not account.kept]
    if over and not report:
        typer.echo(f"crucible: over budget: {', '.join(over)}", err=True)
        raise typer.Exit(1)


def _document(accounts: Sequence[Account]) -> list[dict[str, object]]:
    return [{**msgspec.to_builtins(one), "noise": one.noise, "kept": one.kept} for one in accounts]


def _table(accounts: Sequence[Account]) -> Table:
    table = Table(title="processor time of the hot paths", box=None, title_justify="left")
    for heading in ("path", "operation", "us", "probe", "us", "ratio", "noise", "budget", ""):
        table.add_column(
            heading, justify="right" if heading in ("us", "ratio", "noise") else "left"
        )
    for one in accounts:
        table.add_row(
            one.path,
            one.what,
            f"{one.us.median:,.1f}",
            one.budget.probe,
            f"{one.probe_us.median:,.1f}",
            f"{one.ratio.median:.3g}",
            f"{one.noise:.2g}",
            f"<= {one.budget.at_most:g}",
            "kept" if one.kept else "OVER",
        )
    return table
