"""One call of every script of the broker that would write something, on keys of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from crucible.broker.wire.encode import encode_task

_RAW = encode_task("add", [1, 2], task_id="t", queue="q")
_META = b'{"status": "SUCCESS", "result": 3, "task_id": "t"}'
_CLAIM = "crucible|wtest|1"
_DELAYED = "crucible|delayed|0|abc"
_VALUE = b"[" + _RAW + b', "", "q"]'
#: Long ago: a claim made then is due, and old.
_THEN = 1000.0


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """One call.

    Attributes:
        script: its name.
        keys: KEYS.
        args: ARGV.
        claims: fields of ``unacked`` that are there before.
        strays: the same without a row of the index.
        lists: messages that wait before.
        strings: further keys that are there before.
    """

    script: str
    keys: list[str]
    args: list[Any]
    claims: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)
    strings: dict[str, str] = field(default_factory=dict)

    async def seed(self, client: Any) -> None:
        """Lay down what is there before; ``client`` may do anything."""
        for name in self.claims:
            await client.hset(f"{self.script}:unacked", name, _VALUE)
            await client.zadd(f"{self.script}:unacked_index", {name: _THEN})
        for name in self.strays:
            await client.hset(f"{self.script}:unacked", name, _VALUE)
        for name in self.lists:
            await client.lpush(name, _RAW)
        for name, value in self.strings.items():
            await client.set(name, value)


def script_calls() -> list[ScriptCall]:
    """A call of each script that takes claims, renews, ends or restores them."""

    def own(script: str, *names: str) -> list[str]:
        return [f"{script}:{name}" for name in ("unacked", "unacked_index", *names)]

    chord = [f"count_chord_part:g{suffix}" for suffix in (".j", ".t", ".s", ".d", "", ".c")]
    return [
        ScriptCall(
            "claim",
            own("claim", "dlq", "q"),
            ["crucible|w|", 0, 1, 100, 1, '"q"'],
            lists=["claim:q"],
        ),
        ScriptCall(
            "settle_results", own("settle_results", "r"), [60, 1, _CLAIM, _META], claims=[_CLAIM]
        ),
        ScriptCall(
            "settle_message",
            own("settle_message", "q", "r"),
            [_CLAIM, "tail", _RAW, _META, 60],
            claims=[_CLAIM],
        ),
        ScriptCall(
            "delay", own("delay"), ["3600", _CLAIM, _DELAYED, "9999999999"], claims=[_CLAIM]
        ),
        ScriptCall("requeue", own("requeue", "q"), [_CLAIM, 1], claims=[_CLAIM]),
        ScriptCall(
            "renew",
            ["renew:unacked_index", "renew:worker", "renew:fence", "renew:workers"],
            ["node", 9, "wtest", _CLAIM],
            claims=[_CLAIM],
        ),
        ScriptCall(
            "settle_effects",
            own("settle_effects", "r", "q"),
            [60, "claim", _CLAIM, "store", 3, _META, "push", 4, _RAW],
            claims=[_CLAIM],
        ),
        ScriptCall(
            "count_chord_part",
            [*chord, "count_chord_part:unacked"],
            ["t", '[1, "t", "SUCCESS", 3]', '[1, "t",', "+inf", 60, "token", 6, _CLAIM],
            claims=[_CLAIM],
            strings={"count_chord_part:g.s": "2"},
        ),
        ScriptCall(
            "restore",
            own("restore", "q"),
            [60, 100, 3600, _CLAIM, "1000", 0, 0, "list", 3, _RAW, 0, "", 0],
            claims=[_CLAIM],
        ),
        ScriptCall(
            "release_due",
            own("release_due"),
            ["3600", 10, "release_due:", "|", "crucible|delayed|", 60],
            claims=[_DELAYED],
        ),
        ScriptCall("begin_sweep", ["begin_sweep:mark", "begin_sweep:workers"], ["begin", 60_000]),
        ScriptCall("index_strays", own("index_strays"), [0, 100], strays=[_CLAIM]),
    ]
