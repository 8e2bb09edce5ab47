"""``python -m benchmarks.chaos.network``: cut links between hosts; exit code 1 on a fault."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from benchmarks.chaos.network.hosts import possible
from benchmarks.chaos.network.trial import Trial


def main() -> int:
    """Cut, heal, judge; 1 where anything was lost, failed or has two results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos.network", description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0, help="that each cut lasts")
    asked, began = parser.parse_args(), time.monotonic()
    if not possible():
        print("this takes root, ip and iptables")
        return 2

    def tell(phase: str) -> None:
        print(f"{time.monotonic() - began:6.0f} s  {phase}", flush=True)

    found = asyncio.run(Trial(tell).run(asked.seconds))
    print(
        f"{found.accepted} accepted, {len(found.lost)} lost, {len(found.results)} "
        f"with two results, {found.reruns} begun twice, refused {found.refused}"
    )
    print(f"begun by {found.by_worker}, meanwhile {found.meanwhile}")
    print("; ".join(found.faults) or "well")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
