"""Captures what stock Celery writes to Redis, into ``tests/golden/<version>/*.json``.

    .venv/bin/python tests/golden/capture.py [VERSION ...] [--only publishes|traces|control]

Each capture is made against a scratch server of its own. Volatile parts (ids, times, hosts) are
stored as they were; ``stock_rig.mask`` takes them out for comparisons. The tables asked are
``calls.json``, ``scenarios.json`` and ``stock_rig.remote_control.COMMANDS``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stock_rig import golden
from stock_rig.publishes import publish_table
from stock_rig.remote_control import run_commands
from stock_rig.scenarios import run_table

from crucible.embedded.server import EmbeddedServer

CAPTURES = {"publishes": publish_table, "traces": run_table, "control": run_commands}


async def main(versions: list[str], names: list[str]) -> None:
    """Make the captures ``names`` of each version, each against an empty server."""
    for version in versions:
        for name in names:
            with tempfile.TemporaryDirectory() as directory:
                async with EmbeddedServer(Path(directory), durable=False) as server:
                    installed, entries = await CAPTURES[name](version, server.url)
            golden.save(version, name, installed, entries)
            print(f"captured {version} {name}: {len(entries)} entries", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("versions", nargs="*", default=list(golden.GOLDEN_VERSIONS))
    parser.add_argument("--only", choices=list(CAPTURES), action="append")
    chosen = parser.parse_args()
    asyncio.run(main(chosen.versions, chosen.only or list(CAPTURES)))
