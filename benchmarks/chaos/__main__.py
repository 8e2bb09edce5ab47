"""``python -m benchmarks.chaos``: run, judge, report; exit code 1 when Crucible has findings."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.chaos.records import FaultKind
from benchmarks.chaos.report import ProgressDisplay, table, write
from benchmarks.chaos.run import SEATS, ChaosRun, Options

if TYPE_CHECKING:
    from benchmarks.chaos.verdict import Verdict

_SHOWN = 10


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0, help="how long faults are injected")
    parser.add_argument("--kills", type=int, default=100, help="number of SIGKILLs")
    parser.add_argument("--seed", type=int, default=1, help="seed of load and faults")
    parser.add_argument(
        "--rate", type=float, default=24.0, help="works (tasks or canvases) per second"
    )
    parser.add_argument(
        "--programs", type=int, default=5,
        help="works that run a program in a sandbox, for every hundred others; async workers only",
    )  # fmt: skip
    parser.add_argument("--subject", choices=[*SEATS, "both"], default="crucible")
    parser.add_argument(
        "--without", action="append", default=[], choices=[kind.name.lower() for kind in FaultKind],
        help="leave out a kind of fault; may be repeated",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    parser.add_argument("--logs", type=Path, help="write the workers' last lines to this directory")
    return parser.parse_args()


async def _run(asked: argparse.Namespace, subject: str) -> Verdict:
    without = tuple(FaultKind[name.upper()] for name in asked.without)
    options = Options(
        subject,
        asked.minutes * 60,
        asked.kills,
        asked.seed,
        asked.rate,
        without=without,
        programs=asked.programs if subject == "crucible" else 0,
    )
    display = ProgressDisplay(asked.kills)
    running = asyncio.current_task()
    if running is not None:
        # Cancelled on SIGTERM, so that no child process is left over.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    chaos_run = ChaosRun(options, display.show)
    try:
        return await chaos_run.run()
    finally:
        display.close()
        if asked.logs:
            asked.logs.mkdir(parents=True, exist_ok=True)
            for node, lines in chaos_run.logs.items():
                (asked.logs / f"{node}.log").write_text("\n".join(lines))


def _print_findings(console: Console, subject: str, verdict: Verdict) -> None:
    for name in ("lost", "stuck", "failed", "unstored", "dead_letters", "wrong", "early",
                 "unexplained", "events_missing", "leaked", "sandboxes_left",
                 "unexpected_exits"):  # fmt: skip
        for example in getattr(verdict, name)[:_SHOWN]:
            console.print(f"{subject} {name}: {example}", soft_wrap=True, markup=False)


def main() -> int:
    """Run each subject; exit code 1 when a run with async workers has findings."""
    asked = _arguments()
    console = Console()
    subjects = ["crucible", "stock"] if asked.subject == "both" else [asked.subject]
    try:
        verdicts = {subject: asyncio.run(_run(asked, subject)) for subject in subjects}
    except (asyncio.CancelledError, KeyboardInterrupt):
        console.print("stopped; nothing was judged")
        return 130
    for subject, verdict in verdicts.items():
        _print_findings(console, subject, verdict)
    console.print(table(verdicts))
    if asked.json:
        options = {key: str(value) for key, value in vars(asked).items()}
        write(asked.json, verdicts, options)
    failures = {
        subject: verdict.failures
        for subject, verdict in verdicts.items()
        if subject != "stock" and verdict.failures
    }
    for subject, found in failures.items():
        console.print(f"[bold red]{subject} failed[/]: {found}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
