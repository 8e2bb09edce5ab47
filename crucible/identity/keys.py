"""Keys as they are stored, and as they are shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from crucible.errors import InputError
from crucible.identity.principal import Principal, Scope
from crucible.models import TENANT_PATTERN, Tier
from crucible.validation import input_error

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Ids are shown, logged and part of URLs; they say nothing of the secret.
ID_PATTERN = re.compile(r"key_[0-9a-f]{12}")
Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/keys``.

    Attributes:
        name: what it is for, for people.
        tenant: whose evaluations it has.
        tier: premium, standard or bulk.
        scopes: what it may do: submit, read, admin.
    """

    name: Name
    tenant: Annotated[str, Meta(pattern=TENANT_PATTERN)]
    tier: Tier = "standard"
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] = ("submit", "read")


class Secret(msgspec.Struct, frozen=True):
    """A secret that a key was given.

    Attributes:
        digest: hash of its text.
        until_ms: server time at which it stops being valid, milliseconds since the epoch; 0 is
            never.
    """

    digest: bytes
    until_ms: int = 0


class StoredKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key as it is stored; times are milliseconds since the epoch, 0 where there was none.

    Attributes:
        id: its id.
        name: what it is for.
        tenant: whose evaluations it has.
        tier: its tier.
        scopes: what it may do.
        start: first characters of its secret.
        secrets: the secrets that are valid, the newest first.
        created_ms: when it was made.
        rotated_ms: when it last got a new secret.
        revoked_ms: when it was revoked.
    """

    id: str
    name: str
    tenant: str
    tier: Tier
    scopes: tuple[Scope, ...]
    start: str
    secrets: tuple[Secret, ...]
    created_ms: int
    rotated_ms: int = 0
    revoked_ms: int = 0

    @property
    def principal(self) -> Principal:
        """Who comes with it."""
        return Principal(self.id, self.tenant, frozenset(self.scopes), self.tier)


class KeyShown(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is shown.

    Attributes:
        id: its id.
        name: what it is for.
        tenant: whose evaluations it has.
        tier: premium, standard or bulk.
        scopes: what it may do.
        start: first characters of its secret, to tell keys apart.
        created_at: when it was made.
        last_used_at: about when it was last used; null if it was not.
        rotated_at: when it last got a new secret; null if it has its first.
        revoked_at: when it was revoked; null while it is valid.
    """

    id: str
    name: str
    tenant: str
    tier: Tier
    scopes: tuple[Scope, ...]
    start: str
    created_at: str | None
    last_used_at: str | None = None
    rotated_at: str | None = None
    revoked_at: str | None = None


class KeyMade(KeyShown, frozen=True, kw_only=True):
    """A key that was made or got a new secret: the only answer that has the secret.

    Attributes:
        key: its secret, shown this once.
    """

    key: str

    def __repr__(self) -> str:
        """Without the secret, for logs and tracebacks."""
        return f"KeyMade(id={self.id!r}, key='***')"


def shown(key: StoredKey, used_ms: int = 0) -> KeyShown:
    """A key as it is shown.

    Args:
        key: the key.
        used_ms: when it was last used.
    """
    return KeyShown(**_fields(key, used_ms))


def made(key: StoredKey, secret: str) -> KeyMade:
    """A key as it is shown once, with its secret."""
    return KeyMade(**_fields(key, 0), key=secret)


def _fields(key: StoredKey, used_ms: int) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "tenant": key.tenant,
        "tier": key.tier,
        "scopes": key.scopes,
        "start": key.start,
        "created_at": _text(key.created_ms),
        "last_used_at": _text(used_ms),
        "rotated_at": _text(key.rotated_ms),
        "revoked_at": _text(key.revoked_ms),
    }


def _text(ms: int) -> str | None:
    if not ms:
        return None
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def checked_request(fields: Mapping[str, object]) -> KeyRequest:
    """What a new key is to be.

    Raises:
        InputError: naming the field that is wrong.
    """
    try:
        wanted = msgspec.convert(dict(fields), KeyRequest)
    except msgspec.ValidationError as error:
        raise input_error(error, KeyRequest) from None
    if len(set(wanted.scopes)) != len(wanted.scopes):
        raise InputError("scopes", "must not name a scope twice")
    return wanted
