"""What a server must be, and should be, to carry the queue: asked at start and by ``doctor``.

Rights are found out by trying: each command the scripts use is sent once, on keys of no meaning and
on the real ones where that changes nothing, so that a missing command, key pattern or channel shows
before a message is at stake.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from crucible.broker.redis.translation import state_of, translate, translated
from crucible.errors import BrokerError, BrokerUnavailable, RequirementError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from crucible.redis_keys import Keys

    Command = tuple[Any, ...]

logger = logging.getLogger(__name__)

#: RPOP with a count, and ZADD GT of stock workers, came with it.
MIN_VERSION = (6, 2)
#: Seconds by which the server's clock may differ from ours without a word.
MAX_CLOCK_DIFFERENCE_S = 5.0
#: Seconds that a start waits for what a server says of itself.
_EXAMINE_S = 3.0
#: Share of ``maxmemory`` from which on it is worth a word.
_NEARLY_FULL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a server says of itself.

    Attributes:
        version: of Redis, or of the Redis that it is compatible with.
        mode: ``standalone``, ``sentinel`` or ``cluster``.
        used_bytes: memory in use.
        max_bytes: its limit, 0 for none.
        policy: what is evicted at the limit.
        keeps_file: every write is kept on disk.
        clock_difference_s: seconds that its clock is ahead of ours.
        replicas: that follow it, and have all but what was written just now.
        replicas_wanted: that have to confirm what is accepted (``CRUCIBLE_REPLICAS``).
        forbidden: commands that its ACL refuses, or that were renamed.
        refusal: why it takes no writes now; empty when it does.
    """

    version: tuple[int, ...]
    mode: str
    used_bytes: int
    max_bytes: int
    policy: str
    keeps_file: bool
    clock_difference_s: float
    replicas: int
    replicas_wanted: int
    forbidden: Sequence[str]
    refusal: str


