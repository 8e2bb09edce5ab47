"""``python -m benchmarks.chaos.sentinel``: failovers in a row; exit code 1 on a fault."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

import msgspec

from benchmarks.chaos.sentinel.failover import Trial


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos.sentinel", description=__doc__
    )
    parser.add_argument("--rounds", type=int, default=20, help="masters killed, one after another")
    parser.add_argument("--replicas", type=int, default=1, help="CRUCIBLE_REPLICAS of the api")
    parser.add_argument("--json", type=Path, help="write everything found to this file")
    return parser.parse_args()


def main() -> int:
    """Run the rounds; 1 where anything was lost or failed, or the service was late."""
    asked, began = _arguments(), time.monotonic()

    def tell(phase: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {phase}", flush=True)

    found = asyncio.run(Trial(asked.replicas, tell).run(asked.rounds))
    for number, one in enumerate(found.rounds, 1):
        print(f"round {number}: api back {one.api_back_s} s, workers {one.worker_back_s} s")
    print(f"{found.accepted} accepted, {len(found.lost)} lost, {len(found.failed)} failed, "
          f"{found.twice} begun twice, refused {found.refused}")  # fmt: skip
    wrong = found.faults + found.late
    if wrong:
        print("; ".join(wrong))
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
