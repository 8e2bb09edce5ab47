"""The corpus is complete, and its loader finds every way of being wrong."""

from __future__ import annotations

import base64
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest
from support.corpus import CORPUS, CorpusError, CorpusProgram, ExpectedBytes, Observed, load_corpus

from crucible.evaluation.limits import ceilings_of
from crucible.evaluation.request import check_request, decode_request, options_of, program_from
from crucible.executor.served import ServedEnvironments
from crucible.models import OWN_END, Limits, Outcome, Verdict
from crucible.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = load_corpus()
WHOLE = """
about = "a test"
language = "bash"
deterministic = true

[expect]
verdict = "ok"
exit_code = 0
stdout = "hi\\n"
stderr = ""
truncated = false
"""


def write(folder: Path, text: str = WHOLE, source: str = "echo hi\n") -> Path:
    (folder / "one.sh").write_text(source)
    (folder / "one.toml").write_text(text)
    return folder


def seen(program: CorpusProgram, **changes: object) -> Observed:
    exact = {name: getattr(program, name).exact for name in ("stdout", "stderr")}
    fields = {
        "verdict": program.verdict.value,
        "exit_code": program.exit_code,
        "signal": program.signal,
        "truncated": program.truncated,
    }
    return Observed(**{**fields, **exact, **changes})


def test_corpus_is_broad() -> None:
    """Ninety programs and more, at least twenty in each interpreted language, some in C."""
    count = Counter(program.language for program in PROGRAMS)
    assert len(PROGRAMS) >= 90
    assert min(count["python"], count["javascript"], count["bash"]) >= 20
    assert count["c"] >= 4


