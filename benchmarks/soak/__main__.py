"""``python -m benchmarks.soak``: half load with everything on; exit code 1 when something grows."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from benchmarks.soak.picture import draw
from benchmarks.soak.run import soak
from benchmarks.soak.samples import UNITS


def main() -> int:
    """Run one soak, print what grew, and draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, nargs="?", const=Path("docs", "pictures", "soak.svg"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crucible-soak-") as name:
        directory = Path(name)
        # PostgreSQL is run by a user of its own, who has to pass.
        directory.chmod(0o711)
        soaked = asyncio.run(
            soak(directory, asked.seconds, asked.seed, lambda phase: print(phase, flush=True))
        )
    print(f"held {soaked.held_per_s:.1f} of {soaked.full_per_s:.1f} requests a second")
    for series in soaked.samples.series.values():
        if series.quarters is not None:
            before, after = series.quarters
            mark = (
                "" if series.judged and series.flat else "GROWS" if series.judged else "by design"
            )
            what = f"{series.kind} of {series.name}, {UNITS[series.kind]}"
            print(f"  {what:<45} {before:10.1f} {after:10.1f} {mark}")
    for fault in soaked.faults[:20]:
        print(f"  {fault}")
    if asked.plot is not None:
        title = f"{asked.seconds / 60:.0f} minutes at {soaked.held_per_s:.1f} requests a second"
        draw(soaked.samples, asked.plot, title)
    return 1 if soaked.faults or soaked.samples.rising else 0


if __name__ == "__main__":
    sys.exit(main())
