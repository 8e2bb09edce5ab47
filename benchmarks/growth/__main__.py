"""How cost grows, part by part, beside the line it should follow.

    python -m benchmarks.growth --plot docs/pictures --json growth.json
    python -m benchmarks.growth --only depth,tests --quick

A part that has used up ``--seconds`` leaves its larger sizes out and says so. Rates and the
processor time of the whole machine need a machine without other load.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from benchmarks import machine
from benchmarks.growth.apis import keys, sse
from benchmarks.growth.lines import Series, table
from benchmarks.growth.part import Effort
from benchmarks.growth.picture import draw
from benchmarks.growth.programs import history, tests
from benchmarks.growth.queues import depth, tenants, workers
from crucible.errors import CrucibleError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

PARTS: Mapping[str, Callable[[Effort], Awaitable[list[Series]]]] = {
    part.__name__: part for part in (depth, tenants, keys, history, sse, tests, workers)
}


def names(text: str) -> list[str]:
    """The parts of ``--only``.

    Raises:
        argparse.ArgumentTypeError: one does not exist.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in asked if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; have {', '.join(PARTS)}")
    return asked


def sizes(text: str) -> tuple[str, list[int]]:
    """The part and the sizes of ``--sizes``.

    Raises:
        argparse.ArgumentTypeError: no such part, or no rising numbers.
    """
    part, _, rest = text.partition("=")
    names(part)
    try:
        found = [int(one) for one in rest.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not PART=SIZE,SIZE") from None
    if found != sorted(set(found)) or found[0] < 1:
        raise argparse.ArgumentTypeError("sizes are at least 1 and rise")
    return part, found


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=summary)
    parser.add_argument("--only", type=names, default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="without the largest sizes")
    parser.add_argument("--sizes", type=sizes, action="append", default=[], help="PART=SIZE,...")
    parser.add_argument("--seconds", type=float, default=300.0, help="that a part may take")
    parser.add_argument("--scale", type=float, default=1.0, help="less to test the command itself")
    parser.add_argument("--directory", type=Path, help="for servers and databases; needs room")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw growth-PART.svg into it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to it")
    return parser


async def measure(parts: Sequence[str], effort: Effort) -> tuple[list[Series], list[str]]:
    """Every part, printed as it is measured; and the parts that failed."""
    found: list[Series] = []
    failed = []
    for part in parts:
        try:
            measured = await PARTS[part](effort)
        except (CrucibleError, OSError, RuntimeError, ExceptionGroup) as error:
            # Figures of the other parts are kept: together they take half an hour. The group is of
            # clients whose streams ended.
            print(f"{part} failed: {error!r}", file=sys.stderr, flush=True)
            failed.append(part)
            continue
        found += measured
        print("\n".join(table(series) for series in measured), flush=True)
    return found, failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; exit code 1 where a part failed."""
    asked = _parser().parse_args(arguments)
    described = machine.describe()
    with tempfile.TemporaryDirectory(prefix="crucible-growth-", dir=asked.directory) as directory:
        effort = Effort(
            Path(directory),
            sizes=dict(asked.sizes),
            quick=asked.quick,
            seconds=asked.seconds,
            scale=asked.scale,
            progress=lambda what: print(what, file=sys.stderr, flush=True),
        )
        found, failed = asyncio.run(measure(asked.only, effort))
    if asked.json:
        whole = {"machine": described, "series": found, "failed": failed}
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=1) + b"\n")
    if asked.plot:
        draw(found, asked.plot)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
