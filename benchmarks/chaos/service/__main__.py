"""``python -m benchmarks.chaos.service``: kill every process of the service under load.

The load has all that the service does, and every record of it is compared: exit code 1 when they do
not agree.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.chaos.disk import possible
from benchmarks.chaos.links import own_engine
from benchmarks.chaos.network.hosts import possible as network_possible
from benchmarks.chaos.service.battle import Battle

_SHOWN = 30


def _show(phase: str) -> None:
    print(phase, flush=True)


async def _run(asked: argparse.Namespace) -> int:
    if (running := asyncio.current_task()) is not None:
        # Whoever ends it early finds no process, disk or network of it left over.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crucible-all-")))
        directory.chmod(0o711)
        engine = await stack.enter_async_context(own_engine()) if asked.engine else None
        battle = Battle(
            directory,
            asked.seed,
            _show,
            engine,
            stock=not asked.without_stock,
            own_disks=possible(),
            apart=network_possible(),
            sqlite=asked.sqlite,
            only=asked.only,
        )
        outages = asked.kills // 8 if asked.outages is None else asked.outages
        verdict = await battle.run(asked.minutes * 60, asked.kills, asked.pause, outages)
    if asked.logs:
        asked.logs.mkdir(parents=True, exist_ok=True)
        for part in battle.parts:
            (asked.logs / f"{part.name}.log").write_text("\n".join(part.log))
    print(f"load: {verdict.kinds}, {verdict.deliveries} evaluations delivered")
    print(f"{verdict.killed} kills: {verdict.kills}")
    print(f"{sum(verdict.outages.values())} outages: {verdict.outages}")
    print(f"full disks that were noticed: {verdict.noticed}")
    print(f"ends without an event, explained by a kill: {verdict.explained}")
    for one in verdict.lost_by_stock:
        print(f"  lost by stock: {one}")
    for one in verdict.of_stock:
        print(f"  of stock: {one}")
    for fault in verdict.faults[:_SHOWN]:
        print(f"  {fault}")
    print(f"{len(verdict.faults)} faults in {verdict.seconds:.0f} s")
    return 1 if verdict.faults else 0


def main() -> int:
    """Run one battle and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos.service", description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument(
        "--outages", type=int, help="of disks, links and clocks; one for eight kills by default"
    )
    parser.add_argument(
        "--pause", type=float, default=1.0, help="seconds between a client's requests"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--engine", action="store_true", help="start an engine of its own, and kill that too"
    )
    parser.add_argument(
        "--without-stock",
        action="store_true",
        help="leave the stock worker out, and excuse nothing",
    )
    parser.add_argument(
        "--sqlite",
        action="store_true",
        help="keep the history in a SQLite file, whose disk is full and slow as well",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="FAULT", help="such as 'queue disk full'"
    )
    parser.add_argument("--logs", type=Path, help="write what each part wrote to this directory")
    try:
        return asyncio.run(_run(parser.parse_args()))
    except (asyncio.CancelledError, KeyboardInterrupt):
        print("stopped; nothing was judged")
        return 130


if __name__ == "__main__":
    sys.exit(main())
