"""Who a request is made by."""

from __future__ import annotations

from typing import Literal

import msgspec

from crucible.models import LOCAL_TENANT, Tier

#: What a key allows: submitting and cancelling, reading, operating the installation.
Scope = Literal["submit", "read", "admin"]
SCOPES: tuple[Scope, ...] = ("submit", "read", "admin")


class Principal(msgspec.Struct, frozen=True):
    """Who a request is made by.

    Attributes:
        key_id: id of the key it came with; empty for a request without one.
        tenant: whose evaluations it may see.
        scopes: what it may do.
        tier: the tier of its key; None where nothing but the installation bounds it.
    """

    key_id: str
    tenant: str
    scopes: frozenset[Scope]
    tier: Tier | None = None


#: Whoever asks over loopback while no key was ever made.
LOCAL = Principal("", LOCAL_TENANT, frozenset(SCOPES))
