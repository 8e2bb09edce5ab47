"""Verdicts side by side: as a table and as JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.chaos.verdict import RETURN_S, Recovery, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.chaos.run import RunProgress

_LINE_S = 10.0


def rows(verdict: Verdict) -> dict[str, str]:
    """The rows of the table for one verdict, in order."""
    explained = ", ".join(f"{cause} {count}" for cause, count in verdict.explained.items())
    return {
        "tasks accepted": str(verdict.accepted),
        "works": ", ".join(f"{kind} {count}" for kind, count in sorted(verdict.works.items())),
        "executions": str(verdict.executions),
        "SIGKILLs (at work)": f"{verdict.faults.get('SIGKILL', 0)} ({verdict.kills_at_work})",
        "other faults": ", ".join(
            f"{kind} {count}" for kind, count in verdict.faults.items() if kind != "SIGKILL"
        ),
        "lost": f"{len(verdict.lost)}"
        + (f" (+{verdict.behind} waiting for them)" if verdict.behind else ""),
        "stuck": str(len(verdict.stuck)),
        "failed": str(len(verdict.failed)),
        "results missing": str(len(verdict.unstored)),
        "dead letters": str(len(verdict.dead_letters)),
        "wrong results": str(len(verdict.wrong)),
        "early": str(len(verdict.early)),
        "duplicates explained": f"{sum(verdict.explained.values())}"
        + (f" ({explained})" if explained else ""),
        "duplicates unexplained": str(len(verdict.unexplained)),
        "events missing (due)": f"{len(verdict.events_missing)} ({verdict.events_due})",
        "keys leaked": str(len(verdict.leaked)),
        "sandboxes left": str(len(verdict.sandboxes_left)),
        "unexpected exits": str(len(verdict.unexpected_exits)),
        f"claims back, s (target {RETURN_S:.0f})": spread(verdict.returns),
        "runs again, s": spread(verdict.recovery),
    }


def spread(times: Recovery) -> str:
    """Percentiles of times after a kill."""
    if not times.count:
        return "-"
    return f"P50 {times.median_s}, P99 {times.p99_s}, max {times.max_s} of {times.count}"


def table(verdicts: dict[str, Verdict]) -> Table:
    """A table with a column for each subject."""
    shown = Table(title="Chaos test", show_lines=False)
    shown.add_column("")
    columns = {subject: rows(verdict) for subject, verdict in verdicts.items()}
    for subject in columns:
        shown.add_column(subject, overflow="fold")
    for name in next(iter(columns.values())):
        shown.add_row(name, *(column[name] for column in columns.values()))
    return shown


def write(path: Path, verdicts: dict[str, Verdict], options: dict[str, Any]) -> None:
    """Write everything as JSON, with a description of the machine."""
    from benchmarks.machine import describe

    document = {"version": 2, "options": options, "machine": describe(), "verdicts": verdicts}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1))


class ProgressDisplay:
    """A progress bar on a terminal; elsewhere a line at intervals."""

    def __init__(self, kills: int) -> None:
        self._kills = kills
        self._said = -_LINE_S
        self._phase = ""
        self._bar: Progress | None = None
        if sys.stdout.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
            )  # fmt: skip
            self._task = self._bar.add_task("", total=max(1, kills), text="")
            self._bar.start()

    def show(self, now: RunProgress) -> None:
        """Show the progress."""
        text = (
            f"{now.kills}/{self._kills} kills, {now.faults} faults, {now.accepted} works accepted, "
            f"{now.ended} tasks ended, {now.open} open"
        )
        if self._bar is not None:
            self._bar.update(
                self._task, description=f"{now.subject} {now.phase}", completed=now.kills, text=text
            )
        elif now.elapsed_s - self._said >= _LINE_S or now.phase != self._phase:
            self._said, self._phase = now.elapsed_s, now.phase
            print(f"{now.elapsed_s:6.0f} s  {now.subject} {now.phase}: {text}", flush=True)

    def close(self) -> None:
        """Restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
