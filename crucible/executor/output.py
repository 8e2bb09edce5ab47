"""What comes back from one program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.executor import frames
from crucible.executor.artifact import Artifact
from crucible.executor.frames import FrameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.executor.artifact import ArtifactFile
    from crucible.executor.frames import End
    from crucible.executor.talk import Talk

#: Bytes of the supervisor's own complaints worth keeping.
_COMPLAINT_BYTES = 4096
#: What is omitted was asked for by name or pattern, or found by a pattern.
_MAX_OMITTED = 2 * frames.OUTPUT_FILES


class Output:
    """What came back from one program, capped on this side too.

    Args:
        cap: bytes of each stream that are kept.
        file_bytes: bytes that files handed back may have together.
        said: called with each piece of standard output that is kept.
    """

    def __init__(
        self, cap: int, file_bytes: int = 0, said: Callable[[bytes], None] | None = None
    ) -> None:
        self._said = said
        self.cap = cap
        self.file_bytes = file_bytes
        self.kept = {frames.STDOUT: bytearray(), frames.STDERR: bytearray()}
        self.files: dict[str, bytes] = {}
        self.files_omitted: dict[str, str] = {}
        self.made: list[ArtifactFile] = []
        self.made_bytes = 0
        self.end: End | None = None
        self.ready = False
        self.code = b""
        self.started = False
        self.complaint = b""

    @property
    def stdout(self) -> bytes:
        """Kept of descriptor 1."""
        return bytes(self.kept[frames.STDOUT])

    @property
    def stderr(self) -> bytes:
        """Kept of descriptor 2."""
        return bytes(self.kept[frames.STDERR])

    @property
    def artifact(self) -> Artifact:
        """What a compiler made."""
        return Artifact(files=tuple(self.made))

    def complain(self, data: bytes) -> None:
        """Keep the end of what the supervisor itself had to say."""
        self.complaint = (self.complaint + data)[-_COMPLAINT_BYTES:]

    def take(self, kind: bytes, payload: bytes) -> None:
        """Take in one frame.

        Raises:
            FrameError: its payload is malformed.
        """
        if kind in self.kept:
            kept = self.kept[kind]
            piece = payload[: self.cap - len(kept)]
            kept += piece
            if self._said is not None and kind == frames.STDOUT and piece:
                self._said(piece)
        elif kind in (frames.FILE, frames.NO_FILE, frames.ARTIFACT):
            self._take_file(kind, payload)
        elif kind == frames.END:
            self.end = frames.decode_end(payload)
        elif kind == frames.READY:
            self.ready = True
            self.code = payload
        elif kind == frames.STARTED:
            self.started = True

    def _take_file(self, kind: bytes, payload: bytes) -> None:
        """Take in a file, or why there is none."""
        if kind == frames.ARTIFACT:
            self.made_bytes += len(payload)
            self.made.append(frames.decode_artifact(payload))
            if self.made_bytes > 2 * frames.ARTIFACT_BYTES:
                raise FrameError("more compiled files than may be handed back")
            return
        name, content = frames.decode_file(payload)
        if kind == frames.NO_FILE:
            self.files_omitted[name] = content.decode("ascii", "replace")
        else:
            self.files[name] = content
            self.file_bytes -= len(content)
        if (
            self.file_bytes < 0
            or len(self.files) > frames.OUTPUT_FILES
            or len(self.files_omitted) > _MAX_OMITTED
        ):
            raise FrameError("more files than may be handed back")


class SpokenOutput(Output):
    """The same of a program that talks: what it says is passed on when it says it.

    Args:
        cap: bytes kept of standard output, and of standard error.
        talk: hears of it.
    """

    def __init__(self, cap: int, talk: Talk) -> None:
        super().__init__(cap if talk.kept_bytes is None else talk.kept_bytes)
        self._talk = talk

    def take(self, kind: bytes, payload: bytes) -> None:
        """Take in one frame; as of ``Output.take``."""
        super().take(kind, payload)
        if kind == frames.STDOUT:
            self._talk.said(payload)
        elif kind == frames.USED:
            self._talk.used(int.from_bytes(payload[:8], "big") / 1e6)
        elif kind == frames.STARTED:
            self._talk.started()
