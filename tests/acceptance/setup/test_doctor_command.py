"""``crucible doctor`` and ``crucible images`` as people run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def crucible(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "crucible", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.docker
def test_a_complete_machine_passes(redis_url: str) -> None:
    """With engine, image and servers there the exit code is 0 and no finding fails."""
    done = crucible("doctor", "--json", CELERY_BROKER_URL=redis_url)
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert "fail" not in {check["severity"] for check in checks.values()}
    assert checks["Sandbox image"]["severity"] == "ok"
    assert "version" in checks["Task queue server"]["detail"]


def test_every_failure_has_its_remedy(tmp_path: Path) -> None:
    """A silent engine and a silent server make exit code 1, each with what to do about it."""
    done = crucible(
        "doctor",
        "--json",
        CRUCIBLE_DOCKER_URL=f"unix://{tmp_path}/none.sock",
        CELERY_BROKER_URL=f"unix://{tmp_path}/redis.sock",
    )
    failures = {c["name"]: c for c in json.loads(done.stdout) if c["severity"] == "fail"}
    assert done.returncode == 1
    assert set(failures) == {"Docker engine", "Task queue server"}
    assert all(check["remedy"] for check in failures.values())


def test_images_without_an_engine_say_so_in_one_line(tmp_path: Path) -> None:
    """No engine is one line and exit code 1, never a traceback."""
    done = crucible("images", "list", CRUCIBLE_DOCKER_URL=f"unix://{tmp_path}/none.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("crucible: Docker engine: ")
    assert done.stderr.count("\n") == 1


def test_a_bad_package_list_is_named(tmp_path: Path) -> None:
    """A line that is no package ends the command with the setting's name, before any build."""
    listed = tmp_path / "packages.txt"
    listed.write_text("jq\npip:numpy\n")
    done = crucible("images", "build", "--packages", str(listed))
    assert done.returncode == 1
    assert "CRUCIBLE_SANDBOX_PACKAGES_FILE" in done.stderr
    assert "line 2" in done.stderr
