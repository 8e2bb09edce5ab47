"""``python -m benchmarks.chaos.outages``: the matrix, or some of it; exit code 1 on a fault."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.chaos.outages.cells import MATRIX, SHORT, Cell, select
from benchmarks.chaos.outages.matrix import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.chaos.outages.verdict import Verdict


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos.outages", description=__doc__)
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN",
        help="cells such as 12-frozen-worker or '*-full-both'; may be repeated",
    )  # fmt: skip
    parser.add_argument("--short", action="store_true", help="a few cells instead of all")
    parser.add_argument("--side-by-side", type=int, default=4, help="cells that run at once")
    parser.add_argument("--json", type=Path, help="write everything found to this file")
    parser.add_argument("--logs", type=Path, help="write the processes' logs to this directory")
    return parser.parse_args()


def _table(verdicts: Sequence[Verdict]) -> Table:
    shown = Table(title="Outages of the queue server")
    for title in ("cell", "accepted", "refused", "running", "lost", "twice", "failed", "left",
                  "ended", "api back, s", "worker back, s"):  # fmt: skip
        shown.add_column(title)
    for verdict in verdicts:
        refused = ", ".join(f"{status or 'silence'} {n}" for status, n in verdict.refused.items())
        back = [
            "" if s is None else f"{s:.1f}" for s in (verdict.api_back_s, verdict.worker_back_s)
        ]
        shown.add_row(
            verdict.cell, str(verdict.accepted), refused, str(verdict.running),
            *(str(len(part)) for part in (verdict.lost, verdict.twice, verdict.failed)),
            str(verdict.left), ", ".join(verdict.ended),
            *back,
        )  # fmt: skip
    return shown


def _write(path: Path, verdicts: Sequence[Verdict]) -> None:
    from benchmarks.machine import describe

    document = {"version": 1, "machine": describe(), "cells": verdicts}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))


async def _run(asked: argparse.Namespace, cells: Sequence[Cell]) -> list[Verdict]:
    running, began = asyncio.current_task(), time.monotonic()
    if running is not None:
        # Whoever ends it early finds no process of it left over.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    over = 0

    def tell(cell: Cell, phase: str, verdict: Verdict | None) -> None:
        nonlocal over
        over += verdict is not None
        found = "" if verdict is None else f": {', '.join(verdict.faults + verdict.late) or 'well'}"
        at = time.monotonic() - began
        print(f"{at:6.0f} s  {over}/{len(cells)}  {cell.name} {phase}{found}", flush=True)

    return await run(cells, asked.side_by_side, tell, asked.logs)


def main() -> int:
    """Run the cells asked for; 1 where anything was lost, run twice, failed, left or late."""
    asked = _arguments()
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        cells = select(asked.only, SHORT if asked.short else MATRIX)
        verdicts = asyncio.run(_run(asked, cells))
    except ValueError as error:
        console.print(str(error))
        return 2
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.print("stopped; nothing was judged")
        return 130
    console.print(_table(verdicts))
    if asked.json:
        _write(asked.json, verdicts)
    return 1 if any(verdict.faults or verdict.late for verdict in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main())
