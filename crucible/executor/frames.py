# ruff: noqa: S108 - paths inside the sandbox, where nobody else is
"""What crosses the container's descriptors: the request going in, the frames coming out.

``jail.py`` is the other end and documents the layout. Nothing that comes out is trusted: sizes
are checked against the caps that were asked for, and the end frame is decoded by type.
"""

from __future__ import annotations

import base64
import binascii
import marshal
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.errors import ExecutorRefused
from crucible.executor.jail import MARSHAL_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from crucible.executor.languages import Language
    from crucible.models import Program

READY, STARTED, STDOUT, STDERR, FILE, NO_FILE, END = b"R", b"S", b"O", b"E", b"F", b"N", b"X"

_KINDS = frozenset((READY, STARTED, STDOUT, STDERR, FILE, NO_FILE, END))
#: Largest frame the supervisor may send: a whole output file with its name.
MAX_FRAME_BYTES = 64 << 20
#: Names that the interpreter or the loader reads at its start, when a waiting one is already up.
_START_NAMES = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "GLIBC_", "TZ")
#: How many threads libraries for numbers start; else one for each processor of the machine, which
#: then wait for each other inside the share of a sandbox. Read when the library is loaded, which
#: in an interpreter with preloaded modules has happened.
_THREADS = tuple(
    f"{library}_NUM_THREADS" for library in ("BLIS", "MKL", "NUMEXPR", "OMP", "OPENBLAS")
)
BASE_ENV: Mapping[str, str] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/tmp/work",
    "TMPDIR": "/tmp",
}


def base_env(cpus: float) -> dict[str, str]:
    """The environment of every program, and of the interpreter that waits for one.

    Args:
        cpus: processors a sandbox may use at once.
    """
    return {**BASE_ENV, **dict.fromkeys(_THREADS, str(_whole(cpus)))}


def _whole(cpus: float) -> int:
    return max(1, int(cpus))


class FrameError(Exception):
    """Bytes from a sandbox that no supervisor sends."""


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end frame: how the supervisor saw the program end.

    Attributes:
        stage: ``run``, or ``compile`` when that failed and nothing ran.
        reason: ``exit`` for the program's own end, else what it was stopped for: ``wall``,
            ``cpu``, ``output``, ``kernel_memory``, or ``abandoned`` when the host hung up.
        exit_code: −1 when it did not exit by itself.
        signal: 0 when no signal ended it.
        wall_us: microseconds from the request to the end.
        cpu_us: CPU microseconds of everything in the sandbox.
        memory_peak_bytes: highest memory of the cgroup; 0 where it is not visible.
        oom_kills: processes the kernel killed for the memory limit.
        pids_hits: forks the kernel refused for the pids limit.
        processes: most processes and threads seen at once.
        disk_full: a temporary file system was full at the program's end.
        stdout_bytes: written by the program, kept or not.
        stderr_bytes: the same of descriptor 2.
    """

    stage: str
    reason: str
    exit_code: int
    signal: int
    wall_us: int
    cpu_us: int
    memory_peak_bytes: int
    oom_kills: int
    pids_hits: int
    processes: int
    disk_full: bool
    stdout_bytes: int
    stderr_bytes: int


_END = msgspec.json.Decoder(End)


def decode_end(payload: bytes) -> End:
    """Decode an end frame.

    Raises:
        FrameError: it is not one.
    """
    try:
        return _END.decode(payload)
    except msgspec.DecodeError as error:
        raise FrameError(f"malformed end frame: {error}") from error


def decode_file(payload: bytes) -> tuple[str, bytes]:
    """Name and content of a file frame, or name and reason of one about a file there is none of.

    Raises:
        FrameError: it is cut short or its name is not UTF-8.
    """
    size = int.from_bytes(payload[:2], "big")
    raw = payload[2 : 2 + size]
    if len(payload) < 2 or len(raw) < size:
        raise FrameError("a file frame is cut short")
    try:
        return raw.decode(), payload[2 + size :]
    except UnicodeDecodeError as error:
        raise FrameError("a file name is not UTF-8") from error


class FrameReader:
    """Cuts a byte stream into frames, whatever pieces it arrives in."""

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._max = max_frame_bytes

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take in bytes; yield every (kind, payload) they complete.

        Raises:
            FrameError: an unknown kind, or a frame larger than allowed.
        """
        self._buffer += data
        while len(self._buffer) >= 5:
            kind = bytes(self._buffer[:1])
            size = int.from_bytes(self._buffer[1:5], "big")
            if kind not in _KINDS:
                raise FrameError(f"unknown frame {kind!r}")
            if size > self._max:
                raise FrameError(f"a frame of {size} bytes")
            if len(self._buffer) < 5 + size:
                return
            payload = bytes(self._buffer[5 : 5 + size])
            del self._buffer[: 5 + size]
            yield kind, payload


