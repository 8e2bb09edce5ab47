"""Demonstrates the migration from the legacy queue to Celery under load, with processes killed.

Exit code 1 when an evaluation was lost, its outcomes differed between the sides or from what is
expected of the program, or a client's submission failed.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tests")]

import aiohttp  # noqa: E402
from installation import Installation, running  # noqa: E402
from load import Load, Tally  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402
from support.corpus import CorpusProgram, load_corpus  # noqa: E402

from crucible.migration.operations.sides import Sides  # noqa: E402
from crucible.migration.operations.verify import verify  # noqa: E402
from crucible.models import OWN_END  # noqa: E402
from crucible.settings import load_settings  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

console = Console(width=150)


def quick_programs() -> list[CorpusProgram]:
    """The deterministic programs that end without reaching a limit, which would only cost time."""
    programs = [p for p in load_corpus() if p.deterministic and p.verdict in OWN_END]
    # Sorted by name they are grouped by language, and the compiled ones would fill one phase.
    random.Random(0).shuffle(programs)
    return programs


async def cli(installation: Installation, *arguments: str) -> int:
    """Run a ``crucible`` command as an operator would type it."""
    console.print(f"  $ crucible {' '.join(arguments)}")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", *arguments),
        env=installation.environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    for line in out.decode(errors="replace").strip().splitlines()[-4:]:
        console.print(f"    {line}", markup=False, highlight=False)
    return process.returncode or 0


class Demo:
    """The phases of the demonstration, in order."""

    def __init__(self, installation: Installation, load: Load, seconds: float) -> None:
        self._installation = installation
        self._load = load
        self._seconds = seconds
        self.rows: list[tuple[str, Tally]] = []

    async def phase(
        self, name: str, *command: str, fault: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Set the switches, keep the load on for a while, and inject a fault in the middle."""
        console.print(f"[bold]{name}[/bold]")
        tally, began = self._load.phase(), time.monotonic()
        self.rows.append((name, tally))
        if command and await cli(self._installation, "migration", *command) != 0:
            raise SystemExit(f"crucible migration {' '.join(command)} failed")
        await asyncio.sleep(self._seconds / 3)
        if fault is not None:
            await fault()
        await asyncio.sleep(max(self._seconds / 3, began + self._seconds - time.monotonic()))
        tally.seconds = time.monotonic() - began

    async def run(self) -> None:
        """Run every phase."""
        installation = self._installation
        await self.phase("legacy only")
        await self.phase(
            "dual write", "set", "--dual-write", "--reason", "compare",
            fault=self._say("the queue server is killed", lambda: installation.kill_redis(2.0)),
        )  # fmt: skip
        await self.phase(
            "10 %", "set", "--no-dual-write", "--percentage", "0.1",
            fault=self._say("a worker is killed", lambda: installation.kill("async-worker")),
        )  # fmt: skip
        await self.phase(
            "25 %", "set", "--percentage", "0.25",
            fault=self._say(
                "Celery's executor is killed", lambda: installation.kill("executor-celery")
            ),
        )  # fmt: skip
        await self.phase(
            "50 %", "set", "--percentage", "0.5",
            fault=self._say("an api process is killed", lambda: installation.kill("api-2")),
        )  # fmt: skip
        await self.phase("90 %", "set", "--percentage", "0.9", fault=self._leave_some_inside)
        await self.phase("100 %", "set", "--percentage", "1.0", fault=self._lose_the_legacy_queue)
        await self.phase(
            "100 %, again", fault=self._say(
                "the queue server is killed", lambda: installation.kill_redis(2.0)
            ),
        )  # fmt: skip
        await self.phase("rollback", "rollback", "--reason", "a rehearsal")
        await self.phase("decommission", "drain", "--reason", "the end", fault=self._decommission)

    def _say(
        self, what: str, fault: Callable[[], Awaitable[object]]
    ) -> Callable[[], Awaitable[object]]:
        async def happen() -> None:
            console.print(f"  ! {what}")
            await fault()

        return happen

    async def _leave_some_inside(self) -> None:
        console.print("  ! the legacy workers stop, so that tasks wait inside the legacy queue")
        await asyncio.gather(
            *(self._installation.processes[f"legacy-worker-{n}"].stop() for n in (1, 2))
        )

    async def _lose_the_legacy_queue(self) -> None:
        console.print("  ! the legacy queue is killed with tasks inside")
        await self._installation.kill("legacy-queue")
        await asyncio.gather(
            *(self._installation.processes[f"legacy-worker-{n}"].start() for n in (1, 2))
        )
        await cli(self._installation, "migration", "verify", "--repair")

    async def _decommission(self) -> None:
        console.print("  ! the legacy side is switched off for good")
        names = ("legacy-worker-1", "legacy-worker-2", "legacy-queue")
        await asyncio.gather(*(self._installation.processes[name].stop() for name in names))


