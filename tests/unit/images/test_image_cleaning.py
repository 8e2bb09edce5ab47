"""An installed tree becomes an image's tree."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from crucible.images.cleaning import (
    MANIFEST,
    _remove_dead_links,
    add_account,
    clean,
    installed_packages,
    plain_mode,
)
from crucible.images.definition import ImageDefinition

if TYPE_CHECKING:
    from pathlib import Path

_STATUS = """Package: bash
Status: install ok installed
Version: 5.2.15-2

Package: apt
Status: install ok installed
Version: 2.6.1

Package: gone
Status: deinstall ok config-files
Version: 1
"""


def _put(root: Path, name: str, text: str = "x", mode: int = 0o644) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree as debootstrap leaves one."""
    root = tmp_path / "root"
    _put(root, "var/lib/dpkg/status", _STATUS)
    _put(root, "var/lib/dpkg/info/bash.list", "/.\n/usr\n/usr/bin\n/usr/bin/bash\n/etc/shared\n")
    _put(root, "var/lib/dpkg/info/apt.list", "/usr\n/usr/bin\n/usr/bin/apt\n/etc/shared\n")
    _put(root, "usr/bin/bash", mode=0o755)
    _put(root, "usr/bin/apt", mode=0o755)
    _put(root, "etc/shared", mode=0o666)
    _put(root, "usr/bin/su", mode=0o4755)
    _put(root, "usr/bin/chage", mode=0o2755)
    _put(root, "etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    _put(root, "etc/group", "root:x:0:\n")
    _put(root, "etc/shadow", "root:*:20778:0:99999:7:::\n", 0o640)
    _put(root, "etc/machine-id", "0123\n")
    _put(root, "etc/hostname", "builder\n")
    _put(root, "etc/resolv.conf", "nameserver 192.0.2.1\n")
    _put(root, "etc/ssh/ssh_host_rsa_key", "secret")
    _put(root, "var/cache/apt/archives/x.deb")
    _put(root, "var/log/dpkg.log")
    _put(root, "tmp/left")
    _put(root, "usr/share/doc/bash/README")
    (root / "usr/bin/dead").symlink_to("apt")
    (root / "usr/bin/deader").symlink_to("dead")
    (root / "etc/mtab").symlink_to("/proc/mounts")
    (root / "usr/bin/sh").symlink_to("bash")
    (root / "opt").mkdir()
    (root / "opt").chmod(0o777)
    return root


def test_privileges_are_gone(tree: Path) -> None:
    """No file is set-uid or set-gid, and only sticky directories are everyone's to write."""
    clean(tree, ImageDefinition(left_out=("apt",)))
    modes = {p: p.lstat().st_mode for p in tree.rglob("*") if not p.is_symlink()}
    assert not [p for p, mode in modes.items() if mode & (stat.S_ISUID | stat.S_ISGID)]
    writable = {str(p.relative_to(tree)) for p, mode in modes.items() if mode & stat.S_IWOTH}
    assert writable == {"tmp", "var/tmp"}


def test_traces_of_the_builder_are_gone(tree: Path) -> None:
    """Caches, logs, keys and the building machine's own names do not reach the image."""
    clean(tree, ImageDefinition(left_out=()))
    for name in ("machine-id", "hostname", "resolv.conf", "ssh/ssh_host_rsa_key"):
        assert not (tree / "etc" / name).exists()
    for name in ("var/cache", "var/log", "tmp"):
        assert list((tree / name).iterdir()) == []
    assert not (tree / "usr/share/doc").exists()
    assert "20778" not in (tree / "etc/shadow").read_text()


def test_left_out_packages_go_without_what_others_own(tree: Path) -> None:
    """A package's files go, with links to them; a file that another package has too stays."""
    clean(tree, ImageDefinition(left_out=("apt",)))
    names = {path.name for path in (tree / "usr/bin").iterdir()}
    assert {"apt", "dead", "deader"} & names == set()
    assert {"bash", "sh"} <= names
    assert (tree / "etc/shared").exists()
    assert (tree / "etc/mtab").is_symlink()


def test_the_image_tells_what_it_was_made_of(tree: Path) -> None:
    """The manifest lists the packages that are in, with versions, and no others."""
    clean(tree, ImageDefinition(left_out=("apt",), python_packages=("six==1.16.0",)))
    assert (tree / MANIFEST).read_text().splitlines() == ["bash=5.2.15-2", "six==1.16.0"]


def test_cleaning_twice_adds_one_account(tree: Path) -> None:
    """The unprivileged account is locked and there once."""
    add_account(tree)
    add_account(tree)
    lines = (tree / "etc/passwd").read_text().splitlines()
    assert lines[1:] == ["sandbox:x:1000:1000:sandbox:/work:/bin/sh"]
    assert (tree / "etc/shadow").read_text().count("sandbox:!:") == 1
    for name in ("passwd", "group"):
        # Where a sandbox mounts a file system of its own; relative, so that it stays in the tree.
        assert str((tree / "etc" / name).readlink()) == f"../run/account/{name}"


def test_only_installed_packages_are_listed() -> None:
    """A package of which only its configuration is left does not count."""
    assert installed_packages(_STATUS) == ["apt=2.6.1", "bash=5.2.15-2"]


@pytest.mark.parametrize(
    ("mode", "directory", "plain"),
    [
        (0o4755, False, 0o755),
        (0o6777, False, 0o775),
        (0o1777, True, 0o1777),
        (0o777, True, 0o775),
        (0o1666, False, 0o664),
        (0o640, False, 0o640),
    ],
)
def test_plain_modes(mode: int, directory: bool, plain: int) -> None:
    """Set-uid, set-gid and writing by others are taken away and nothing is given."""
    assert plain_mode(mode, directory=directory) == plain


def test_chains_of_dead_links_go_whichever_way_they_lead(tmp_path: Path) -> None:
    """A link of one folder to a link of the other to a file that is gone leaves no link behind."""
    for name in ("etc/alternatives", "usr/bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr/bin/cc").symlink_to("/etc/alternatives/cc")
    (tmp_path / "etc/alternatives/cc").symlink_to("/usr/bin/gcc")
    (tmp_path / "usr/bin/gcc").symlink_to("gcc-12")
    (tmp_path / "usr/bin/tool").write_text("")
    (tmp_path / "etc/alternatives/tool").symlink_to("/usr/bin/tool")
    _remove_dead_links(tmp_path, [tmp_path / "etc", tmp_path / "usr"])
    assert sorted(p.name for p in tmp_path.rglob("*") if not p.is_dir()) == ["tool", "tool"]
