"""The same tree makes the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from typing import TYPE_CHECKING

from crucible.images.archive import EPOCH_S, write_archive, write_layer
from crucible.images.layers import Entry, Layers, index_layer

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ["usr/bin/tool", "usr/bin/other", "etc/passwd", "usr/share/x/y", "a"]


def _tree(root: Path, names: list[str], time_s: float) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
        path.chmod(0o755 if "bin" in name else 0o644)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/twin").hardlink_to(root / "usr/bin/tool")
    os.mkfifo(root / "pipe")
    for path in root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (time_s, time_s))
    return root


def test_layers_of_equal_trees_are_equal(tmp_path: Path) -> None:
    """Order of creation and times of files leave no trace in the layer."""
    first = _tree(tmp_path / "first", _NAMES, 1_000_000_000.5)
    second = _tree(tmp_path / "second", _NAMES[::-1], 1_700_000_000.25)
    digests = [write_layer(root, tmp_path / f"{root.name}.tar") for root in (first, second)]
    assert digests[0] == digests[1]
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
    assert digests[0] == hashlib.sha256((tmp_path / "first.tar").read_bytes()).hexdigest()


def test_another_content_is_another_layer(tmp_path: Path) -> None:
    """One changed byte, or one changed mode, changes the digest."""
    root = _tree(tmp_path / "tree", _NAMES, 1.0)
    before = write_layer(root, tmp_path / "layer.tar")
    (root / "a").write_text("content of b\n")
    changed = write_layer(root, tmp_path / "layer.tar")
    (root / "a").chmod(0o600)
    assert len({before, changed, write_layer(root, tmp_path / "layer.tar")}) == 3


def test_members_belong_to_root_and_are_plain(tmp_path: Path) -> None:
    """Every member is root's with one time, links stay links, pipes are left out."""
    write_layer(_tree(tmp_path / "tree", _NAMES, 5.0), tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        members = {member.name: member for member in tar}
    assert list(members) == sorted(members)
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members.values()} == {(0, 0, "", EPOCH_S)}
    assert members["bin"].issym()
    assert members["usr/bin/twin"].islnk()
    assert members["usr/bin/twin"].linkname == "usr/bin/tool"
    assert "pipe" not in members


def test_the_image_id_is_the_digest_of_its_configuration(tmp_path: Path) -> None:
    """The id can be told before an engine has seen the archive, and names the layer."""
    digest = write_layer(_tree(tmp_path / "tree", _NAMES, 5.0), tmp_path / "layer.tar")
    image = write_archive(
        Layers([tmp_path / "layer.tar"], [digest]),
        tmp_path / "image.tar",
        reference="x:1",
        labels={"k": "v"},
        machine="amd64",
    )
    with tarfile.open(tmp_path / "image.tar") as tar:
        read = {m.name: (f.read() if (f := tar.extractfile(m)) else b"") for m in tar}
    manifest = json.loads(read["manifest.json"])[0]
    config = read[manifest["Config"]]
    assert image == f"sha256:{hashlib.sha256(config).hexdigest()}"
    assert json.loads(config)["rootfs"]["diff_ids"] == [f"sha256:{digest}"]
    assert json.loads(config)["config"]["User"] == "1000:1000"
    assert manifest["RepoTags"] == ["x:1"]
    assert hashlib.sha256(read[manifest["Layers"][0]]).hexdigest() == digest


def entries_of(root: Path, directory: Path) -> tuple[Path, dict[str, Entry]]:
    """A tree as a layer, and what is in it."""
    layer = directory / f"{root.name}.tar"
    write_layer(root, layer)
    entries: dict[str, Entry] = {}
    index_layer(layer, entries)
    return layer, entries


def test_a_layer_on_top_has_only_what_differs(tmp_path: Path) -> None:
    """Added, changed, and removed files; the rest is left to the layers below."""
    lower = _tree(tmp_path / "lower", _NAMES, 1.0)
    upper = _tree(tmp_path / "upper", _NAMES, 2.0)
    (upper / "usr/bin/added").write_text("added\n")
    (upper / "etc/passwd").write_text("changed\n")
    (upper / "a").chmod(0o600)
    (upper / "usr/share/x/y").unlink()
    (upper / "usr/share/x").rmdir()
    (upper / "bin").unlink()
    (upper / "bin").symlink_to("usr/share")
    _, below = entries_of(lower, tmp_path)
    write_layer(upper, tmp_path / "top.tar", below)
    with tarfile.open(tmp_path / "top.tar") as tar:
        names = tar.getnames()
    assert names == [
        *("a", "bin", "etc", "etc/passwd", "usr", "usr/bin", "usr/bin/added"),
        *("usr/share", "usr/share/.wh.x"),
    ]


def test_layers_over_one_another_come_to_the_tree(tmp_path: Path) -> None:
    """Reading them back gives what a single layer of the tree gives."""
    lower = _tree(tmp_path / "lower", _NAMES, 1.0)
    upper = _tree(tmp_path / "upper", [*_NAMES, "usr/share/x/z"], 2.0)
    (upper / "usr/share/x/y").unlink()
    (upper / "etc/passwd").unlink()
    (upper / "etc/passwd").mkdir()
    (upper / "usr/bin/other").write_text("other\n")
    _, entries = entries_of(lower, tmp_path)
    write_layer(upper, tmp_path / "top.tar", entries)
    index_layer(tmp_path / "top.tar", entries)
    assert entries == entries_of(upper, tmp_path)[1]


def test_a_twin_whose_first_name_is_below_is_a_file(tmp_path: Path) -> None:
    """No layer links into another: engines unpack each by itself."""
    lower = _tree(tmp_path / "lower", _NAMES, 1.0)
    upper = _tree(tmp_path / "upper", _NAMES, 1.0)
    (upper / "usr/bin/zwin").hardlink_to(upper / "usr/bin/tool")
    _, below = entries_of(lower, tmp_path)
    write_layer(upper, tmp_path / "top.tar", below)
    with tarfile.open(tmp_path / "top.tar") as tar:
        assert tar.getmember("usr/bin/zwin").isreg()
