"""Remote control as a client: sending commands to workers, stock and async alike.

::

    async with ControlClient.connect("redis://…") as control:
        await control.revoke(["some-id"], terminate=True)
        await control.ask("ping", timeout_s=1.0)      # {"w1@host": {"ok": "pong"}}

Source: kombu ``pidbox.py``.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from crucible.broker.claiming.claims import RESULT_TTL_S
from crucible.broker.control.lamport import LamportClock
from crucible.broker.control.revoked import RevokedKey, store_revoked
from crucible.broker.redis.connection import COMMAND_TIMEOUT_S, read_url
from crucible.broker.redis.servers import open_stores
from crucible.broker.wire.fanout import PERSISTENT, Envelope, unpack
from crucible.broker.wire.jsontypes import dumps
from crucible.errors import MessageError
from crucible.redis_keys import BINDING_TTL_S, REPLY_EXCHANGE, SEP, Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from crucible.broker.redis.store import RedisStore

#: Exchange of requests.
_EXCHANGE = "celery.pidbox"
#: Longest blocking pop: below the socket's own timeout.
_POP_S = 2.0


class ControlClient:
    """Sends remote control requests. Made by ``connect``, or around a store that is there.

    Args:
        store: operations on the queue server.
        keys: key names.
        db: database number of the queue server.
        clock: the logical clock to send; one of its own by default.
        results: operations on the result server where it is another.
        result_ttl_s: seconds results are kept, 0 for ever.
    """

    def __init__(
        self,
        store: RedisStore,
        keys: Keys,
        db: int,
        clock: LamportClock | None = None,
        *,
        results: RedisStore | None = None,
        result_ttl_s: int = RESULT_TTL_S,
    ) -> None:
        self._store = store
        self._keys = keys
        self._channel = keys.pidbox(db)
        self._clock = clock or LamportClock()
        self._revoked = RevokedKey(store, keys)
        self._results = results or store
        self._result_ttl_s = result_ttl_s

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        result_url: str | None = None,
        global_keyprefix: str = "",
        result_keyprefix: str = "",
        result_ttl_s: int = RESULT_TTL_S,
        scripting: bool = True,
    ) -> AsyncIterator[ControlClient]:
        """A client for one queue server; nothing is connected before it is needed.

        Args:
            url: the queue server.
            result_url: the result server; None is the same.
            global_keyprefix: Celery's broker transport option of that name.
            result_keyprefix: the same for the result backend, as it stands in front of keys.
            result_ttl_s: seconds results are kept, 0 for ever.
            scripting: False for servers without Lua.

        Raises:
            ValueError: a URL cannot be used.
        """
        async with open_stores(url, result_url, scripting=scripting, name="control") as servers:
            store, results = servers
            yield cls(
                store,
                Keys(global_keyprefix, result_keyprefix),
                read_url(url).options["db"],
                results=results,
                result_ttl_s=result_ttl_s,
            )

    async def tell(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        destination: Sequence[str] | None = None,
    ) -> int:
        """Send a command to workers, without waiting for replies.

        Args:
            method: name of the command.
            arguments: its keyword arguments.
            destination: node names; None is every worker.

        Returns:
            How many listen: workers, whether it is meant for them or not.

        Raises:
            BrokerError: it is not known to be sent.
        """
        return await self._publish(method, arguments, destination, {}, 0.0)

    async def ask(
        self,
        method: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        destination: Sequence[str] | None = None,
        timeout_s: float = 1.0,
    ) -> dict[str, Any]:
        """Ask workers and collect their replies by node name.

        Waits ``timeout_s`` seconds, less when all of ``destination``, or all who listen, have
        replied.

        Raises:
            BrokerError: it is not known to be sent.
        """
        oid, ticket = str(uuid.uuid4()), str(uuid.uuid4())
        reply_list = f"{oid}.{REPLY_EXCHANGE}"
        member = f"{oid}{SEP}{SEP}{reply_list}"
        reply_to = {"exchange": REPLY_EXCHANGE, "routing_key": oid}
        try:
            await self._bind(member)
            extra = {"ticket": ticket, "reply_to": reply_to}
            listening = await self._publish(method, arguments, destination, extra, timeout_s)
            wanted = len(destination) if destination else listening
            return await self._collect(self._keys.step_list(reply_list, 0), wanted, timeout_s)
        finally:
            await self._store.command("SREM", self._keys.reply_binding, member)
            await self._store.command("DEL", self._keys.step_list(reply_list, 0))

    async def revoke(
        self,
        task_ids: Sequence[str],
        *,
        terminate: bool = False,
        signal: str = "SIGTERM",
        final: bool = False,
    ) -> int:
        """Have tasks not run, and with ``terminate`` stopped where they run.

        The ids are kept on the server first: a worker that starts later knows them. Tasks that
        nobody has started are stored as REVOKED at once, whether any worker listens or not.
        A task that does not track its start may be running then; its own result replaces REVOKED,
        as with stock, unless that is ``final``.

        Returns:
            How many workers listen.

        Raises:
            BrokerError: it is not known to be sent.
        """
        await self._revoked.add(task_ids)
        # Before workers hear of it: what they store of it themselves is not final.
        await store_revoked(self._results, self._keys, self._result_ttl_s, task_ids, final=final)
        arguments = {"task_id": list(task_ids), "terminate": terminate, "signal": signal}
        return await self.tell("revoke", arguments)

    async def _bind(self, member: str) -> None:
        await self._store.command("SADD", self._keys.reply_binding, member)
        # Should this process die before it unbinds, a stock worker sweeps the binding.
        deadline = round((time.time() + BINDING_TTL_S) * 1000)
        await self._store.command(
            "ZADD", self._keys.binding_deadlines, "GT", deadline, REPLY_EXCHANGE
        )

    async def _publish(
        self,
        method: str,
        arguments: Mapping[str, Any] | None,
        destination: Sequence[str] | None,
        extra: Mapping[str, Any],
        timeout_s: float,
    ) -> int:
        body = {
            "method": method,
            "arguments": dict(arguments or {}),
            "destination": None if destination is None else list(destination),
            "pattern": None,
            "matcher": None,
            **extra,
        }
        expires = time.time() + timeout_s if timeout_s else 0
        headers = f'{{"clock": {self._clock.forward()}, "expires": {expires!r}}}'
        message = Envelope(_EXCHANGE, "", headers, PERSISTENT).pack(dumps(body))
        return int(await self._store.command("PUBLISH", self._channel, message))

    async def _collect(self, reply_list: str, wanted: int, timeout_s: float) -> dict[str, Any]:
        replies: dict[str, Any] = {}
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_s
        while len(replies) < wanted:
            left = until - loop.time()
            if left <= 0.001:
                break
            wait_s = min(left, _POP_S, COMMAND_TIMEOUT_S / 2)
            popped = await self._store.command("BRPOP", reply_list, f"{wait_s:.3f}")
            if popped is not None:
                self._take(popped[1], replies)
        return replies

    def _take(self, raw: bytes, replies: dict[str, Any]) -> None:
        try:
            body, headers = unpack(raw)
        except MessageError:
            return
        self._clock.adjust(headers.get("clock"))
        if isinstance(body, dict):
            replies.update(body)
