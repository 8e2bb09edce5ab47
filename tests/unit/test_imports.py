from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "crucible"

PLAIN = {
    "models",
    "settings",
    "environments",
    "errors",
    "breaker",
    "fail_fast_lock",
    "redis_keys",
    "tracing",
    "validation",
}
#: What each room may import of ``crucible`` besides itself; everything else is an error.
MAY_IMPORT: dict[str, set[str]] = {
    "models": set(),
    "errors": set(),
    "breaker": {"errors"},
    "fail_fast_lock": {"errors"},
    "redis_keys": set(),
    "tracing": set(),
    "validation": {"errors"},
    "environments": {"errors"},
    "settings": {"environments", "errors", "models", "redis_keys"},
    "embedded": {"errors"},
    "identity": PLAIN | {"broker"},
    "http": {"errors", "tracing", "validation"},
    "broker": PLAIN,
    "events": PLAIN | {"broker"},
    "grading": {"models"},
    "webhooks": PLAIN | {"broker"},
    "history": PLAIN | {"broker", "events"},
    "objects": PLAIN,
    "executor": PLAIN | {"http", "grading"},
    "legacy": PLAIN | {"http"},
    "sessions": PLAIN | {"broker", "executor"},
    "telemetry": PLAIN | {"broker", "events", "executor", "worker"},
    "images": PLAIN | {"executor"},
    "worker": PLAIN | {"broker"},
    "evaluation": PLAIN
    | {"broker", "events", "executor", "grading", "history", "identity", "sessions"}
    | {"objects", "webhooks", "worker"},
    "assessments": PLAIN | {"broker", "evaluation", "events", "executor", "identity", "worker"},
    "workflows": PLAIN | {"broker", "evaluation", "identity", "worker"},
    "pipelines": PLAIN
    | {"assessments", "broker", "evaluation", "executor", "objects", "webhooks", "worker"},
    "platform_tasks": PLAIN
    | {"assessments", "evaluation", "executor", "pipelines"}
    | {"worker", "workflows"},
    "stock": PLAIN | {"worker", "broker"},
    "celery_app": PLAIN | {"evaluation", "platform_tasks", "stock", "telemetry"},
    "migration": PLAIN | {"broker", "events", "executor", "legacy", "evaluation", "identity"},
    "scaling": PLAIN,
    "api": PLAIN
    | {
        "assessments",
        "http",
        "broker",
        "events",
        "executor",
        "evaluation",
        "grading",
        "history",
        "identity",
        "migration",
        "scaling",
        "sessions",
        "webhooks",
        "workflows",
    }
    | {"compat", "console", "objects", "telemetry"},
    "testing": PLAIN
    | {"api", "broker", "embedded", "evaluation", "executor", "platform_tasks", "webhooks"}
    | {"worker"},
    "doctor": PLAIN | {"broker", "executor", "embedded", "history", "images"},
    "up": PLAIN | {"broker", "embedded", "executor", "history", "identity", "scaling"},
    "client": {"models", "errors"},
    "console": {"http"},
    "compat": PLAIN | {"http", "broker", "executor", "evaluation", "identity", "sessions"},
}
#: The entry points may import everything.
ENTRY = {"cli", "__main__"}
#: Libraries that have one room, so that nothing of them leaks into the others.
ONE_ROOM = {
    "celery": {"stock", "celery_app"},
    "kombu": set(),
    "aiodocker": {"executor", "images", "doctor"},
    "typer": {"cli"},
    "rich": {"cli", "client"},
    "prometheus_client": {"telemetry"},
    "opentelemetry": {"telemetry"},
    "structlog": {"cli"},
    "sqlalchemy": {"history"},
    "alembic": {"history"},
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


def test_the_documented_table_is_this_one() -> None:
    """The rooms of docs/architecture.md may import what they may import here."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    documented = {
        room: set(re.split(", ", rooms))
        for room, rooms in re.findall(
            r"^\| `crucible\.(\w+)` \|[^|]+\| ([^|]+) \|$", page, re.MULTILINE
        )
    }
    expected = {
        room: (may - PLAIN) | {"plain"} if may >= PLAIN else may
        for room, may in MAY_IMPORT.items()
        if room not in PLAIN
    }
    assert documented == {**expected, "cli": {"everything"}}
    assert all(f"`crucible.{room}`" in page for room in PLAIN)


def test_the_readme_has_every_room() -> None:
    """The table "Where does it live" of the README has the rooms of this table, and no others."""
    table = (
        (ROOT / "README.md").read_text().partition("## Where does it live")[2].partition("##")[0]
    )
    rooms = set(re.findall(r"`crucible/(\w+)(?:\.py|/)`", table))
    assert rooms == MAY_IMPORT.keys() | {"cli"}


def test_the_worker_has_no_import_cycle() -> None:
    """Any module of the worker can be read without those that use it, type checking included."""
    found: dict[str, set[str]] = {}
    for path in (PACKAGE / "worker").rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = imported(path)
    graph = {
        name: {
            other
            for one in names
            for other in (one, one.rpartition(".")[0])
            if other in found and other != name
        }
        for name, names in found.items()
    }
    order = TopologicalSorter(graph)
    order.prepare()  # raises CycleError, which names the modules of a cycle
