from __future__ import annotations

import io
import stat
import zipfile

import pytest

from crucible.compat.zipped import ZipRefused, unzipped
from crucible.executor.admission import MAX_FILES, MAX_FILES_BYTES


def archive(*entries: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    """A zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as writer:
        for name, content in entries:
            writer.writestr(name, content)
    return file.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    """An entry with a mode of Unix."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def test_files_of_an_archive() -> None:
    """Bytes, folders in names, and who may run them."""
    made = archive(
        ("d/", b""), ("d/x", b"\xff"), (entry("run", stat.S_IFREG | 0o755), b"#!/bin/sh")
    )
    files = unzipped(made)
    assert [(one.name, one.encoding, one.executable) for one in files] == [
        ("d/x", "base64", False),
        ("run", "base64", True),
    ]
    assert files[0].content == "/w=="


def broken() -> bytes:
    """An archive with a byte of its content changed."""
    made = bytearray(archive(("x", b"content" * 100)))
    made[40] ^= 0xFF
    return bytes(made)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"nothing", "no zip archive"),
        (broken(), "no zip archive"),
        (archive(("bomb", bytes(MAX_FILES_BYTES + 1))), "at most"),
        (archive(*((str(number), b"") for number in range(MAX_FILES + 1))), "at most"),
        (archive((entry("link", stat.S_IFLNK | 0o777), b"/etc/passwd")), "files and folders only"),
        (archive((entry("pipe", stat.S_IFIFO | 0o644), b"")), "files and folders only"),
    ],
)
def test_what_is_not_unpacked(content: bytes, words: str) -> None:
    """Too much, too many, links and the like, and what is no archive."""
    with pytest.raises(ZipRefused, match=words):
        unzipped(content)
