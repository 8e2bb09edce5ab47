"""A claim, and how it is settled: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crucible.broker.redis.claim_store import Destination

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from crucible.broker.canvas.effects import SettlementEffects

__all__ = ["Claim", "Destination", "Disposition", "Settlement", "by_lifetime"]


@dataclass(slots=True, eq=False)
class Claim:
    """One message that is ours to settle.

    Attributes:
        field: its name in ``unacked``.
        queue: name of the queue it came from.
        step: priority step of the list it came from.
        raw: its exact bytes.
    """

    field: str
    queue: str
    step: int
    raw: bytes


@dataclass(slots=True, frozen=True, kw_only=True)
class Disposition:
    """Where a settled message goes, unless it is simply acknowledged.

    Attributes:
        to: where.
        raw: the message as it goes there.
        eta: when it is due, seconds since the epoch; for ``DELAYED``.
        queue: the queue it goes to when it is due, empty for its claim's own; for ``DELAYED``.
        letter: further fields of the dead letter; for ``DEAD_LETTERS``.
    """

    to: Destination
    raw: bytes
    eta: float = 0.0
    queue: str = ""
    letter: Mapping[str, str] | None = None


@dataclass(slots=True, eq=False)
class Settlement:
    """How a claim ends.

    Attributes:
        claim: the claim; None stores a result only.
        result_key: where ``meta`` is stored; empty for no result.
        meta: the encoded result.
        disposition: where the message goes; None acknowledges it.
        effects: what else the settlement causes, in the same step; None for most.
        ttl_s: seconds the result is kept; None for as long as all results.
    """

    claim: Claim | None
    result_key: str = ""
    meta: bytes = b""
    disposition: Disposition | None = None
    effects: SettlementEffects | None = None
    ttl_s: int | None = None


def by_lifetime(
    settlements: Sequence[Settlement], ttl_s: int
) -> Iterable[tuple[int, Sequence[Settlement]]]:
    """Settlements by the seconds their results are kept.

    Args:
        settlements: in order, which is kept within each group.
        ttl_s: of those that do not say.
    """
    groups: dict[int, list[Settlement]] = {}
    for item in settlements:
        groups.setdefault(ttl_s if item.ttl_s is None else item.ttl_s, []).append(item)
    return groups.items()
