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


#: What only works with the extra.
EXTRAS = {
    "celery": "from crucible.celery_app import app; assert 'tasks.evaluate_code' in app.tasks",
    "flower": "import crucible.celery_app, flower.command",
    "history": "import aiosqlite, crucible.history.historian, crucible.history.migrate",
    "postgres": "import asyncpg, crucible.history.historian, crucible.history.migrate",
    "objects": "import crucible.objects, obstore, zstandard",
    "tracing": "import crucible.telemetry.tracing, opentelemetry.sdk.trace",
    "embedded": "from crucible.embedded.server import find_binary; find_binary()",
}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``scripts/release`` makes, but for the list of parts."""
    directory = tmp_path_factory.mktemp("released")
    run("scripts/release", directory, CYCLONEDX="no")
    return directory


def pip(venv: Path, *wanted: str) -> None:
    """Install into an environment that has no pip of its own."""
    flags = ("install", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", venv / "bin" / "python", *flags, *wanted)


@pytest.fixture(scope="module")
def bare(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and no extra."""
    venv = tmp_path_factory.mktemp("bare") / "venv"
    (wheel,) = released.glob("*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    pip(venv, str(wheel))
    return venv


def test_the_wheel_needs_no_extra(bare: Path) -> None:
    """Commands, client, publisher and worker."""
    run(bare / "bin" / "crucible", "--help")
    run(bare / "bin" / "python", "-Ic", "import crucible.client, crucible.broker, crucible.worker")


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_is_enough_by_itself(
    released: Path, bare: Path, tmp_path: Path, extra: str
) -> None:
    """In an environment with that extra alone, on top of the one with none."""
    (wheel,) = released.glob("*.whl")
    (site,) = (bare / "lib").glob("python*/site-packages")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    (own,) = (venv / "lib").glob("python*/site-packages")
    (own / "bare.pth").write_text(f"{site}\n")
    pip(venv, f"{wheel}[{extra}]")
    run(venv / "bin" / "python", "-Ic", EXTRAS[extra])


async def test_the_wheel_runs_the_main_job_in_an_empty_environment(
    released: Path, tmp_path: Path
) -> None:
    """``crucible up --sample`` of an installed wheel, away from the sources."""
    venv, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    (wheel,) = released.glob("*.whl")
    (sdist,) = released.glob("*.tar.gz")
    sums = (released / "SHA256SUMS").read_text()
    assert wheel.name in sums
    assert sdist.name in sums
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    pip(venv, f"{wheel}[embedded]")
    elsewhere.mkdir()
    command = [
        *(str(venv / "bin" / "python"), "-c", f"import os; os.chdir({str(elsewhere)!r}); "
          "import crucible, sys; assert 'site-packages' in crucible.__file__; "
          "from crucible.cli.entry import main; main()"),
        *("up", "--sample", "--port", str(free_port()), "--data-dir", str(tmp_path / "data")),
    ]  # fmt: skip
    async with Child(command, plain_environment(PYTHONSAFEPATH="1")) as up:
        await up.wait_for_log("stop +Ctrl-C", START_S)
        assert '"output": "42\\n"' in up.log.replace("\\\\", "\\")
        assert await up.stop(60) == 0
