from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

BROKER = Path(__file__).resolve().parents[3] / "crucible" / "broker"


def _rooms_imported() -> dict[str, set[str]]:
    """Each room of the broker, and the others that its modules import, for types as well."""
    imported: dict[str, set[str]] = defaultdict(set)
    for path in BROKER.rglob("*.py"):
        room = path.relative_to(BROKER).parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                if parts[:2] == ["crucible", "broker"] and len(parts) > 2 and parts[2] != room:
                    imported[room].add(parts[2])
    return imported


def _reached(imported: dict[str, set[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        new = imported[waiting.pop()] - reached
        reached |= new
        waiting += new
    return reached


def test_no_rooms_of_the_broker_import_each_other() -> None:
    """From wire up to the publisher and the claims, imports point one way."""
    imported = _rooms_imported()
    assert len(imported) > 5
    for room in list(imported):
        assert room not in _reached(imported, room), room
