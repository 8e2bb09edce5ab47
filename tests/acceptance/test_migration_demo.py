"""The demonstration of a migration, ended early."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from stock_rig.child import Child

ROOT = Path(__file__).parents[2]


def started_with(folder: Path) -> list[str]:
    """Processes whose environment names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in environment:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.mark.docker
@pytest.mark.stock
async def test_a_terminated_demonstration_leaves_no_process(tmp_path: Path) -> None:
    """SIGTERM stops all that it started, its stock worker too, and says so by its exit code."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    async with Child([sys.executable, str(ROOT / "scripts/demo_migration")], environment) as demo:
        await demo.wait_for_log("api http://", timeout=90)
        assert [line for line in started_with(tmp_path) if "stock@demo" in line]
        demo.send_signal(signal.SIGTERM)
        assert await demo.wait(60) == 128 + signal.SIGTERM, demo.log
        assert started_with(tmp_path) == []
