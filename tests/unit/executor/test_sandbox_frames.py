"""The bytes between host and supervisor, in whatever pieces they come."""

from __future__ import annotations

import marshal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.environments import JUDGE
from crucible.errors import ExecutorRefused
from crucible.executor import frames
from crucible.executor.frames import FrameError, FrameReader, decode_end, decode_file
from crucible.executor.languages import languages_of
from crucible.executor.output import Output
from crucible.models import Program, SourceFile

if TYPE_CHECKING:
    from crucible.executor.frames import End

KINDS = st.sampled_from([frames.READY, frames.STARTED, frames.STDOUT, frames.FILE, frames.END])
END = (
    b'{"reason":"exit","exit_code":0,"signal":0,"wall_us":1,"cpu_us":2,'
    b'"memory_peak_bytes":3,"oom_kills":0,"pids_hits":0,"processes":1,"disk_full":false,'
    b'"stdout_bytes":0,"stderr_bytes":0}'
)


@given(
    st.lists(st.tuples(KINDS, st.binary(max_size=50)), max_size=10),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_frames_survive_any_cut(sent: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    """However the stream is cut into pieces, the same frames come out."""
    stream = b"".join(kind + len(data).to_bytes(4, "big") + data for kind, data in sent)
    reader = FrameReader()
    found = []
    at = turn = 0
    while at < len(stream):
        step = cuts[turn % len(cuts)]
        found += list(reader.feed(stream[at : at + step]))
        at, turn = at + step, turn + 1
    assert found == sent


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    """Bytes no supervisor sends are a frame error or an incomplete frame, nothing else."""
    reader = FrameReader(1000)
    try:
        for kind, payload in reader.feed(data):
            if kind == frames.END:
                decode_end(payload)
            if kind == frames.FILE:
                decode_file(payload)
    except FrameError:
        pass


def test_a_frame_too_large_is_refused_before_it_comes() -> None:
    """The size of a frame is checked as soon as it is known, not once it fills memory."""
    with pytest.raises(FrameError, match="1001 bytes"):
        list(FrameReader(1000).feed(b"O" + (1001).to_bytes(4, "big")))


@pytest.mark.parametrize(
    "payload",
    [b"", b"{}", b"null", END[:-1], END.replace(b'"exit_code":0', b'"exit_code":"0"'),
     END.replace(b'"reason"', b'"verdict":"ok","reason"')],
)  # fmt: skip
def test_an_end_is_taken_by_type(payload: bytes) -> None:
    """An end frame with a field missing, added or of another type is no end frame."""
    with pytest.raises(FrameError):
        decode_end(payload)


def test_an_end_is_decoded() -> None:
    """A supervisor's end frame becomes its record."""
    end: End = decode_end(END)
    assert (end.reason, end.exit_code, end.memory_peak_bytes) == ("exit", 0, 3)


def request_of(program: Program) -> dict[str, object]:
    language = languages_of(JUDGE)[program.language]
    data = frames.encode_request(program, language, cpus=1.0, file_bytes=10)
    assert int.from_bytes(data[:4], "big") == len(data) - 4
    loaded: dict[str, object] = marshal.loads(data[4:])
    return loaded


def test_a_request_says_everything() -> None:
    """Arguments, environment, files, input and limits are all in the request."""
    program = Program(
        language="python",
        code="x",
        stdin=b"\0",
        args=("a",),
        env={"B": "c"},
        files=(SourceFile(name="d", content="ZQ==", encoding="base64", executable=True),),
        output_files=("f",),
    )
    request = request_of(program)
    assert request["argv"] == ["/usr/bin/python3", "main.py", "a"]
    assert request["files"] == [("d", b"e"), ("main.py", b"x")]
    assert request["executable"] == ["d"]
    assert request["stdin"] == b"\0"
    assert request["warm"] is True
    assert request["env"] == {**frames.base_env(1.0), "B": "c"}


@pytest.mark.parametrize("language", languages_of(JUDGE))
def test_a_byte_order_mark_is_no_part_of_the_source(language: str) -> None:
    """One before the source goes, in every language; one inside stays."""
    request = request_of(Program(language=language, code="\ufeffa\ufeff"))
    file_name = languages_of(JUDGE)[language].file_name
    assert request["files"] == [(file_name, "a\ufeff".encode())]


@pytest.mark.parametrize("env", [{"PYTHONHASHSEED": "1"}, {"LC_ALL": "C"}, {"TZ": "UTC"}])
def test_what_an_interpreter_reads_at_its_start_needs_a_new_one(env: dict[str, str]) -> None:
    """The waiting interpreter is passed over where it would ignore part of the environment."""
    assert request_of(Program(language="python", code="", env=env))["warm"] is False


def test_a_file_that_is_not_base64_is_refused() -> None:
    """A file that says base64 and is not can never run."""
    broken = (SourceFile(name="a", content="?", encoding="base64"),)
    with pytest.raises(ExecutorRefused, match="a"):
        request_of(Program(language="sh", code="", files=broken))


def test_more_than_was_asked_for_is_no_answer() -> None:
    """Files and reasons are bounded on this side as well, in bytes and in number."""

    def frame(name: str, content: bytes) -> bytes:
        return len(name).to_bytes(2, "big") + name.encode() + content

    output = Output(10, file_bytes=8)
    output.take(frames.FILE, frame("a", b"12345678"))
    with pytest.raises(FrameError):
        output.take(frames.FILE, frame("b", b"9"))
    reasons, made = Output(10), Output(10)

    def take_all(into: Output, kind: bytes, content: bytes) -> None:
        for number in range(200):
            into.take(kind, frame(str(number), content))

    with pytest.raises(FrameError):
        take_all(reasons, frames.NO_FILE, b"missing")
    with pytest.raises(FrameError):
        take_all(made, frames.ARTIFACT, b"-" + bytes(1 << 20))
    with pytest.raises(FrameError):
        frames.decode_artifact(frame("a", b"?"))


@given(st.text(max_size=20), st.binary(max_size=20))
def test_files_come_back_by_name(name: str, content: bytes) -> None:
    """A file frame carries any name that UTF-8 can spell, and any bytes."""
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        return
    assert decode_file(len(raw).to_bytes(2, "big") + raw + content) == (name, content)


def test_outcomes_cross_both_codecs() -> None:
    """A program survives JSON and msgpack, as the executor service carries it."""
    program = Program(language="sh", code="x", stdin=bytes(range(256)))
    assert msgspec.json.decode(msgspec.json.encode(program), type=Program) == program
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(program), type=Program) == program
