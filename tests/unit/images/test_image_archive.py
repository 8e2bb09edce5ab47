"""The same tree makes the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from typing import TYPE_CHECKING

from crucible.images.archive import EPOCH_S, write_archive, write_layer

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
        tmp_path / "layer.tar",
        digest,
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
    assert hashlib.sha256(read["layer.tar"]).hexdigest() == digest
