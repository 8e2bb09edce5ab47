from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What the group commit calls, and what is only included in others.
ELSEWHERE = {"publish", "store_result"}
FOLDER = files("crucible.broker").joinpath("lua")
#: Commands whose reply is a key's whole content, and those whose reply is a range by value.
WHOLE = {"HGETALL", "HKEYS", "HVALS", "SMEMBERS", "KEYS", "SORT"}
RANGES = {"ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZRANGEBYLEX"}
SCRIPTS = sorted(entry.name.removesuffix(".lua") for entry in FOLDER.iterdir())


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name not in ELSEWHERE])
def test_each_script_is_one_method_with_and_without_lua(name: str) -> None:
    """The name of a script is the name of its operation, whatever runs it."""
    assert callable(getattr(LuaStore, name))
    assert callable(getattr(TransactionStore, name))


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_says_what_it_takes(name: str) -> None:
    """KEYS, ARGV and the reply stand at its head."""
    if name == "store_result":
        return
    text = FOLDER.joinpath(f"{name}.lua").read_text("utf-8")
    head = [line for line in text.split("\n\nlocal", 1)[0].splitlines() if line.startswith("--")]
    assert all(any(word in line.upper() for line in head) for word in ("KEYS", "ARGV", "RETURN"))


def calls_of(text: str) -> Iterator[tuple[str, str]]:
    """The commands a script calls, with their arguments as written."""
    for call in re.finditer(r"redis\.p?call\('(\w+)'", text):
        depth, end = 1, call.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        yield call[1], text[call.end() : end - 1]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_asks_for_all_there_is_in_a_key(name: str) -> None:
    """Ranges have a limit, and whole keys are not read: work is bounded by the arguments."""
    text = FOLDER.joinpath(f"{name}.lua").read_text("utf-8")
    for command, arguments in calls_of(text):
        assert command not in WHOLE
        if command in RANGES:
            assert "'LIMIT'" in arguments, (command, arguments)
        elif command in ("ZRANGE", "ZREVRANGE", "LRANGE", "XRANGE"):
            assert "-1" not in arguments, (command, arguments)
