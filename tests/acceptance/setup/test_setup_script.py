"""``scripts/setup`` where it cannot help itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def setup(**environment: str) -> subprocess.CompletedProcess[str]:
    """Run the set-up with these variables on top of the environment."""
    return subprocess.run(
        [ROOT / "scripts/setup"],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_configured_engine_that_is_silent_is_named(tmp_path: Path) -> None:
    """An engine of the user's own is never replaced: one clear line and exit code 1."""
    url = f"unix://{tmp_path}/none.sock"
    done = setup(CRUCIBLE_DOCKER_URL=url)
    assert done.returncode == 1
    assert f"setup: no Docker engine answers at {url}" in done.stderr
    assert "CRUCIBLE_DOCKER_URL" in done.stderr


@pytest.mark.docker
def test_an_image_that_cannot_be_had_is_named() -> None:
    """A pinned image that no registry gives ends set-up with exit code 1, nothing in its place."""
    done = setup(CRUCIBLE_SANDBOX_IMAGE=f"sha256:{'0' * 64}")
    assert done.returncode == 1
    assert "setup: there is no sandbox image" in done.stderr
    assert "Traceback" not in done.stderr
