"""What one nested program costs in processor time, part by part.

    python -m benchmarks.nested_cost --programs 1000 --lane-programs 16 64 1024

Runs small programs through an open executor and takes the difference of what the kernel counted:
this process, the engine's that live on, the lanes' control group, and the whole machine. What is
left of the machine are the processes a restart starts (``runc``, most of the shim), the kernel's
threads, and whatever else runs: the last line is of use on a machine at rest only, the others on
any. The cost of a restart is what more of them make dearer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

from crucible.executor import Executor, ExecutorConfig, open_executor
from crucible.executor.hooks import NoHooks, SandboxReady
from crucible.models import Program

#: Where the processor time of all of the engine's containers is counted: in cgroup v1 in
#: nanoseconds, in v2 (whose place depends on the engine's ``cgroup-parent``) as ``usage_usec``.
LANES = Path("/sys/fs/cgroup/cpuacct/docker/cpuacct.usage")
ENGINE = ("dockerd", "containerd", "containerd-shim")
#: Seconds for what follows on the last program: its lane's next namespaces, or a restart.
SETTLE_S = 1.0
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class Restarts(NoHooks):
    """Counts lanes that became ready."""

    count = 0

    def sandbox_ready(self, details: SandboxReady) -> None:
        self.count += 1


def processor_ms(lanes: Path) -> dict[str, float]:
    """Milliseconds of processor time that each part has had."""
    found = {"this process": time.process_time() * 1000, **dict.fromkeys(ENGINE, 0.0)}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it ended meanwhile
        name = text[text.index("(") + 1 : text.rindex(")")]
        if name in ENGINE:
            # Its own, and that of children it has waited for.
            fields = text[text.rindex(")") + 2 :].split()[11:15]
            found[name] += sum(map(int, fields)) * _TICK_MS
    if lanes.exists():
        words = lanes.read_text().split()
        found["lanes"] = int(words[0]) / 1e6 if len(words) == 1 else int(words[1]) / 1e3
    # User, nice, system; interrupts; what is idle or waits is left out.
    busy = [int(field) for field in Path("/proc/stat").read_text().split()[1:9]]
    found["whole machine"] = (sum(busy[:3]) + sum(busy[5:7])) * _TICK_MS
    return found


async def run_programs(executor: Executor, count: int, at_once: int) -> float:
    """Run so many, so many at a time; seconds it took.

    Raises:
        RuntimeError: one gave a wrong answer.
    """
    left = iter(range(count))
    program = Program(language="python", code="print(6 * 7)", isolation="nested", tenant="cost")

    async def one_by_one() -> None:
        for _ in left:
            outcome = await executor.run(program)
            if outcome.stdout != b"42\n":
                raise RuntimeError(f"wrong answer: {outcome}")

    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(one_by_one())
    return time.perf_counter() - started


async def measure(arguments: argparse.Namespace, lane_programs: int) -> None:
    """Print the account of one setting."""
    restarts = Restarts()
    config = ExecutorConfig(isolation="nested", pool_min=0, lane_programs=lane_programs)
    async with open_executor(config, restarts) as executor:
        await run_programs(executor, 4 * arguments.at_once, arguments.at_once)
        await asyncio.sleep(SETTLE_S)
        before, begun = processor_ms(arguments.lanes), restarts.count
        took_s = await run_programs(executor, arguments.programs, arguments.at_once)
        await asyncio.sleep(SETTLE_S)
        after, made = processor_ms(arguments.lanes), restarts.count - begun
    rate = arguments.programs / took_s
    print(f"{lane_programs} programs a lane: {rate:.0f} a second, {made} lanes made ready")
    for part, ms in after.items():
        print(f"  {part:16} {(ms - before[part]) / arguments.programs:7.3f} ms a program")


def main() -> None:
    """Measure every setting that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--lane-programs", type=int, nargs="+", default=[16, 64, 1024])
    parser.add_argument("--lanes", type=Path, default=LANES)
    arguments = parser.parse_args()
    for lane_programs in arguments.lane_programs:
        asyncio.run(measure(arguments, lane_programs))


if __name__ == "__main__":
    main()
