"""Signs of life of async workers, as others read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.broker.keys import Keys


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The value of a worker's key, refreshed every third of its TTL.

    Attributes:
        node: its node name.
        trouble: what keeps it from running tasks now; empty when nothing does.
    """

    node: str
    trouble: str = ""


def encode_sign(sign: SignOfLife) -> str:
    """As stored: the node name, and the trouble from the second line on."""
    return f"{sign.node}\n{sign.trouble}" if sign.trouble else sign.node


def decode_sign(stored: bytes) -> SignOfLife:
    """The inverse of ``encode_sign``."""
    node, _, trouble = stored.decode(errors="replace").partition("\n")
    return SignOfLife(node, trouble)


async def read_signs(client: Redis, keys: Keys) -> list[SignOfLife]:
    """The workers that live, by node name.

    Raises:
        redis.exceptions.RedisError: untranslated.
    """
    known: list[Any] = await client.zrange(keys.workers, 0, -1)
    if not known:
        return []
    values: list[Any] = await client.mget([keys.worker(worker_id.decode()) for worker_id in known])
    signs = [decode_sign(value) for value in values if value is not None]
    return sorted(signs, key=lambda sign: sign.node)
