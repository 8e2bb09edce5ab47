"""The stock environments, and the environment variables of their processes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
TESTS = ROOT / "tests"
#: Every version of the rig; ``scripts/stock-envs`` creates them.
VERSIONS = tuple(
    sorted(path.stem for path in (TESTS / "stock" / "requirements").glob("*.txt"))
)  # fmt: skip
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]
#: The versions with Flower in their environment.
FLOWER_VERSIONS = (OLDEST, NEWEST)
#: The project's own environment, for stock processes that import Crucible's Celery application.
PROJECT = "project"


def python_of(version: str) -> Path:
    """The interpreter of a stock environment, or of this project for ``PROJECT``.

    Raises:
        FileNotFoundError: it does not exist; a test that needs it fails rather than skips.
    """
    if version == PROJECT:
        return Path(sys.executable)
    home = ROOT / ".cache" / "stock" / version
    if not (home / "stamp").is_file():
        raise FileNotFoundError(f"no stock environment for {version}: run scripts/stock-envs")
    return home / "bin" / "python"


def process_environment(
    broker_url: str,
    *,
    backend_url: str | None = None,
    config: dict[str, Any] | None = None,
    extra: dict[str, str] | None = None,
) -> dict[str, str]:
    """The environment variables of a stock process.

    Args:
        broker_url: for ``rig_app``.
        backend_url: result backend of ``rig_app``; the broker's when None.
        config: further Celery settings for ``rig_app``.
        extra: further variables, such as those another application reads.
    """
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TMPDIR") if key in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(TESTS),
        "PYTHONUNBUFFERED": "1",
        "PYTHONUTF8": "1",
        # Celery writes stamped_headers in the order of a set, which would differ from run to run.
        "PYTHONHASHSEED": "0",
        "TZ": "UTC",
        "RIG_BROKER_URL": broker_url,
        "RIG_RESULT_BACKEND": backend_url or broker_url,
        "RIG_CONFIG": json.dumps(config or {}),
        **(extra or {}),
    }
