"""Who makes a request: found out once, before its handler is called."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from crucible.errors import BrokerUnavailable, Forbidden, Unauthenticated
from crucible.identity.key_table import FIRST_READ_S, KeyTable
from crucible.identity.principal import LOCAL, Principal, Scope
from crucible.identity.secret import credential_in, digest_of

#: What a route asks of its caller: a scope; any key; nothing where only this machine can ask, else
#: the scope ``admin``; nothing.
Need = Scope | Literal["key", "loopback", "nothing"]

_CALLER = web.RequestKey("caller", Principal)
_AUTHORIZATION, _API_KEY = "Authorization", "X-API-Key"
#: Fields a key may come in; the last is that of Judge0's clients.
_FIELDS = (_AUTHORIZATION, _API_KEY, "X-Auth-Token")


class Callers:
    """Identifies the callers of one api process.

    Args:
        table: the keys.
        loopback: only this machine can ask.
        trusting: while the keys could never be read, there are none. With a legacy queue an api has
            to work although it starts while the queue server is away.
    """

    def __init__(self, table: KeyTable, *, loopback: bool, trusting: bool = False) -> None:
        self.table = table
        self._loopback = loopback
        self._trusting = trusting

    def known(self, digest: bytes | None) -> Principal | None:
        """The caller, as far as it can be said at once.

        Args:
            digest: hash of its key; empty where what it sent can be no key, None without one.
        """
        if digest:
            return self.table.find(digest)
        if digest is None and self._serves_without_key:
            return LOCAL
        return None

    @property
    def _serves_without_key(self) -> bool:
        table = self.table
        return self._loopback and not table.made and (table.known or self._trusting)

    async def identified(self, digest: bytes | None) -> Principal:
        """The caller.

        Raises:
            Unauthenticated: no valid key came with the request, and it takes one.
            BrokerError: the keys could not be read yet.
        """
        caller = self.known(digest)
        if caller is None and digest:
            caller = await self.table.look_up(digest)
        if caller is not None:
            return caller
        if not self.table.known:
            if not await self.table.wait_known(FIRST_READ_S):
                raise BrokerUnavailable("the keys could not be read yet")
            return await self.identified(digest)
        if digest is None:
            raise Unauthenticated("a key is needed: Authorization: Bearer crk_… or X-API-Key")
        raise Unauthenticated("the key is not valid", given=True)

    async def admit(self, request: web.Request, need: Need, credential: str | None = None) -> None:
        """Let a request through to its handler, with its caller.

        Args:
            request: of which the header was read.
            need: what its route asks.
            credential: its key, where that came in no field of the header for it.

        Raises:
            Unauthenticated: no valid key came with it, and it takes one.
            Forbidden: the key lacks the scope.
            BrokerError: the keys could not be read yet.
        """
        if need == "nothing" or (need == "loopback" and self._loopback):
            return
        digest = _digest_in(request) if credential is None else digest_of(credential) or b""
        caller = await self.identified(digest)
        scope = "admin" if need == "loopback" else need
        if scope != "key" and scope not in caller.scopes:
            raise Forbidden(scope)
        request[_CALLER] = caller


CALLERS = web.AppKey("callers", Callers)


def caller_of(request: web.Request) -> Principal:
    """Who makes a request, in the handler of a route that needs a key or a scope."""
    return request[_CALLER]


def _digest_in(request: web.Request) -> bytes | None:
    fields = request.headers
    if not any(name in fields for name in _FIELDS):
        return None
    if any(len(fields.getall(name, ())) > 1 for name in _FIELDS):
        return b""
    alone = fields.get(_API_KEY, fields.get(_FIELDS[-1]))
    credential = credential_in(fields.get(_AUTHORIZATION), alone)
    return None if credential is None else digest_of(credential) or b""
