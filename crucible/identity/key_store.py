"""Keys on the task queue server: one hash, whose changes are published on a channel of its name."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from crucible.broker.redis.transactions import executed
from crucible.broker.redis.translation import translated
from crucible.errors import InputError, NotFound, SettingsError
from crucible.identity.keys import ID_PATTERN, KeyShown, Secret, StoredKey, shown
from crucible.identity.secret import digest_of, new_secret, start_of
from crucible.redis_keys import KEY_LIMIT, REVOKED_KEY_LIMIT
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from crucible.identity.keys import KeyRequest
    from crucible.redis_keys import Keys
    from crucible.settings import Settings

#: The field of the hash that counts changes; no key has this id.
VERSION = "version"
#: Most seconds for which a replaced secret may stay valid.
MAX_GRACE_S = 30 * 86_400
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(StoredKey).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys at one moment.

    Attributes:
        version: how many changes there were; 0 where no key was ever made.
        now_ms: the server's time, milliseconds since the epoch.
        keys: by id, revoked ones included.
    """

    version: int
    now_ms: int
    keys: Mapping[str, StoredKey]


class _Change(NamedTuple):
    """What a transaction writes."""

    key: StoredKey
    dropped: Iterable[str] = ()


class KeyStore:
    """Reads and changes keys.

    Args:
        client: of the task queue server.
        keys: key names.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    @property
    def channel(self) -> str:
        """Where changes are published."""
        return self._keys.api_keys

    async def version(self) -> int:
        """How many changes there were; raises BrokerError."""
        with translated():
            stored: Any = await self._client.hget(self._keys.api_keys, VERSION)
        return int(stored or 0)

    async def read(self) -> Snapshot:
        """All keys; raises BrokerError."""
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                return await self._read(pipe)

    async def _read(self, pipe: Pipeline) -> Snapshot:
        pipe.time()
        pipe.hgetall(self._keys.api_keys)
        now, stored = await pipe.execute()
        version = int(stored.pop(VERSION.encode(), 0))
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        return Snapshot(version, now_ms, {k.decode(): _decode(v) for k, v in stored.items()})

    async def shown(self) -> list[KeyShown]:
        """All keys as they are shown, the newest first; raises BrokerError."""
        snapshot = await self.read()
        with translated():
            used: Any = await self._client.hgetall(self._keys.api_keys_used)
        ordered = sorted(snapshot.keys.values(), key=lambda key: (-key.created_ms, key.id))
        return [shown(key, int(used.get(key.id.encode(), 0))) for key in ordered]

    async def create(self, wanted: KeyRequest) -> tuple[StoredKey, str]:
        """Make a key.

        Returns:
            The key and its secret, which is stored nowhere.

        Raises:
            InputError: there are as many as there may be.
            BrokerError: the server does not answer.
        """
        secret, key_id = new_secret(), f"key_{secrets.token_hex(6)}"

        def change(found: Snapshot) -> _Change:
            valid = sum(not key.revoked_ms for key in found.keys.values())
            if valid >= KEY_LIMIT:
                raise InputError("name", f"there are {valid} keys already; revoke some")
            key = StoredKey(
                id=key_id,
                name=wanted.name,
                tenant=wanted.tenant,
                tier=wanted.tier,
                scopes=wanted.scopes,
                start=start_of(secret),
                secrets=(_secret(secret),),
                created_ms=found.now_ms,
            )
            return _Change(key)

        return await self._change(change), secret

    async def revoke(self, key_id: str) -> StoredKey:
        """Revoke a key with all of its secrets; one that is revoked stays as it is.

        Raises:
            NotFound: no key has this id.
            BrokerError: the server does not answer.
        """

        def change(found: Snapshot) -> _Change:
            key = _known(found, key_id)
            if key.revoked_ms:
                return _Change(key)
            revoked = msgspec.structs.replace(key, secrets=(), revoked_ms=found.now_ms)
            return _Change(revoked, _oldest_revoked(found))

        return await self._change(change)

    async def rotate(self, key_id: str, grace_s: float = 0.0) -> tuple[StoredKey, str]:
        """Give a key a new secret.

        Args:
            key_id: its id.
            grace_s: seconds for which its secret until now stays valid.

        Returns:
            The key and its new secret, which is stored nowhere.

        Raises:
            NotFound: no valid key has this id.
            BrokerError: the server does not answer.
        """
        secret = new_secret()

        def change(found: Snapshot) -> _Change:
            key = _known(found, key_id)
            if key.revoked_ms:
                raise NotFound(f"the key {quoted(key_id)} is revoked")
            until_ms = found.now_ms + int(grace_s * 1000)
            # Only the newest of the replaced ones: secrets do not pile up.
            replaced = (Secret(key.secrets[0].digest, until_ms),) if grace_s else ()
            rotated = msgspec.structs.replace(
                key,
                secrets=(_secret(secret), *replaced),
                start=start_of(secret),
                rotated_ms=found.now_ms,
            )
            return _Change(rotated)

        return await self._change(change), secret

    async def _change(self, change: Callable[[Snapshot], _Change]) -> StoredKey:
        """Write what ``change`` makes of the keys as they are; done again if they change."""
        name = self._keys.api_keys
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                while True:
                    found = await self._watched(pipe)
                    key, dropped = change(found)
                    pipe.multi()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
                    pipe.hset(name, key.id, _encode(key))
                    for other in dropped:
                        pipe.hdel(name, other)
                        pipe.hdel(self._keys.api_keys_used, other)
                    pipe.hincrby(name, VERSION, 1)
                    pipe.publish(self.channel, key.id)
                    if await executed(pipe) is not None:
                        return key

    async def _watched(self, pipe: Pipeline) -> Snapshot:
        await pipe.watch(self._keys.api_keys)
        now: Any = await pipe.time()
        stored: Any = await pipe.hgetall(self._keys.api_keys)
        version = int(stored.pop(VERSION.encode(), 0))
        now_ms = int(now[0]) * 1000 + int(now[1]) // 1000
        return Snapshot(version, now_ms, {k.decode(): _decode(v) for k, v in stored.items()})

    async def note_used(self, key_ids: Iterable[str]) -> None:
        """Remember that keys were used just now; raises BrokerError."""
        with translated():
            seconds, micros = await self._client.time()
            now_ms = int(seconds) * 1000 + int(micros) // 1000
            fields: dict[Any, Any] = dict.fromkeys(key_ids, now_ms)
            await self._client.hset(self._keys.api_keys_used, mapping=fields)


def check_scripting(settings: Settings) -> None:
    """Refuse keys where no script counts their submissions.

    Raises:
        SettingsError: the queue server is used without scripts.
    """
    if settings.claim != "atomic":
        detail = f"{settings.claim}: keys need scripts, in which their rates are kept"
        raise SettingsError("CRUCIBLE_CLAIM", detail)


def _secret(text: str) -> Secret:
    digest = digest_of(text)
    assert digest is not None
    return Secret(digest)


def _known(found: Snapshot, key_id: str) -> StoredKey:
    key = found.keys.get(key_id) if ID_PATTERN.fullmatch(key_id) else None
    if key is None:
        raise NotFound(f"no key has the id {quoted(key_id)}")
    return key


def _oldest_revoked(found: Snapshot) -> list[str]:
    """Revoked keys that make room for one more."""
    revoked = sorted((key.revoked_ms, key.id) for key in found.keys.values() if key.revoked_ms)
    return [key_id for _, key_id in revoked[: max(0, len(revoked) - REVOKED_KEY_LIMIT + 1)]]
