"""The lock file is good on every machine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements-dev.lock").read_text("utf-8").splitlines()


def test_the_lock_names_no_place() -> None:
    """No index, no address, no path, no option: exact versions only."""
    entries = [line for line in LOCK if not line.startswith("#")]
    pinned = re.compile(
        r"[a-z0-9.-]+==([0-9]+!)?[a-z0-9.]+( ; python_full_version < \"3\.11\.3\")?"
    )
    assert [line for line in entries if not pinned.fullmatch(line)] == []


def test_the_lock_has_every_dependency() -> None:
    """Each package that the project names is pinned."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    wanted = {re.split(r"[\[<>=~! ]", name)[0].lower() for name in named} - {"crucible-sandbox"}
    assert wanted <= {line.partition("==")[0] for line in LOCK}
