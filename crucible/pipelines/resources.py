"""Reservations of named resources, such as ``gpu0`` or ``gpu_memory_mb``: who gets what. Pure.

Fair: whoever came first gets a resource first. Somebody who waits keeps from those behind it only
the resources it waits for.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import InputError
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: How much of each resource; whole numbers.
Amounts = dict[str, int]


class Reservation(msgspec.Struct, frozen=True, array_like=True):
    """What one holder has, or waits for.

    Attributes:
        amounts: of which resource how much.
        since_ms: when it first asked; it goes before those that came later.
        until_ms: when its lease ends.
        granted: it has them.
    """

    amounts: Amounts
    since_ms: int
    until_ms: int
    granted: bool = False


class Decision(msgspec.Struct, frozen=True):
    """What becomes of one holder's wish.

    Attributes:
        reservation: as it is kept from now on.
        lapsed: holders whose leases have ended.
        before: holders that wait for some of the same and came earlier, and those that have it.
    """

    reservation: Reservation
    lapsed: list[str]
    before: list[str]


def parse_resources(entries: Iterable[str]) -> Amounts:
    """Capacities from ``NAME=NUMBER``, as settings have them.

    Raises:
        ValueError: an entry is of another form, or comes twice.
    """
    found: Amounts = {}
    for entry in entries:
        name, _, number = entry.partition("=")
        plain = number.isascii() and number.isdecimal() and len(number) < 12
        if not name or not plain or not int(number) or name in found:
            raise ValueError(f"{entry!r} is not NAME=NUMBER, or names a resource twice")
        found[name] = int(number)
    return found


def check_amounts(wanted: Mapping[str, int], capacities: Mapping[str, int]) -> None:
    """Refuse what can never be granted.

    Raises:
        InputError: a resource does not exist, or has not that much.
    """
    for name, amount in wanted.items():
        place = f"resources.{name}"
        if name not in capacities:
            have = ", ".join(sorted(capacities)) or "none"
            raise InputError(place, f"there is no resource {quoted(name)}; there are: {have}")
        if amount < 1:
            raise InputError(place, "must be at least 1")
        if amount > capacities[name]:
            raise InputError(place, f"must not be more than there is, {capacities[name]}")


def decide(
    holder: str,
    wanted: Amounts,
    kept: Mapping[str, Reservation],
    capacities: Mapping[str, int],
    now_ms: int,
    ttl_ms: int,
) -> Decision:
    """What a holder gets that asks, or asks again, for the same.

    Args:
        holder: who asks.
        wanted: what for.
        kept: all reservations.
        capacities: of each resource how much there is.
        now_ms: the time.
        ttl_ms: of its lease.
    """
    lapsed = [name for name, one in kept.items() if one.until_ms <= now_ms]
    others = {n: one for n, one in kept.items() if n not in lapsed and n != holder}
    own = kept.get(holder) if holder not in lapsed else None
    since = own.since_ms if own is not None else now_ms
    if own is not None and own.granted and own.amounts == wanted:
        return Decision(msgspec.structs.replace(own, until_ms=now_ms + ttl_ms), lapsed, [])
    ahead = {
        name: one
        for name, one in others.items()
        if one.granted or (one.since_ms, name) < (since, holder)
    }
    used: Counter[str] = Counter()
    for one in ahead.values():
        used.update(one.amounts)
    fits = all(used[name] + amount <= capacities.get(name, 0) for name, amount in wanted.items())
    before = [name for name, one in ahead.items() if one.amounts.keys() & wanted.keys()]
    made = Reservation(wanted, since, now_ms + ttl_ms, granted=fits)
    return Decision(made, [name for name in lapsed if name != holder], [] if fits else before)
