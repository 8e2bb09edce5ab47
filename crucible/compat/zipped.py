"""A zip archive from a client as files beside a program: bounded, and without a way out."""

from __future__ import annotations

import base64
import io
import stat
import zipfile
import zlib

from crucible.executor.admission import MAX_FILES, MAX_FILES_BYTES
from crucible.models import SourceFile


class ZipRefused(Exception):  # noqa: N818 - an answer
    """An archive that is not unpacked; says why."""


def unzipped(content: bytes) -> list[SourceFile]:
    """The files of an archive; folders come with the files in them.

    Names are checked where those of all files are. What an entry claims to hold is not believed:
    it is read up to what is left of the bound.

    Raises:
        ZipRefused: it is no archive, or too large, encrypted, or has entries that are no files.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            if len(entries) > MAX_FILES:
                raise ZipRefused(f"must hold at most {MAX_FILES} files")
            left, files = MAX_FILES_BYTES, []
            for entry in entries:
                files.append(_file(archive, entry, left))
                left -= len(files[-1].content) * 3 // 4
            return files
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        # The two errors in between: an encrypted entry, and a compression that is not known.
        raise ZipRefused(f"is no zip archive that can be read: {error}") from None


def _file(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, most: int) -> SourceFile:
    mode = entry.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise ZipRefused("must hold files and folders only")
    with archive.open(entry) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise ZipRefused(f"must hold at most {MAX_FILES_BYTES} bytes")
    return SourceFile(
        name=entry.filename,
        content=base64.b64encode(content).decode(),
        encoding="base64",
        executable=bool(mode & 0o100),
    )
