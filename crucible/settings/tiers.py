"""Tiers of keys: which queue evaluations go to, and how much a key and its tenant may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from crucible.errors import SettingsError
from crucible.models import ISOLATIONS, LIMIT_FLOORS, TIERS, Isolation, Limits, Tier

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

#: Lowest and highest user priority of each tier's queue: 7-9 is ``high_priority``, 3-6
#: ``evaluation``, 0-2 ``batch``.
PRIORITIES: dict[Tier, tuple[int, int]] = {"premium": (7, 9), "standard": (3, 6), "bulk": (0, 2)}
_LIMITS = tuple(Limits.__struct_fields__)
_SETTING = "CRUCIBLE_TIERS"

_Rate = Annotated[float, Meta(gt=0.0, le=1_000_000.0)]
_Count = Annotated[int, Meta(ge=1, le=10_000_000)]


class TierTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A ``[tiers.NAME]`` table of the settings file; what it leaves out stays as it is.

    Attributes:
        rate: submissions a second of one key, sustained.
        burst: submissions that a key which was idle may make at once.
        tenant_rate: the same as ``rate`` for all keys of a tenant together.
        tenant_burst: the same as ``burst`` for all keys of a tenant together.
        in_flight: evaluations of a tenant that may be queued or running.
        sessions: sessions of a tenant that may be open.
        limits: ceilings of ``limits``, where they are below the installation's.
        isolations: those that programs may ask for.
        environments: those that programs may run in.
        result_ttl_s: the longest that a result may be kept on request, seconds, where that is below
            the installation's.
    """

    rate: _Rate | None = None
    burst: _Count | None = None
    tenant_rate: _Rate | None = None
    tenant_burst: _Count | None = None
    in_flight: _Count | None = None
    sessions: _Count | None = None
    limits: dict[str, float] | None = None
    isolations: tuple[Isolation, ...] | None = None
    environments: tuple[str, ...] | None = None
    result_ttl_s: _Count | None = None


class TierRules(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for the keys of one tier; the fields are those of ``TierTable``."""

    rate: float
    burst: int
    tenant_rate: float
    tenant_burst: int
    in_flight: int
    sessions: int = 16
    limits: dict[str, float] = {}
    isolations: tuple[Isolation, ...] = ISOLATIONS
    environments: tuple[str, ...] | None = None
    result_ttl_s: int | None = None


#: A burst takes the largest batch. A tenant may spend what two of its keys may.
DEFAULT_TIERS: dict[Tier, TierRules] = {
    "premium": TierRules(
        rate=5000.0,
        burst=20_000,
        tenant_rate=10_000.0,
        tenant_burst=40_000,
        in_flight=200_000,
        sessions=64,
    ),
    "standard": TierRules(
        rate=1000.0, burst=10_000, tenant_rate=2000.0, tenant_burst=20_000, in_flight=100_000
    ),
    "bulk": TierRules(
        rate=1000.0,
        burst=20_000,
        tenant_rate=2000.0,
        tenant_burst=40_000,
        in_flight=500_000,
        sessions=8,
    ),
}


def tiers_of(
    tables: Mapping[str, TierTable], environments: Collection[str]
) -> dict[Tier, TierRules]:
    """The rules of every tier.

    Args:
        tables: what an installation sets itself.
        environments: names of those it serves.

    Raises:
        SettingsError: a table cannot be used.
    """
    unknown = next((name for name in tables if name not in TIERS), None)
    if unknown is not None:
        raise SettingsError(_SETTING, f"{unknown!r} is no tier; there are {', '.join(TIERS)}")
    return {tier: _rules(tier, tables.get(tier, TierTable()), environments) for tier in TIERS}


def _rules(tier: Tier, table: TierTable, environments: Collection[str]) -> TierRules:
    given = {
        name: value
        for name in TierTable.__struct_fields__
        if (value := getattr(table, name)) is not None
    }
    # A key's own rate set alone would else be cut to that of its tenant.
    for name in ("rate", "burst"):
        if name in given and f"tenant_{name}" not in given:
            given[f"tenant_{name}"] = 2 * given[name]
    rules = msgspec.structs.replace(DEFAULT_TIERS[tier], **given)
    for name, value in rules.limits.items():
        if name not in _LIMITS:
            raise _wrong(tier, f"limits.{name}", f"is none; there are {', '.join(_LIMITS)}")
        if value < getattr(LIMIT_FLOORS, name):
            raise _wrong(tier, f"limits.{name}", f"is below {getattr(LIMIT_FLOORS, name):g}")
    if not rules.isolations:
        raise _wrong(tier, "isolations", "names none")
    for name in rules.environments or ():
        if name not in environments:
            raise _wrong(tier, "environments", f"names {name!r}, which is not served")
    if rules.environments is not None and not rules.environments:
        raise _wrong(tier, "environments", "names none")
    return rules


def _wrong(tier: Tier, field: str, detail: str) -> SettingsError:
    return SettingsError(_SETTING, f"{tier}.{field} {detail}")
