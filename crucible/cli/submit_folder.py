"""``crucible submit`` of a folder: many programs, a bar while they run, and a table of them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crucible.cli.printing import print_json
from crucible.client import AsyncCrucible
from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.client import Completed


async def run_folder(
    base: str,
    programs: Mapping[str, dict[str, Any]],
    options: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
) -> None:
    """Run programs and print what became of them; exit code 1 unless all verdicts are ok.

    Args:
        base: URL of the API.
        programs: code and language by name.
        options: of all of them.
        wait: whether to wait for them; else only their ids are printed.
        as_json: print JSON instead of a table.
    """
    requests: Any = [{**options, **program} for program in programs.values()]
    names = list(programs)
    async with AsyncCrucible(base) as client:
        if not wait:
            _print_accepted(names, await client.batch(requests), as_json)
            return
        found: list[Completed | None] = [None] * len(names)
        async for completed in client.as_completed(requests, progress=sys.stderr.isatty()):
            found[completed.index] = completed
    ended = [(name, one) for name, one in zip(names, found, strict=True) if one is not None]
    if as_json:
        print_json([_plain(name, one) for name, one in ended])
    else:
        _print_table(ended)
    if any(_verdict(one) != Verdict.OK for _, one in ended):
        raise typer.Exit(1)


def _print_accepted(names: list[str], items: list[Any], as_json: bool) -> None:
    if as_json:
        print_json([{"file": name, "item": item} for name, item in zip(names, items, strict=True)])
    else:
        for name, item in zip(names, items, strict=True):
            detail = (item.error or {}).get("detail", "rejected")
            typer.echo(f"{item.eval_id or detail}\t{name}")
    if any(item.eval_id is None for item in items):
        raise typer.Exit(1)


def _verdict(completed: Completed) -> str:
    evaluation = completed.evaluation
    return "refused" if evaluation is None else str(evaluation.verdict)


def _plain(name: str, completed: Completed) -> dict[str, Any]:
    error = None if completed.error is None else str(completed.error)
    return {"file": name, "evaluation": completed.evaluation, "error": error}


def _print_table(ended: list[tuple[str, Completed]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("verdict")
    table.add_column("exit", justify="right")
    table.add_column("ms", justify="right")
    table.add_column("", overflow="fold")
    for name, one in ended:
        table.add_row(*_row(name, one))
    console = Console()
    console.print(table)
    good = sum(_verdict(one) == Verdict.OK for _, one in ended)
    console.print(f"{good} of {len(ended)} ok", style="green" if good == len(ended) else "red")


def _row(name: str, completed: Completed) -> tuple[str, ...]:
    evaluation, verdict = completed.evaluation, _verdict(completed)
    style = "green" if verdict == Verdict.OK else "red"
    shown = f"[{style}]{verdict}[/]"
    if evaluation is None:
        return escape(name), shown, "", "", escape(str(completed.error))
    exit_code = "" if evaluation.exit_code is None else str(evaluation.exit_code)
    wall_ms = "" if evaluation.usage is None else str(evaluation.usage.wall_time_ms)
    return escape(name), shown, exit_code, wall_ms, escape(_said(evaluation))


def _said(evaluation: Any) -> str:
    """What tells most in one line: the platform's message, else the last line of the error."""
    if evaluation.verdict == Verdict.OK:
        return ""
    lines = [line for line in evaluation.error.splitlines() if line.strip()]
    return evaluation.message or (lines[-1][:200] if lines else "")
