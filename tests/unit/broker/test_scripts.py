from __future__ import annotations

from importlib.resources import files

import pytest

from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.redis.without_lua.store import TransactionStore

#: What the group commit calls, and what is only included in others.
ELSEWHERE = {"publish", "store_result"}
FOLDER = files("crucible.broker").joinpath("lua")
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