def test_corpus_covers_the_ends() -> None:
    """Every verdict a program can earn honestly and cheaply is earned by some program."""
    verdicts = {program.verdict for program in PROGRAMS}
    limits = {verdict for verdict in Verdict if verdict.endswith("_limit")}
    assert verdicts == {*OWN_END, *limits, Verdict.TIMEOUT, Verdict.COMPILE_ERROR}
    assert {program.exit_code for program in PROGRAMS} >= {0, 1, 2, 3, 127, 137, 255, None}
    assert {program.signal for program in PROGRAMS} >= {9, 11, 15}
    assert any(program.truncated for program in PROGRAMS)
    assert any(not program.deterministic for program in PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_program_is_whole(program: CorpusProgram) -> None:
    """A program has code and a description, and its two ways of being sent say the same."""
    assert program.about
    assert program.code.strip()
    assert program.name.startswith(program.language + "-")
    sent, body = program.program(), program.request()
    assert (sent.code, sent.language) == (body["code"], body["language"])
    stdin = body.get("stdin", "")
    encoded = body.get("stdin_encoding") == "base64"
    assert (base64.b64decode(stdin) if encoded else stdin.encode()) == sent.stdin
    assert msgspec.convert(body.get("limits", {}), Limits) == sent.limits
    assert tuple(body.get("args", ())) == sent.args
    assert body.get("env", {}) == sent.env
    assert [file["name"] for file in body.get("files", [])] == [file.name for file in sent.files]
    msgspec.json.encode(body)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_program_passes_the_door(program: CorpusProgram) -> None:
    """Its request is accepted with default settings, and becomes the program meant."""
    request = decode_request(msgspec.json.encode(program.request()))
    ceilings = ceilings_of(Settings())
    check_request(request, ServedEnvironments(), ceilings)
    arguments = options_of(request)
    made = program_from(
        program.program().eval_id,
        request.code,
        request.language,
        arguments,
        served=ServedEnvironments(),
        ceilings=ceilings,
    )
    assert made == program.program()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_source_is_not_touched(program: CorpusProgram) -> None:
    """The code sent is the source file byte for byte."""
    (source,) = (p for p in CORPUS.glob(f"{program.name}.*") if p.suffix != ".toml")
    assert program.code.encode() == source.read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('about = "a test"', "", "about"),
        ("deterministic = true", "", "deterministic"),
        ("deterministic = true", 'deterministic = "yes"', "deterministic"),
        ("deterministic = true", "deterministic = true\nlimit = {}", "limit"),
        ('"bash"', '"cobol"', "cobol"),
        ('"bash"', '"python"', "one.py"),
        ('verdict = "ok"', 'verdict = "fine"', "fine"),
        ("exit_code = 0", "", "exit_code None"),
        ("exit_code = 0", "exit_code = 3", "exit_code 3"),
        ("exit_code = 0", "exit_code = 0\nsignal = 9", "signal 9"),
        ('verdict = "ok"', 'verdict = "signalled"', "signalled"),
        (
            'verdict = "ok"\nexit_code = 0',
            'verdict = "timeout"\nexit_code = 1\nsignal = 9',
            "timeout",
        ),
        ("truncated = false", "", "truncated"),
        ('stderr = ""', "", "stderr"),
        ('stderr = ""', 'stderr = ""\nstderr_regex = ""', "stderr"),
        ('stderr = ""', "stderr_bytes = 3", "stderr"),
        ('stderr = ""', 'stderr_sha256 = "00"', "stderr"),
        ('stderr = ""', 'stderr_base64 = "?"', "base64"),
        ('stderr = ""', 'stderr_regex = "("', "one.toml"),
        ("[expect]", "limits = { memory_mb = 'much' }\n[expect]", "limits"),
        ("[expect]", "limits = { memory = 3 }\n[expect]", "memory"),
        ("[expect]", "[expect", "one.toml"),
    ],
)
def test_wrong_description_is_named(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    """A description that is incomplete or contradicts itself is refused with file and key."""
    write(tmp_path, WHOLE.replace(old, new))
    with pytest.raises(CorpusError, match=r"one\.") as caught:
        load_corpus(tmp_path)
    assert complaint in str(caught.value)


def test_source_without_description_is_named(tmp_path: Path) -> None:
    """A source nobody described is an error and not a silent gap."""
    write(tmp_path)
    (tmp_path / "two.js").write_text("1")
    with pytest.raises(CorpusError, match=r"two\.js"):
        load_corpus(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"verdict": "nonzero_exit"}, "verdict"),
        ({"exit_code": 1}, "exit_code"),
        ({"exit_code": None}, "exit_code"),
        ({"signal": 9}, "signal"),
        ({"stdout": b"hi"}, "stdout"),
        ({"stderr": b"hi\n"}, "stderr"),
        ({"truncated": True}, "truncated"),
    ],
)
def test_each_difference_is_found(
    tmp_path: Path, change: dict[str, object], complaint: str
) -> None:
    """A dropped last byte, a changed exit code, a word on stderr: each is one mismatch."""
    (program,) = load_corpus(write(tmp_path))
    assert program.check(seen(program)) == []
    (sentence,) = program.check(seen(program, **change))
    assert sentence.startswith(complaint + ":")


def test_signal_after_a_limit_is_free() -> None:
    """Which signal ends a program at its limit is not part of the corpus, its exit code is."""
    program = next(p for p in PROGRAMS if p.verdict is Verdict.TIMEOUT)
    assert program.check(seen(program, signal=9)) == program.check(seen(program)) == []
    assert program.check(seen(program, exit_code=137)) != []


def test_digest_and_pattern() -> None:
    """A digest holds to the byte; a pattern must match all of the stream, newlines included."""
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert ExpectedBytes(size=0, sha256=empty).mismatch("stdout", b"") is None
    assert "SHA-256" in (ExpectedBytes(size=1, sha256=empty).mismatch("stdout", b"x") or "")
    assert ExpectedBytes(pattern="a.*c").mismatch("stderr", b"a\n\xffb\nc") is None
    assert ExpectedBytes(pattern="a").mismatch("stderr", b"ab") is not None


def test_both_views_of_an_end_agree() -> None:
    """An executor's outcome and a client's view of it are observed alike, bytes included."""
    outcome = Outcome(verdict=Verdict.OK, exit_code=0, stdout=b"\xff\x00", stderr="é".encode())
    view = {
        "verdict": "ok",
        "exit_code": 0,
        "signal": None,
        "output": "/wA=",
        "output_encoding": "base64",
        "error": "é",
        "output_truncated": False,
    }
    assert Observed.from_outcome(outcome) == Observed.from_view(view)
