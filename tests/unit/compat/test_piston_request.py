"""Bodies of Piston's ``execute``: what takes a default, and what is refused in its words."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.compat.piston_request import LIMITS, STAGES, Execute, File, execute_of
from crucible.compat.piston_signals import ENDING_NOTHING, KNOWN, NAMES
from crucible.errors import InputError

FILE = {"content": "1"}
BODY: dict[str, Any] = {"language": "python", "version": "*", "files": [FILE]}
NO_LIMITS = Execute(language="python", version="*", files=[File(content="1")])
LIMIT_NAMES = [f"{stage}_{kind}" for stage in STAGES for kind in LIMITS]


@pytest.mark.parametrize("name", ["stdin", "args", *LIMIT_NAMES])
def test_null_takes_the_default(name: str) -> None:
    assert execute_of({**BODY, name: None}) == NO_LIMITS


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_zero_takes_the_default_of_a_limit(name: str) -> None:
    assert execute_of({**BODY, name: 0}) == NO_LIMITS
    assert getattr(execute_of({**BODY, name: 1500.5}), name) == 1500.5


@pytest.mark.parametrize(
    ("fields", "file"),
    [
        ({"name": None, "encoding": None}, File(content="1")),
        ({"name": "", "encoding": "utf-8"}, File(content="1")),
        ({"name": "a.py", "encoding": "hex"}, File(content="1", name="a.py", encoding="hex")),
        ({"encoding": ["base64"]}, File(content="1")),
    ],
)
def test_files(fields: dict[str, Any], file: File) -> None:
    assert execute_of({**BODY, "files": [{**FILE, **fields}]}).files == [file]


def test_whole_numbers_are_arguments() -> None:
    assert execute_of({**BODY, "args": ["a", 5]}).args == ["a", "5"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "language is required as a string"),
        ({}, "language is required as a string"),
        ({**BODY, "language": 5}, "language is required as a string"),
        ({**BODY, "language": ""}, "language is required as a string"),
        ({**BODY, "version": None}, "version is required as a string"),
        ({**BODY, "version": 3.11}, "version is required as a string"),
        ({**BODY, "files": None}, "files is required as an array"),
        ({**BODY, "files": "nope"}, "files is required as an array"),
        ({**BODY, "files": [{"name": "a"}]}, "files[0].content is required as a string"),
        ({**BODY, "files": [FILE, {"content": 1}]}, "files[1].content is required as a string"),
        ({**BODY, "files": [FILE, None]}, "files[1].content is required as a string"),
        ({**BODY, "files": [{**FILE, "name": 1}]}, "files[0].name must be a string"),
        ({**BODY, "stdin": 1}, "stdin must be a string"),
        ({**BODY, "args": "a"}, "args must be an array"),
        ({**BODY, "args": [None]}, "args must be an array of strings"),
        ({**BODY, "run_timeout": "soon"}, "If specified, run_timeout must be a number"),
        ({**BODY, "run_cpu_time": True}, "If specified, run_cpu_time must be a number"),
        ({**BODY, "compile_memory_limit": []}, "If specified, compile_memory_limit must be"),
    ],
)
def test_what_is_refused(document: Any, text: str) -> None:
    with pytest.raises(InputError) as refused:
        execute_of(document)
    assert str(refused.value).startswith(text)


def test_signals_have_the_names_of_kill() -> None:
    """Real-time signals are counted from the nearer end; two of the C library's have no name."""
    assert [NAMES[number] for number in (9, 34, 35, 49, 50, 64)] == [
        "SIGKILL", "SIGRTMIN", "SIGRTMIN+1", "SIGRTMIN+15", "SIGRTMAX-14", "SIGRTMAX",
    ]  # fmt: skip
    assert not {32, 33} & NAMES.keys()
    assert {"SIGIOT", "SIGRTMAX-3"} <= KNOWN
    assert "SIGKILL" not in ENDING_NOTHING
    assert {"SIGSTOP", "SIGRTMIN+1"} <= ENDING_NOTHING
