"""What the pages name exists: files, folders, and names of the package."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("benchmarks", "crucible", "docs", "examples", "scripts", "tests")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
#: A path from the root of the repository.
_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./*<>-]*[\w/*]")
#: A file of the package that a page names by the last parts of its path.
_SHORT = re.compile(r"(?<=`)[\w/]+\.(?:py|lua)(?=`)")
#: A name of the package; ``crucible.toml`` is a file.
_DOTTED = re.compile(r"(?<![\w./-])crucible(?:\.[A-Za-z_]\w*)+(?![\w/]|\.(?:toml|py)\b)")


def label(path: Path) -> str:
    """How a file is named in test ids."""
    return str(path.relative_to(ROOT))


def exists(name: str) -> bool:
    """Whether a path from the root, possibly a pattern, matches anything."""
    return "<" in name or any(ROOT.glob(name.rstrip("/")))


def resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("path", [*PAGES, *SOURCES], ids=label)
def test_every_path_named_exists(path: Path) -> None:
    """Docs, docstrings and comments name files where they are now."""
    assert [name for name in _PATH.findall(path.read_text()) if not exists(name)] == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_short_path_named_exists(page: Path) -> None:
    """A page may leave out the first parts of a path, as in ``broker/lua/claim.lua``."""
    files = [f"/{label(path)}" for path in ROOT.rglob("crucible/**/*") if path.is_file()]
    files += [f"/{label(path)}" for path in SOURCES]
    named = _SHORT.findall(page.read_text())
    assert [name for name in named if not any(file.endswith(f"/{name}") for file in files)] == []


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_every_name_of_the_package_resolves(page: Path) -> None:
    """``crucible.x.y`` on a page is a module, or an attribute of one."""
    named = [name for name in _DOTTED.findall(page.read_text()) if name != "crucible.toml"]
    assert [name for name in named if not resolves(name)] == []
