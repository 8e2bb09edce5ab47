"""The built console is what its source gives."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from crucible.console.assets import assets

ROOT = Path(__file__).parents[3]


def test_a_rebuild_is_identical(tmp_path: Path) -> None:
    """The files in the package are those that ``scripts/console`` makes, byte for byte."""
    subprocess.run([ROOT / "scripts" / "console", tmp_path], check=True, timeout=120)
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert built == {asset.name: asset.body for asset in assets().values()}


def test_packages_are_pinned_and_come_from_no_named_place() -> None:
    """Exact versions; the lock names no registry."""
    lock = (ROOT / "console" / "package-lock.json").read_text("utf-8")
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') > 5
    named_versions = re.findall(
        r'"[@a-z/-]+": "([^"]+)"', (ROOT / "console" / "package.json").read_text("utf-8")
    )
    pinned = [text for text in named_versions if re.fullmatch(r"[0-9.]+", text)]
    assert len(pinned) == 7


def test_nothing_is_loaded_from_elsewhere() -> None:
    """No address of another host in what is built; no ``eval``, which the policy would refuse."""
    text = "\n".join(asset.body.decode() for asset in assets().values())
    hosts = set(re.findall(r"(?:https?:)?//([a-z0-9.-]+\.[a-z]+)", text))
    assert hosts <= {"www.w3.org", "example.org"}
    assert not re.search(r"\beval\(|new Function\(", text)


def test_only_the_token_file_names_colours() -> None:
    """Every other style sheet, and every module, uses the tokens."""
    source = ROOT / "console" / "src"
    sheets = [path for path in source.rglob("*.css") if path.name != "tokens.css"]
    found = {}
    for path in [*sheets, *source.rglob("*.js")]:
        colours = re.findall(r"(?<![\w&/])#[0-9a-fA-F]{6}\b|\brgba?\(\d[^)]*\)", path.read_text())
        if colours:
            found[path.name] = colours
    assert found == {}
