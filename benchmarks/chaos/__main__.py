"""``python -m benchmarks.chaos``: fight, judge, tell; exit code 1 when Crucible lost anything."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.chaos.battle import SEATS, Battle, Order
from benchmarks.chaos.records import FaultKind
from benchmarks.chaos.report import Watching, table, write

if TYPE_CHECKING:
    from benchmarks.chaos.verdict import Verdict

_SHOWN = 10


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="length of the storm")
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs in it")
    parser.add_argument("--seed", type=int, default=1, help="of load and storm")
    parser.add_argument("--rate", type=float, default=24.0, help="works a second")
    parser.add_argument("--subject", choices=[*SEATS, "both"], default="crucible")
    parser.add_argument(
        "--without", action="append", default=[], choices=[kind.name.lower() for kind in FaultKind],
        help="leave a kind of fault out; may be repeated",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write everything found to this file")
    parser.add_argument("--logs", type=Path, help="write the workers' last lines to this directory")
    return parser.parse_args()


async def _fight(asked: argparse.Namespace, subject: str) -> Verdict:
    without = tuple(FaultKind[name.upper()] for name in asked.without)
    order = Order(subject, asked.minutes * 60, asked.kills, asked.seed, asked.rate, without=without)
    watching = Watching(asked.kills)
    fighting = asyncio.current_task()
    if fighting is not None:
        # Whoever ends the battle early finds no process of it left over.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, fighting.cancel)
    battle = Battle(order, watching.tell)
    try:
        return await battle.fight()
    finally:
        watching.close()
        if asked.logs:
            asked.logs.mkdir(parents=True, exist_ok=True)
            for node, lines in battle.logs.items():
                (asked.logs / f"{node}.log").write_text("\n".join(lines))


def _tell(console: Console, subject: str, verdict: Verdict) -> None:
    for name in ("lost", "stuck", "failed", "unstored", "buried", "wrong", "early", "unexplained",
                 "events_missing", "leaked", "deserters"):  # fmt: skip
        for example in getattr(verdict, name)[:_SHOWN]:
            console.print(f"{subject} {name}: {example}", soft_wrap=True, markup=False)


def main() -> int:
    """Fight for each subject asked for; 1 when a battle with async workers is not won."""
    asked = _arguments()
    console = Console()
    subjects = ["crucible", "stock"] if asked.subject == "both" else [asked.subject]
    try:
        verdicts = {subject: asyncio.run(_fight(asked, subject)) for subject in subjects}
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.print("stopped; nothing was judged")
        return 130
    for subject, verdict in verdicts.items():
        _tell(console, subject, verdict)
    console.print(table(verdicts))
    if asked.json:
        order = {key: str(value) for key, value in vars(asked).items()}
        write(asked.json, verdicts, order)
    failures = {
        subject: verdict.failures
        for subject, verdict in verdicts.items()
        if subject != "stock" and verdict.failures
    }
    for subject, found in failures.items():
        console.print(f"[bold red]{subject} is not won[/]: {found}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
