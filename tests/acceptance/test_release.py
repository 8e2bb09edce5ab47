"""What is released runs where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from stock_rig.child import Child
from support.worker_rig import plain_environment

from crucible.embedded.server import free_port

pytestmark = [pytest.mark.docker, pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
START_S = 300.0


def run(*command: str | Path, **environment: str) -> None:
    """A command, whose output is shown where it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_the_wheel_runs_the_main_job_in_an_empty_environment(tmp_path: Path) -> None:
    """``crucible up --sample`` of an installed wheel, away from the sources."""
    released, venv, elsewhere = tmp_path / "released", tmp_path / "venv", tmp_path / "elsewhere"
    run("scripts/release", released, CYCLONEDX="no")
    (wheel,) = released.glob("*.whl")
    (sdist,) = released.glob("*.tar.gz")
    sums = (released / "SHA256SUMS").read_text()
    assert wheel.name in sums
    assert sdist.name in sums
    run(sys.executable, "-m", "venv", venv)
    run(venv / "bin" / "pip", "install", "--quiet", f"{wheel}[embedded]")
    elsewhere.mkdir()
    command = [
        *(str(venv / "bin" / "python"), "-c", f"import os; os.chdir({str(elsewhere)!r}); "
          "import crucible, sys; assert 'site-packages' in crucible.__file__; "
          "from crucible.cli.main import main; main()"),
        *("up", "--sample", "--port", str(free_port()), "--data-dir", str(tmp_path / "data")),
    ]  # fmt: skip
    async with Child(command, plain_environment(PYTHONSAFEPATH="1")) as up:
        await up.wait_for_log("stop +Ctrl-C", START_S)
        assert '"output": "42\\n"' in up.log.replace("\\\\", "\\")
        assert await up.stop(60) == 0
