from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "crucible"

PLAIN = {"models", "settings", "environments", "errors", "breaker", "redis_keys"}
#: What each room may import of ``crucible`` besides itself; everything else is an error.
MAY_IMPORT: dict[str, set[str]] = {
    "models": set(),
    "errors": set(),
    "breaker": {"errors"},
    "redis_keys": set(),
    "environments": {"errors"},
    "settings": {"environments", "errors", "models"},
    "embedded": {"errors"},
    "broker": PLAIN,
    "executor": PLAIN,
    "legacy": PLAIN,
    "images": PLAIN | {"executor"},
    "worker": PLAIN | {"broker"},
    "evaluation": PLAIN | {"broker", "executor", "worker"},
    "stock": PLAIN | {"worker", "broker"},
    "celery_app": PLAIN | {"evaluation", "stock"},
    "telemetry": PLAIN | {"evaluation"},
    "migration": PLAIN | {"broker", "executor", "legacy", "evaluation", "telemetry", "api"},
    "api": PLAIN | {"broker", "executor", "evaluation", "legacy", "migration", "telemetry"},
    "doctor": PLAIN | {"broker", "executor", "embedded", "images"},
    "up": PLAIN | {"embedded", "executor"},
}
#: The entry points may import everything.
ENTRY = {"cli", "__main__"}
#: Libraries that have one room, so that nothing of them leaks into the others.
ONE_ROOM = {
    "celery": {"stock", "celery_app"},
    "kombu": set(),
    "aiodocker": {"executor", "images", "doctor"},
    "typer": {"cli"},
    "rich": {"cli"},
    "prometheus_client": {"api", "telemetry", "migration"},
}


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The first name below ``crucible``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported(path: Path) -> set[str]:
    """The dotted names a module imports, also inside functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    """A room imports only what the table of rooms in docs/architecture.md allows it."""
    room = room_of(path)
    if room in ENTRY or room == "__init__":
        return
    allowed = MAY_IMPORT[room] | {room}
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "crucible" and len(parts) > 1 and parts[1] != "__version__":
            assert parts[1] in allowed, f"{room} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_library_has_one_room(path: Path) -> None:
    """No Celery on the request path, no engine outside the executor, no printing but in the CLI."""
    for name in imported(path):
        library = name.split(".")[0]
        if library in ONE_ROOM:
            assert room_of(path) in ONE_ROOM[library], f"{name} has no place here"
