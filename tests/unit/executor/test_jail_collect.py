"""What the supervisor finds among the files that a program left."""

from __future__ import annotations

import fnmatch
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.executor.jail.collect import (
    LAID_S,
    MAX_DEPTH,
    MAX_ENTRIES,
    Finder,
    TooManyError,
    empty,
    is_fit,
    matches,
)

WORDS = st.text(alphabet="ab.", min_size=1, max_size=6)
PATTERNS = st.text(alphabet="ab.*?", min_size=1, max_size=8)


@given(WORDS, PATTERNS)
def test_a_part_is_matched_as_in_a_shell(name: str, pattern: str) -> None:
    """As the standard library has it; a leading dot has to be written."""
    hidden = name.startswith(".") and not pattern.startswith(".")
    assert matches(name, pattern) is (not hidden and fnmatch.fnmatchcase(name, pattern))


def test_a_pattern_made_to_be_slow_is_not() -> None:
    """No more steps than the length of both multiplied."""
    assert not matches("a" * 250, "*a" * 120 + "b")


def laid(folder: Path, *names: str) -> Path:
    """Files of these names, in their folders."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


TREE = (
    "a.json", "b.txt", ".hidden.json", "out/a.json", "out/b.json", "out/c.txt",
    "out/deep/d.json", "out/.cache/e.json", "x*y",
)  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.json", ["a.json"]),
        ("out/*.json", ["out/a.json", "out/b.json"]),
        ("*/*.json", ["out/a.json", "out/b.json"]),
        ("out/?.txt", ["out/c.txt"]),
        ("**/*.json", ["a.json", "out/a.json", "out/b.json", "out/deep/d.json"]),
        ("**/d.json", ["out/deep/d.json"]),
        ("out/**", ["out/a.json", "out/b.json", "out/c.txt", "out/deep/d.json"]),
        ("out/**/*", ["out/a.json", "out/b.json", "out/c.txt", "out/deep", "out/deep/d.json"]),
        ("**/**/d.*", ["out/deep/d.json"]),
        (".h*", [".hidden.json"]),
        ("out/.cache/*", ["out/.cache/e.json"]),
        ("x*y", ["x*y"]),
        ("nosuch/*", []),
        ("*.png", []),
    ],
)
def test_patterns(tmp_path: Path, pattern: str, found: list[str]) -> None:
    """Stars and question marks within a part, two stars for any folders."""
    finder = Finder(str(laid(tmp_path, *TREE)))
    assert sorted(finder.find(pattern)) == found
    assert finder.reason == b""


PARTS = st.sampled_from(["a", "b", "*", "?", "a*", "**"])
NAMES = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), min_size=1, max_size=3)


def as_expression(pattern: list[str]) -> re.Pattern[str]:
    """The same as a regular expression over whole paths."""
    text = ""
    for at, part in enumerate(pattern):
        last = at == len(pattern) - 1
        if part == "**":
            text += "(?:[^/]+/)*" + ("[^/]+" if last else "")
        else:
            text += part.replace("*", "[^/]*").replace("?", "[^/]") + ("" if last else "/")
    return re.compile(text)


@given(st.lists(NAMES, max_size=6), st.lists(PARTS, min_size=1, max_size=4))
def test_a_pattern_finds_each_path_once(
    tmp_path_factory: pytest.TempPathFactory, paths: list[list[str]], pattern: list[str]
) -> None:
    """All that its regular expression matches, and nothing else."""
    folder = tmp_path_factory.mktemp("tree")
    for path in paths:
        whole = folder.joinpath(*path[:-1], path[-1] + ".f")
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.touch()
    pattern = [*pattern[:-1], pattern[-1] if pattern[-1] == "**" else pattern[-1] + ".f"]
    found = list(Finder(str(folder)).find("/".join(pattern)))
    files = [str(path.relative_to(folder)) for path in folder.rglob("*.f")]
    assert sorted(found) == sorted(name for name in files if as_expression(pattern).fullmatch(name))


def test_links_are_not_walked_through(tmp_path: Path) -> None:
    """Neither elsewhere nor round in a circle; a link itself is found, to be refused."""
    home, elsewhere = tmp_path / "home", laid(tmp_path / "elsewhere", "secret.json")
    laid(home, "out/a.json")
    (home / "link").symlink_to(elsewhere)
    (home / "out/loop").symlink_to(home)
    finder = Finder(str(home))
    assert sorted(finder.find("**/*.json")) == ["out/a.json"]
    assert list(finder.find("link/*")) == []
    assert finder.reason == b"not_a_file"
    assert list(finder.find("lin*")) == ["link"]


def test_too_many_are_too_many(tmp_path: Path) -> None:
    """The number of entries looked at is bounded, and so is the depth."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MAX_ENTRIES + 1):
        (many / str(number)).symlink_to("x")
    with pytest.raises(TooManyError):
        list(Finder(str(tmp_path)).find("many/*"))
    assert list(Finder(str(tmp_path)).find("man?")) == ["many"]
    deep = tmp_path / "deep"
    for _ in range(MAX_DEPTH + 2):
        deep.mkdir()
        deep = deep / "d"
    with pytest.raises(TooManyError):
        list(Finder(str(tmp_path)).find("deep/**"))
    with pytest.raises(TooManyError):
        list(Finder(str(tmp_path / "deep")).made())


def test_what_a_compiler_made_is_what_it_did_not_get(tmp_path: Path) -> None:
    """New files and changed ones, wherever; no links, and not what was laid there."""
    laid(tmp_path, "main.c", "lib/a.h", "main", "lib/gen/b.o", "changed.js")
    for name in ("main.c", "lib/a.h"):
        os.utime(tmp_path / name, (LAID_S, LAID_S))
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    assert sorted(Finder(str(tmp_path)).made()) == ["changed.js", "lib/gen/b.o", "main"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "\x7f", os.fsdecode(b"\xff")])
def test_names_that_no_client_could_ask_for(name: str) -> None:
    """Control characters, backslashes and what is not UTF-8."""
    assert not is_fit(name)
    assert is_fit("ö *?.json")


def test_whatever_is_in_a_folder_it_becomes_empty(tmp_path: Path) -> None:
    """Folders deeper than a path can be long, closed ones, links, pipes, odd names."""
    laid(tmp_path, *TREE)
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (tmp_path / "link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / os.fsdecode(b"\xff\n")).touch()
    (tmp_path / "out/deep").chmod(0)
    (tmp_path / "out").chmod(0o555)
    empty(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert Path("/etc/passwd").exists()
