"""Writes a directory tree as an image archive whose bytes depend only on the tree's content."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import BinaryIO

import msgspec

from crucible.images.definition import SANDBOX_GID, SANDBOX_UID

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


def write_layer(root: Path, target: Path) -> str:
    """Write the tree below ``root`` as a tar archive; returns its SHA-256 in hex.

    Names are sorted, times and owners fixed. Extended attributes (and with them file capabilities),
    devices, sockets and pipes are left out.
    """
    with target.open("wb") as file:
        hashing = _Hashing(file)
        # Unlike PAX, GNU headers have no optional records that could differ.
        with tarfile.open(fileobj=hashing, mode="w|", format=tarfile.GNU_FORMAT) as tar:
            for path in sorted(_walk(root)):
                _add(tar, root, path)
        return hashing.sha256.hexdigest()


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
    layer: Path, digest: str, target: Path, *, reference: str, labels: dict[str, str], machine: str
) -> str:
    """Write an archive that an engine loads as an image; returns its id (``sha256:…``)."""
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
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            "history": [{"created": "2023-06-10T00:00:00Z", "created_by": "crucible images build"}],
        },
        order="sorted",
    )
    image = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{image}.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]
    with tarfile.open(target, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add_bytes(tar, f"{image}.json", config)
        with layer.open("rb") as content:
            member = tarfile.TarInfo("layer.tar")
            member.size, member.mtime = layer.stat().st_size, EPOCH_S
            tar.addfile(member, content)
        _add_bytes(tar, "manifest.json", msgspec.json.encode(manifest))
    return f"sha256:{image}"


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), EPOCH_S
    tar.addfile(member, io.BytesIO(content))