async def mismatches(installation: Installation) -> dict[str, Any]:
    """The counts of the dual-write comparison."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{installation.apis[0]}/api/v1/migration/mismatches") as answer,
    ):
        found: dict[str, Any] = await answer.json()
    return found


def show(rows: list[tuple[str, Tally]], lost: int, compared: dict[str, int]) -> None:
    """The table."""
    table = Table(
        "phase", "submitted", "completed", "lost", "wrong", "platform faults", "failed requests",
        "error rate", "P50", "P99", "legacy/s", "celery/s",
    )  # fmt: skip
    for name, tally in rows:
        asked = tally.submitted + len(tally.failed_requests)
        errors = len(tally.failed_requests) + len(tally.platform)
        seconds = tally.seconds or 1.0
        table.add_row(
            name, str(tally.submitted), str(tally.completed), str(len(tally.unended)),
            str(len(tally.wrong)), str(len(tally.platform)), str(len(tally.failed_requests)),
            f"{errors / max(1, asked):.2%}", *_percentiles(tally.latencies_s),
            f"{tally.by_side['legacy'] / seconds:.1f}", f"{tally.by_side['celery'] / seconds:.1f}",
        )  # fmt: skip
    console.print(table)
    counts = ", ".join(f"{number} {name}" for name, number in compared.items())
    console.print(f"dual write compared: {counts}")
    console.print(f"verify: {lost} evaluations will never finish without intervention")
    for name, tally in rows:
        for sentence in (*tally.wrong, *tally.platform, *tally.unended, *tally.failed_requests):
            console.print(f"{name}: {sentence}", markup=False)


def _percentiles(values: list[float]) -> tuple[str, str]:
    ordered = sorted(values)
    if not ordered:
        return "–", "–"
    return tuple(  # type: ignore[return-value]  # two, as the call gives two
        f"{1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.0f} ms"
        for share in (0.5, 0.99)
    )


async def demonstrate(seconds: float, rate: float, folder: Path) -> int:
    """Run the demonstration; returns the exit code. SIGTERM stops everything, as Ctrl-C does."""
    current = asyncio.current_task()
    assert current is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, current.cancel)
    console.print(f"starting both sides; logs in {folder}")
    async with running(folder) as installation:
        console.print(f"api {', '.join(installation.apis)}  flower {installation.flower_url}")
        async with Load(installation.apis, quick_programs(), rate) as load:
            demo = Demo(installation, load, seconds)
            await demo.run()
            await load.finish()
        settings = load_settings(installation.environ)
        async with Sides.connect(settings) as sides:
            found, _ = await verify(sides)
        compared = (await mismatches(installation))["compared"]
    lost = len(found.missing)
    show(demo.rows, lost, compared)
    for one in found.missing:
        console.print(f"{one.place}  {one.eval_id}  {one.queue_system}  {one.created_at}")
    tallies = [tally for _, tally in demo.rows]
    bad = (
        lost
        + compared["mismatch"]
        + sum(len(t.unended) + len(t.wrong) + len(t.failed_requests) for t in tallies)
    )
    console.print("[red]failed[/red]" if bad else "[green]nothing lost, nothing different[/green]")
    return 1 if bad else 0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=12.0, help="length of each phase")
    parser.add_argument("--rate", type=float, default=3.0, help="submissions per second")
    parser.add_argument("--logs", type=Path, help="keep the logs here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crucible-demo-") as scratch:
        folder = given.logs or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            sys.exit(asyncio.run(demonstrate(given.seconds, given.rate, folder)))
        except asyncio.CancelledError:
            sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    main()
