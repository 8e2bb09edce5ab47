"""Which environment a program runs in."""

from __future__ import annotations

import pytest

from crucible.environments import DATA, DEFAULT, JUDGE
from crucible.errors import InputError
from crucible.executor.served import ServedEnvironments

SERVED = ServedEnvironments((DEFAULT, DATA, JUDGE))


@pytest.mark.parametrize(
    ("asked", "environment", "found"),
    [
        ("python", None, ("default", "python")),
        ("python", "data", ("data", "python")),
        ("py", None, ("default", "python")),
        ("nodejs", None, ("default", "javascript")),
        ("c++", None, ("judge", "cpp")),
        ("golang", "judge", ("judge", "go")),
        ("ts", None, ("judge", "typescript")),
    ],
)
def test_a_program_finds_its_place(
    asked: str, environment: str | None, found: tuple[str, str]
) -> None:
    """The environment it names, else the first with its language; aliases are names."""
    where, language = SERVED.find(asked, environment)
    assert (where.name, language.name) == found


@pytest.mark.parametrize(
    ("asked", "environment", "field", "words"),
    [
        ("cobol", None, "language", "known are python"),
        ("cobol", "data", "language", '"data" has python'),
        ("rust", "data", "language", "it is in judge"),
        ("python", "nowhere", "environment", "served are default, data, judge"),
    ],
)
def test_what_is_not_there_is_named(
    asked: str, environment: str | None, field: str, words: str
) -> None:
    """The error names the field that is wrong and says what there is."""
    with pytest.raises(InputError) as caught:
        SERVED.find(asked, environment)
    assert caught.value.field == field
    assert words in caught.value.detail


def test_languages_and_where_they_are() -> None:
    """A list of all, each with its environments in order."""
    assert {"python", "rust"} < set(SERVED.languages())
    assert SERVED.having("python") == ("default", "data", "judge")
    assert SERVED.having("rust") == ("judge",)
