"""Signatures of Standard Webhooks 1.0.0.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from crucible.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "whsec_"
#: Bytes of a new secret; the specification asks for 24 to 64.
_SECRET_BYTES, _LEAST, _MOST = 32, 24, 64


def new_secret() -> str:
    """A new random secret, as receivers configure it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """The key that a secret stands for.

    Raises:
        InputError: it is no secret of Standard Webhooks.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or not _LEAST <= len(key) <= _MOST:
        raise InputError("secret", f"must be {PREFIX} and base64 of {_LEAST} to {_MOST} bytes")
    return key


def signature(secret: str, delivery_id: str, timestamp_s: int, body: bytes) -> str:
    """One signature: ``v1,`` and the base64 of HMAC-SHA256 of ``id.timestamp.body``."""
    signed = f"{delivery_id}.{timestamp_s}.".encode() + body
    digest = hmac.new(key_of(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def headers(
    secrets_: Sequence[str], delivery_id: str, timestamp_s: int, body: bytes
) -> dict[str, str]:
    """The headers that let a receiver verify a body.

    Args:
        secrets_: one signature is made with each, so that either end may rotate first.
        delivery_id: the same for every attempt of one delivery.
        timestamp_s: of the attempt, seconds since the epoch.
        body: exactly as sent.
    """
    signatures = (signature(secret, delivery_id, timestamp_s, body) for secret in secrets_)
    return {
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(signatures),
    }