def _content(program: Program, language: Language) -> list[tuple[str, bytes]]:
    files = []
    for file in program.files:
        if file.encoding == "base64":
            try:
                content = base64.b64decode(file.content, validate=True)
            except (binascii.Error, ValueError) as error:
                raise ExecutorRefused(f"file {file.name!r} is not base64") from error
        else:
            content = file.content.encode("utf-8", "surrogatepass")
        files.append((file.name, content))
    # Last, so that no file of the client's takes the program's own name.
    # Editors put a byte-order mark before it; neither C compilers nor shells know what that is.
    code = program.code.removeprefix("\ufeff")
    files.append((language.file_name, code.encode("utf-8", "surrogatepass")))
    return files


def is_warm(program: Program, language: Language) -> bool:
    """Whether the waiting interpreter can become the program without starting another."""
    head = program.code.split("\n", 2)[:2]
    return (
        language.warm
        and "\0" not in program.code
        # The compiler's words about an encoding differ between a file and a string.
        and not any("coding" in line for line in head)
        and not any(name.startswith((*_START_NAMES, *_THREADS)) for name in program.env)
    )


def encode_request(
    program: Program,
    language: Language,
    *,
    cpus: float,
    file_bytes: int,
) -> bytes:
    """The bytes that make a waiting supervisor run ``program``.

    Args:
        program: what to run; its limits are taken as they are.
        language: its entry in the table.
        cpus: processors the sandbox may use at once, for the pace of the CPU clock.
        file_bytes: most bytes of output files handed back, all together.
    """
    limits = program.limits
    blanks = {"{memory_mb}": str(limits.memory_mb), "{cpus}": str(_whole(cpus))}
    compile_words = [_filled(word, blanks) for word in language.compile or ()]
    own_env = {name: _filled(value, blanks) for name, value in language.env.items()}
    request: dict[str, Any] = {
        "argv": [*(_filled(word, blanks) for word in language.run), *program.args],
        "compile": compile_words or None,
        "warm": is_warm(program, language),
        "env": {**base_env(cpus), **own_env, **program.env},
        "files": _content(program, language),
        "executable": [file.name for file in program.files if file.executable],
        "stdin": program.stdin,
        "wall_s": float(limits.wall_time_s),
        "cpu_s": float(limits.cpu_time_s),
        "cpus": float(cpus),
        "output_bytes": limits.output_kb * 1024,
        "memory_bytes": limits.memory_mb << 20,
        "output_files": list(program.output_files),
        "file_bytes": file_bytes,
    }
    return encode_message(request)


def _filled(word: str, blanks: Mapping[str, str]) -> str:
    for blank, value in blanks.items():
        word = word.replace(blank, value)
    return word


def encode_message(message: Mapping[str, Any]) -> bytes:
    """A message for the supervisor: its length and marshal."""
    body = marshal.dumps(dict(message), MARSHAL_VERSION)
    return len(body).to_bytes(4, "big") + body