class Weight(enum.Enum):
    """How grave a finding is."""

    DOUBT = enum.auto()  # it works, and somebody should look at it
    REFUSAL = enum.auto()  # it does not work now
    RIGHTS = enum.auto()  # the user lacks a right
    UNUSABLE = enum.auto()  # it can never work


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        weight: how grave it is.
        detail: what it is.
        remedy: what to do.
    """

    weight: Weight
    detail: str
    remedy: str


def judge(facts: Facts) -> list[Finding]:
    """Everything that is not as it should be, what is fatal first."""
    return [*_fatal(facts), *_doubtful(facts)]


def _fatal(facts: Facts) -> list[Finding]:
    found = []
    if facts.version < MIN_VERSION:
        shown, least = ".".join(map(str, facts.version)), ".".join(map(str, MIN_VERSION))
        found.append(
            Finding(
                Weight.UNUSABLE, f"Redis {shown} is older than {least}", f"use {least} or newer"
            )
        )
    if facts.mode == "cluster":
        found.append(
            Finding(
                Weight.UNUSABLE,
                "it is in cluster mode, where a script cannot use keys of several slots",
                "use a server without it, with replicas and Sentinel if need be",
            )
        )
    if facts.forbidden:
        detail = f"it does not let this user run {', '.join(facts.forbidden)}"
        found.append(Finding(Weight.RIGHTS, detail, "grant what docs/queue-server.md lists"))
    if facts.refusal:
        found.append(Finding(Weight.REFUSAL, facts.refusal, "see the server's log"))
    if facts.replicas < facts.replicas_wanted:
        detail = (
            f"{facts.replicas} of the {facts.replicas_wanted} replicas of CRUCIBLE_REPLICAS follow "
            "it: no submission gets its 202"
        )
        remedy = "see why a replica is away (INFO replication), or lower CRUCIBLE_REPLICAS"
        found.append(Finding(Weight.REFUSAL, detail, remedy))
    return found


def _doubtful(facts: Facts) -> list[Finding]:
    found = []
    if facts.max_bytes and facts.policy != "noeviction":
        found.append(
            Finding(
                Weight.DOUBT,
                f"with maxmemory-policy {facts.policy} it may evict queues and claims",
                "set maxmemory-policy noeviction",
            )
        )
    if facts.max_bytes and not facts.refusal and facts.used_bytes > _NEARLY_FULL * facts.max_bytes:
        share = facts.used_bytes / facts.max_bytes
        found.append(
            Finding(
                Weight.DOUBT,
                f"{share:.0%} of its maxmemory is in use",
                "raise it, or let queues drain",
            )
        )
    if not facts.keeps_file:
        found.append(
            Finding(
                Weight.DOUBT,
                "without an append-only file what was accepted is lost when it dies",
                "set appendonly yes",
            )
        )
    if abs(facts.clock_difference_s) > MAX_CLOCK_DIFFERENCE_S:
        found.append(
            Finding(
                Weight.DOUBT,
                f"its clock differs by {facts.clock_difference_s:+.1f} s from this machine's",
                "run NTP on both",
            )
        )
    return found


async def read_facts(
    client: Redis, keys: Keys, *, scripting: bool = True, replicas: int = 0
) -> Facts:
    """Ask a server, and try what it lets this user do.

    Args:
        client: of the server; replies are bytes.
        keys: key names.
        scripting: whether scripts are to be used.
        replicas: that are to confirm what is accepted.

    Raises:
        BrokerUnavailable: it does not answer.
        BrokerError: it does not say even what it is.
    """
    asked: Any = client
    with translated():
        server = await asked.info("server")
        seconds, microseconds = await asked.time()
        difference_s = seconds + microseconds / 1e6 - time.time()
        memory = await asked.info("memory")
        persistence = await asked.info("persistence")
        replication = await asked.info("replication")
    # Answers at once, for no replica is asked for.
    confirmation: list[Command] = [("WAIT", 0, 0)] if replicas else []
    commands = [*_commands(keys, scripting=scripting), *confirmation]
    forbidden, refusal = await _try(asked, commands)
    return Facts(
        version=tuple(int(part) for part in str(server["redis_version"]).split(".")[:3]),
        # Valkey has another name for it.
        mode=server.get("redis_mode") or server.get("server_mode", "standalone"),
        used_bytes=memory["used_memory"],
        max_bytes=memory.get("maxmemory", 0),
        policy=memory.get("maxmemory_policy", "noeviction"),
        keeps_file=bool(persistence.get("aof_enabled")),
        clock_difference_s=difference_s,
        replicas=_online(replication),
        replicas_wanted=replicas,
        forbidden=forbidden,
        refusal=refusal,
    )


def _online(replication: dict[str, Any]) -> int:
    """Replicas that get every write, not those that still load what was there before."""
    count = int(replication.get("connected_slaves", 0))
    states = [replication.get(f"slave{number}", {}).get("state") for number in range(count)]
    # Managed servers may not say more than their number.
    return sum(state in ("online", None) for state in states)


async def require_usable(
    client: Redis,
    keys: Keys,
    *,
    scripting: bool = True,
    replicas: int = 0,
    needs_all_rights: bool = True,
) -> None:
    """Say at start what is not as it should be; a server that is away is waited for elsewhere.

    Args:
        client: of the server; replies are bytes.
        keys: key names.
        scripting: whether scripts are to be used.
        replicas: that are to confirm what is accepted.
        needs_all_rights: whether rights that are missing are fatal, as for a worker.

    Raises:
        RequirementError: the queue cannot work with this server.
    """
    try:
        with translated():
            async with asyncio.timeout(_EXAMINE_S):
                facts = await read_facts(client, keys, scripting=scripting, replicas=replicas)
    except BrokerUnavailable:
        return
    except BrokerError as error:
        logger.warning("the queue server does not say what it is: %s", error)
        return
    fatal = {Weight.UNUSABLE, *([Weight.RIGHTS] if needs_all_rights else [])}
    for finding in judge(facts):
        if finding.weight in fatal:
            raise RequirementError(f"the queue server: {finding.detail}", finding.remedy)
        logger.warning("the queue server: %s (%s)", finding.detail, finding.remedy)


async def check_writable(client: Redis, keys: Keys) -> None:
    """Find out whether a server would take a message now; changes nothing.

    Raises:
        BrokerError: it would not, or is not there.
    """
    asked: Any = client
    with translated():
        await asked.zadd(keys.unacked_index, {"": 0}, xx=True)
        await asked.exists(keys.unacked, keys.unacked_index)


async def _try(client: Any, commands: Sequence[Command]) -> tuple[list[str], str]:
    """Commands that are forbidden, and why the server takes no writes where it takes none."""
    forbidden: list[str] = []
    refusal = ""
    with translated():
        async with client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            replies = await pipe.execute(raise_on_error=False)
    for command, reply in zip(commands, replies, strict=True):
        if not isinstance(reply, ResponseError):
            continue
        if state_of(reply) == "NOPERM" or "unknown command" in str(reply):
            on_a_key = len(command) > 1 and command[0] != "WAIT"
            forbidden.append(f"{command[0]} on {command[1]}" if on_a_key else command[0])
        elif state_of(reply) and not refusal:
            refusal = str(translate(reply))
    return forbidden, refusal


def _commands(keys: Keys, *, scripting: bool) -> list[Command]:
    """Every command that is used, in an order that leaves nothing behind."""
    name = f"{keys.prefix}crucible:probe:{secrets.token_hex(8)}"
    text, items, table, scores, members, stream = (f"{name}:{number}" for number in range(6))
    result = keys.result(f"probe-{secrets.token_hex(8)}")
    used: list[Command] = [
        ("SET", text, 1, "PX", 1000), ("GET", text), ("GETRANGE", text, 0, 1), ("MGET", text),
        ("INCR", text), ("EXPIRE", text, 1), ("PTTL", text), ("EXISTS", text), ("TYPE", text),
        ("LPUSH", items, 1), ("RPUSH", items, 1), ("RPOP", items, 2), ("LLEN", items),
        ("LRANGE", items, 0, 1),
        ("HSET", table, 1, 1), ("HGET", table, 1), ("HMGET", table, 1), ("HEXISTS", table, 1),
        ("HLEN", table), ("HINCRBY", table, 1, 1), ("HGETALL", table), ("HSCAN", table, 0),
        ("HDEL", table, 1),
        ("ZADD", scores, 1, 1), ("ZSCORE", scores, 1), ("ZCARD", scores), ("ZRANGE", scores, 0, 0),
        ("ZRANGEBYSCORE", scores, 0, 1), ("ZSCAN", scores, 0), ("ZREM", scores, 1),
        ("SADD", members, 1), ("SMEMBERS", members), ("SREM", members, 1),
        ("XADD", stream, "MAXLEN", "~", 1, "*", "a", 1), ("XLEN", stream),
        ("XREVRANGE", stream, "+", "-", "COUNT", 1),
        ("DEL", text, items, table, scores, members, stream),
        # The real keys: nothing of this changes them.
        ("HDEL", keys.unacked, ""), ("ZREM", keys.unacked_index, ""), ("ZREM", keys.workers, ""),
        ("XLEN", keys.dlq), ("DEL", result), ("PUBLISH", result, ""),
    ]  # fmt: skip
    if scripting:
        used.append(("EVAL", "return redis.call('EXISTS', KEYS[1], KEYS[2])", 2, text, items))
    return used
