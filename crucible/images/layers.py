"""The layers of an image in the engine, so that another can be put on top of them.

An environment's image is its base's layers and one more: what of its tree is not in the base in
the same form, and marks (whiteouts) for what it no longer has. The base costs no disk a second
time, and the layer depends on nothing but the two trees.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from crucible.errors import RequirementError
from crucible.images.store import LOAD_S, answer_within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import IO

    import aiodocker

#: Put before a name that a lower layer has and the image has not (OCI image layer specification).
WHITEOUT = ".wh."
_BLOCK = 1 << 20


class Entry(NamedTuple):
    """What makes two files of one name the same.

    Attributes:
        kind: ``d`` directory, ``f`` regular file, ``l`` symbolic link.
        mode: permission bits; 0 for links, which have none of their own.
        content: SHA-256 of a file in hex, target of a link.
    """

    kind: str
    mode: int
    content: str


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers, lowest first.

    Attributes:
        paths: each as a tar archive.
        digests: SHA-256 of each, in hex.
        entries: what they come to, by path.
    """

    paths: list[Path] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)


async def export_layers(docker: aiodocker.Docker, reference: str, directory: Path) -> Layers:
    """The layers of an image, written into ``directory``.

    Raises:
        RequirementError: the engine does not hand them out as they were loaded.
    """
    archive = directory / "base.tar"
    async with answer_within(LOAD_S):
        with archive.open("wb") as file:
            async with docker.images.export_image(reference) as stream:
                async for block in stream.iter_chunked(_BLOCK):
                    await asyncio.to_thread(file.write, block)
    return await asyncio.to_thread(_unpack, archive, directory)


def _unpack(archive: Path, directory: Path) -> Layers:
    layers = Layers()
    with tarfile.open(archive) as tar:
        manifest = msgspec.json.decode(_content(tar, "manifest.json").read())[0]
        config = msgspec.json.decode(_content(tar, manifest["Config"]).read())
        wanted = [digest.removeprefix("sha256:") for digest in config["rootfs"]["diff_ids"]]
        for name, digest in zip(manifest["Layers"], wanted, strict=True):
            path = directory / f"lower-{len(layers.paths)}.tar"
            with path.open("wb") as file:
                shutil.copyfileobj(_content(tar, name), file, _BLOCK)
            if sha256_of(path) != digest:
                raise RequirementError(f"the engine hands out {name} in another form than it was")
            index_layer(path, layers.entries)
            layers.paths.append(path)
            layers.digests.append(digest)
    archive.unlink()
    return layers


def _content(tar: tarfile.TarFile, member: str | tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member)
    if found is None:
        raise RequirementError(f"an exported image has something else than a file: {member}")
    return found


def _digest_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def index_layer(layer: Path, entries: dict[str, Entry]) -> None:
    """Lay a layer over what is below it."""
    with tarfile.open(layer, mode="r:") as tar:
        for member in tar:
            folder, _, name = member.name.rstrip("/").rpartition("/")
            path = f"{folder}/{name}" if folder else name
            if name.startswith(WHITEOUT):
                _hide(f"{folder}/{name.removeprefix(WHITEOUT)}".lstrip("/"), entries)
                continue
            if not member.isdir() and path in entries and entries[path].kind == "d":
                _hide(path, entries)
            if member.isdir():
                entries[path] = Entry("d", member.mode, "")
            elif member.issym():
                entries[path] = Entry("l", 0, member.linkname)
            elif member.islnk():
                entries[path] = entries[member.linkname]
            elif member.isreg():
                entries[path] = Entry("f", member.mode, _digest_of(_content(tar, member)))


def _hide(path: str, entries: dict[str, Entry]) -> None:
    inner = f"{path}/"
    for name in [name for name in entries if name == path or name.startswith(inner)]:
        del entries[name]


def hidden(entries: Mapping[str, Entry], kept: set[str]) -> list[str]:
    """Whiteouts for what is below and not kept; of a folder that is gone, for the folder alone."""
    marks = []
    for path in sorted(entries.keys() - kept):
        folder, _, name = path.rpartition("/")
        if not folder or folder in kept:
            marks.append(f"{folder}/{WHITEOUT}{name}" if folder else f"{WHITEOUT}{name}")
    return marks


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return _digest_of(file)
