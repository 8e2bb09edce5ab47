"""Writes a directory tree as an image archive whose bytes depend only on the tree's content."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from crucible.images.definition import SANDBOX_GID, SANDBOX_UID
from crucible.images.layers import hidden, sha256_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.images.layers import Entry, Layers

#: Seconds since 1970 that every file and the image carry: 2023-06-10, Debian 12's release.
EPOCH_S = 1_686_355_200
_BLOCK = 1 << 20


class _Hashing(io.RawIOBase):
    """A write-only file that passes bytes on and computes their SHA-256."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # RawIOBase.write takes any buffer
        self.sha256.update(view)
        return self._inner.write(view)


def write_layer(root: Path, target: Path, below: Mapping[str, Entry] | None = None) -> str:
    """Write the tree below ``root`` as a tar archive; returns its SHA-256 in hex.

    Names are sorted, times and owners fixed. Extended attributes (and with them file capabilities),
    devices, sockets and pipes are left out.

    Args:
        root: the tree.
        target: the archive.
        below: what lower layers have already; only what differs from it is written.
    """
    names = set(_walk(root))
    wanted = names if below is None else _differing(root, names, below)
    marks = set() if below is None else set(hidden(below, names))
    with target.open("wb") as file:
        hashing = _Hashing(file)
        # Unlike PAX, GNU headers have no optional records that could differ.
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for name in sorted(wanted | marks):
                if name in marks:
                    _add_bytes(tar, name, b"")
                else:
                    _add(tar, root, name)
        return hashing.sha256.hexdigest()


def _differing(root: Path, names: set[str], below: Mapping[str, Entry]) -> set[str]:
    """What is not below in the same form, and the folders it is in: engines ask for those."""
    wanted = {name for name in names if not _is_same(root / name, below.get(name))}
    wanted |= {mark.rpartition("/")[0] for mark in hidden(below, names)}
    for name in list(wanted):
        wanted.update(str(parent) for parent in Path(name).parents)
    return wanted & names


def _is_same(path: Path, entry: Entry | None) -> bool:
    if entry is None:
        return False
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return entry == ("l", 0, str(path.readlink()))
    if stat.S_ISDIR(mode):
        return entry == ("d", stat.S_IMODE(mode), "")
    same_kind = entry[:2] == ("f", stat.S_IMODE(mode)) and stat.S_ISREG(mode)
    return same_kind and entry.content == sha256_of(path)


def _walk(root: Path) -> list[str]:
    names: list[str] = []
    for directory, folders, files in os.walk(root):
        base = Path(directory).relative_to(root)
        names.extend(str(base / name) for name in (*folders, *files))
    return names


def _add(tar: tarfile.TarFile, root: Path, name: str) -> None:
    # Hard links: the first name in order is the file, the others are links to it.
    mode = (root / name).lstat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
        return
    member = tar.gettarinfo(str(root / name), arcname=name)
    member.mtime = EPOCH_S
    # A program's account owns nothing in the image, only its mounts.
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = stat.S_IMODE(member.mode)
    if member.isreg():
        with (root / name).open("rb") as content:
            tar.addfile(member, content)
    else:
        tar.addfile(member)


def write_archive(
    layers: Layers, target: Path, *, reference: str, labels: dict[str, str], machine: str
) -> str:
    """Write an archive that an engine loads as an image; returns its id (``sha256:…``)."""
    created = {"created": "2023-06-10T00:00:00Z", "created_by": "crucible environments build"}
    config = msgspec.json.encode(
        {
            "architecture": machine,
            "os": "linux",
            "created": "2023-06-10T00:00:00Z",
            "config": {
                "Env": [
                    "PATH=/usr/local/bin:/usr/bin:/bin",
                    "LANG=C.UTF-8",
                    "HOME=/tmp",
                ],
                "User": f"{SANDBOX_UID}:{SANDBOX_GID}",
                "WorkingDir": "/work",
                "Cmd": ["/bin/sh"],
                "Labels": labels,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{digest}" for digest in layers.digests],
            },
            "history": [created for _ in layers.digests],
        },
        order="sorted",
    )
    image = hashlib.sha256(config).hexdigest()
    names = [f"{digest}.tar" for digest in layers.digests]
    manifest = [{"Config": f"{image}.json", "RepoTags": [reference], "Layers": names}]
    with tarfile.open(target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add_bytes(tar, f"{image}.json", config)
        for name, layer in zip(names, layers.paths, strict=True):
            with layer.open("rb") as content:
                member = tarfile.TarInfo(name)
                member.size, member.mtime = layer.stat().st_size, EPOCH_S
                tar.addfile(member, content)
        _add_bytes(tar, "manifest.json", msgspec.json.encode(manifest))
    return f"sha256:{image}"


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), EPOCH_S
    tar.addfile(member, io.BytesIO(content))
