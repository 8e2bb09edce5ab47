"""Reads and writes the captures in ``tests/golden``."""

from __future__ import annotations

import base64
import json
import platform
import re
import sys
from typing import Any

from stock_rig.environments import ROOT, TESTS

_BODY = re.compile(r'"body": "([A-Za-z0-9+/=]*)"')
#: Parts of a capture that would contain data of this machine: tracebacks, the ``report`` command.
_THIS_MACHINE = {
    str(ROOT): "/checkout",
    sys.base_prefix: "/python",
    platform.release(): "<kernel>",
    platform.version(): "<kernel>",
}
GOLDEN = TESTS / "golden"
#: Versions with captures; versions in between write the same bytes.
GOLDEN_VERSIONS = ("5.3.6", "5.7.0")


def calls() -> list[dict[str, Any]]:
    """The table of calls that the captures of publishes were made from."""
    table: list[dict[str, Any]] = json.loads((GOLDEN / "calls.json").read_text())
    return table


def scenarios() -> list[dict[str, Any]]:
    """The table of scenarios that the traces were made from."""
    table: list[dict[str, Any]] = json.loads((GOLDEN / "scenarios.json").read_text())
    return table


def load(version: str, name: str) -> dict[str, Any]:
    """One capture: ``versions`` (of what wrote it) and ``entries``.

    Args:
        version: one of ``GOLDEN_VERSIONS``.
        name: ``publishes``, ``traces`` or ``control``.
    """
    capture: dict[str, Any] = json.loads((GOLDEN / version / f"{name}.json").read_text())
    return capture


def without_this_machine(value: Any) -> Any:
    """A capture with the machine's paths and kernel replaced, inside bodies too."""
    if isinstance(value, dict):
        return {key: without_this_machine(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_this_machine(item) for item in value]
    return _neutral_message(value) if isinstance(value, str) else value


def _neutral_message(text: str) -> str:
    body = _BODY.search(text)
    if body is not None:
        content = base64.b64decode(body[1]).decode("utf-8", "surrogateescape")
        neutral = _neutral(content).encode("utf-8", "surrogateescape")
        text = f"{text[: body.start(1)]}{base64.b64encode(neutral).decode()}{text[body.end(1) :]}"
    return _neutral(text)


def _neutral(text: str) -> str:
    for own, neutral in _THIS_MACHINE.items():
        text = text.replace(own, neutral)
    return text


def save(version: str, name: str, versions: dict[str, str], entries: list[Any]) -> None:
    """Write one capture, a block of lines per entry, so that diffs of captures are readable."""
    path = GOLDEN / version / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    content = {"versions": versions, "entries": without_this_machine(entries)}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
