"""A graded evaluation as a person reads it: a table of its tests, and what they come to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crucible.models import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.status import Status

#: Rows at most; of more tests those are shown that did not pass.
MAX_ROWS = 100
#: Seconds between two lines of progress where the output is no terminal.
LINES_S = 1.0
#: Width where the output is no terminal, so that nothing is folded there.
_WIDE = 200
_COLOURS = {
    Verdict.ACCEPTED: "green",
    Verdict.PARTIAL: "yellow",
    Verdict.PRESENTATION_ERROR: "yellow",
    Verdict.SKIPPED: "dim",
}


def print_graded(found: dict[str, Any]) -> None:
    """Print a graded evaluation."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    tests: list[dict[str, Any]] = found["tests"]
    error = (found.get("compile") or {}).get("error")
    if found["verdict"] == Verdict.COMPILE_ERROR:
        console.print(Text(error or ""))
    else:
        shown = tests
        if len(tests) > MAX_ROWS:
            shown = [test for test in tests if test["verdict"] != Verdict.ACCEPTED][:MAX_ROWS]
        console.print(_table(shown))
        if len(shown) < len(tests):
            console.print(f"{len(tests) - len(shown)} more tests are not shown", style="dim")
    console.print(summary(found))


def summary(found: dict[str, Any]) -> Text:
    """One line: the verdict, how many passed, the score."""
    text = Text()
    text.append(str(found["verdict"]), style=f"bold {_colour(found['verdict'])}")
    text.append(f": {found['passed']} of {found['total']} tests passed, score {found['score']:.3g}")
    return text


class Watcher:
    """Shows how far the tests are: in a line that changes, or line by line where none can.

    Args:
        status: the line of a terminal.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._shown_s = 0.0

    def __call__(self, found: dict[str, Any]) -> None:
        """Show what is known of an evaluation that runs."""
        line = _progress_line(found)
        if self._status.console.is_terminal:
            self._status.update(line)
        elif found.get("progress") and time.monotonic() - self._shown_s > LINES_S:
            self._shown_s = time.monotonic()
            typer.echo(f"crucible: {line}", err=True)


def _progress_line(found: dict[str, Any]) -> str:
    progress = found.get("progress")
    if not progress:
        return f"{found['eval_id']} {found['status']} …"
    done, total, passed = progress["tests_done"], progress["tests_total"], progress["passed"]
    return f"{found['eval_id']} {done} of {total} tests, {passed} passed …"


def _table(tests: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("test")
    table.add_column("verdict")
    for name in ("points", "time", "memory"):
        table.add_column(name, justify="right")
    table.add_column("message", overflow="fold")
    for test in tests:
        usage = test["usage"]
        ran = test["verdict"] != Verdict.SKIPPED
        table.add_row(
            Text(test["id"]),
            Text(test["verdict"], style=_colour(test["verdict"])),
            f"{test['points']:.3g}" if ran else "",
            f"{usage['wall_time_ms']} ms" if ran else "",
            f"{usage['memory_peak_kb'] / 1024:.1f} MiB" if ran else "",
            Text((test["message"] or "").partition("\n")[0]),
        )
    return table


def _colour(verdict: str) -> str:
    return _COLOURS.get(Verdict(verdict), "red")
