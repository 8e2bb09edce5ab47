"""The captures below ``tests/golden``: reading and writing them."""

from __future__ import annotations

import json
from typing import Any

from stock_rig.environments import TESTS

GOLDEN = TESTS / "golden"
#: Versions with captures; those in between write the same bytes.
GOLDEN_VERSIONS = ("5.3.6", "5.7.0")


def calls() -> list[dict[str, Any]]:
    """The table of calls every capture of publishes was made from."""
    table: list[dict[str, Any]] = json.loads((GOLDEN / "calls.json").read_text())
    return table


def load(version: str, name: str) -> dict[str, Any]:
    """One capture: ``versions`` (what wrote it) and ``entries``.

    Args:
        version: one of ``GOLDEN_VERSIONS``.
        name: ``publishes``, ``traces`` or ``control``.
    """
    capture: dict[str, Any] = json.loads((GOLDEN / version / f"{name}.json").read_text())
    return capture


def save(version: str, name: str, versions: dict[str, str], entries: list[Any]) -> None:
    """Write one capture, an entry a line block, so that a new capture gives a readable diff."""
    path = GOLDEN / version / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"versions": versions, "entries": entries}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
