"""What a program may look like at the door."""

from __future__ import annotations

from typing import Any

import pytest

from crucible.errors import InputError
from crucible.executor.admission import CEILING, check_limits, check_program
from crucible.models import Limits, Program, SourceFile


@pytest.mark.parametrize("name", Limits.__struct_fields__)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e308, "5", True, None])
def test_a_limit_that_is_no_sane_number_is_refused(name: str, value: Any) -> None:
    """Zero, negative, endless, huge and wrongly typed limits name their field."""
    with pytest.raises(InputError) as caught:
        check_limits(Limits(**{name: value}))
    assert caught.value.field == f"limits.{name}"


def test_defaults_floor_and_ceiling_are_taken() -> None:
    """The defaults pass, and so does exactly the ceiling."""
    check_limits(Limits())
    check_limits(CEILING)


def files(*names: str) -> dict[str, Any]:
    return {"files": tuple(SourceFile(name=name, content="") for name in names)}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"language": "cobol"}, "language"),
        ({"code": "x" * (5 << 20)}, "code"),
        ({"stdin": b"x" * (17 << 20)}, "stdin"),
        ({"args": ("a",) * 100_000}, "args"),
        ({"args": ("x" * 200_000,)}, "args"),
        ({"args": ("x" * (128 << 10),)}, "args"),
        ({"env": dict.fromkeys((f"A{n}" for n in range(1001)), "")}, "env"),
        ({"args": ("ok", "a\0b")}, "args[1]"),
        ({"env": {"A-B": ""}}, "env.A-B"),
        ({"env": {"A=B": ""}}, "env.A=B"),
        ({"env": {"": ""}}, "env."),
        ({"env": {"LD_PRELOAD": "x"}}, "env.LD_PRELOAD"),
        ({"env": {"A": "\0"}}, "env.A"),
        (files("../x"), "files[0].name"),
        (files("a/../../x"), "files[0].name"),
        (files("/etc/passwd"), "files[0].name"),
        (files("a", "a"), "files[1].name"),
        (files("a\nb"), "files[0].name"),
        (files("a" * 256), "files[0].name"),
        (files(""), "files[0].name"),
        (files("a//b"), "files[0].name"),
        (files("./a"), "files[0].name"),
        (files("\ud800"), "files[0].name"),
        (files("main.py"), "files[0].name"),
        (files("main.py/x"), "files[0].name"),
        (files("a", "a/b"), "files[1].name"),
        (files("a/b/c", "a"), "files[1].name"),
        (files("a\\b"), "files[0].name"),
        (files("/".join("ab" * 9)), "files[0].name"),
        (files(*map(str, range(65))), "files"),
        ({"output_files": ("../x",)}, "output_files[0]"),
        ({"limits": Limits(pids=0)}, "limits.pids"),
        ({"stdin": bytes(15 << 20), "limits": Limits(memory_mb=16)}, "limits.memory_mb"),
        (
            {"code": "x" * (4 << 20), "stdin": bytes(2 << 20), "limits": Limits(memory_mb=16)},
            "limits.memory_mb",
        ),
        (
            {**files("a"), "stdin": bytes(14 << 20), "limits": Limits(memory_mb=33)},
            "limits.memory_mb",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_a_program_that_cannot_run_is_refused(changes: dict[str, Any], field: str) -> None:
    """What cannot be run as asked is refused with the path of its field."""
    with pytest.raises(InputError) as caught:
        check_program(Program(**{"language": "python", "code": "", **changes}))
    assert caught.value.field == field


def test_what_memory_a_program_needs_is_named() -> None:
    """The least limit under which a large program can start is in the refusal, and is taken."""

    def check(stdin_mb: int, memory_mb: int) -> None:
        limits = Limits(memory_mb=memory_mb)
        check_program(
            Program(language="python", code="x", stdin=bytes(stdin_mb << 20), limits=limits)
        )

    with pytest.raises(InputError, match="at least 37 for 15728641 bytes"):
        check(15, 36)
    check(15, 37)
    check(1, 16)
    packed = SourceFile(name="f", content="A" * (16 << 20), encoding="base64")
    check_program(Program(language="sh", code="", files=(packed,), limits=Limits(memory_mb=30)))


def test_an_ordinary_program_passes() -> None:
    """Names, arguments and files of an ordinary program are no trouble."""
    check_program(
        Program(
            language="python",
            code="",
            args=("", "ü", "*"),
            env={"_A1": "x", "PYTHONHASHSEED": "0"},
            **files("a/b/c.txt", "a/d", "ü" * 127, " "),
        )
    )
