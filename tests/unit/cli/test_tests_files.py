from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from crucible.cli.tests_files import read_tests
from crucible.errors import ApiError


def test_pairs_of_a_folder(tmp_path: Path) -> None:
    """Inputs with answers of either suffix, in the order of their numbers; bytes stay bytes."""
    for name, content in {
        "10.in": b"ten", "10.out": b"X", "2.in": b"two", "2.ans": b"II", "b.in": b"\xff",
        "b.out": b"\xfe", "notes.txt": b"",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    assert read_tests(tmp_path, judged=False) == {
        "tests": [
            {"id": "2", "stdin": "two", "expected": "II"},
            {"id": "10", "stdin": "ten", "expected": "X"},
            {
                "id": "b",
                "stdin": "/w==",
                "stdin_encoding": "base64",
                "expected": "/g==",
                "expected_encoding": "base64",
            },
        ]
    }


def test_an_answer_may_be_missing_for_a_checker_alone(tmp_path: Path) -> None:
    """Without one, an input alone is a mistake that is named."""
    (tmp_path / "1.in").write_text("x")
    assert read_tests(tmp_path, judged=True) == {"tests": [{"id": "1", "stdin": "x"}]}
    with pytest.raises(ApiError, match=r"1.in has neither 1.out nor 1.ans"):
        read_tests(tmp_path, judged=False)


def test_a_json_file(tmp_path: Path) -> None:
    """A list of tests, or an object with them and how they are judged."""
    file, tests = tmp_path / "tests.json", [{"stdin": "1", "expected": "2"}]
    file.write_bytes(msgspec.json.encode(tests))
    assert read_tests(file, judged=False) == {"tests": tests}
    whole = {"tests": tests, "compare": {"mode": "tokens"}, "limits": {"wall_time_s": 1}}
    file.write_bytes(msgspec.json.encode(whole))
    assert read_tests(file, judged=False) == whole


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("{}", "neither a list"),
        ("3", "neither a list"),
        ('{"tests":[],"code":"x"}', "code is no field"),
    ],
)
def test_a_json_file_that_is_none(content: str, words: str, tmp_path: Path) -> None:
    """One line says what is wrong with it."""
    file = tmp_path / "tests.json"
    file.write_text(content)
    with pytest.raises(ApiError, match=words):
        read_tests(file, judged=False)


def test_no_tests(tmp_path: Path) -> None:
    """A folder without tests, and a file that is not there."""
    with pytest.raises(ApiError, match="has no tests"):
        read_tests(tmp_path, judged=False)
    with pytest.raises(ApiError, match="cannot read"):
        read_tests(tmp_path / "none.json", judged=False)
