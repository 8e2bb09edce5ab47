"""Limits as a client asks for them, held between a floor and the installation's ceiling.

Checked by the api and again by the worker, with the same function: a message may come from
anybody who can write to the queue.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import InputError
from crucible.models import LIMIT_FLOORS, Limits

if TYPE_CHECKING:
    from crucible.settings import Settings

DEFAULTS = Limits()


class LimitsRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Limits a client may give; absent ones take the default. Units as in ``models.Limits``."""

    wall_time_s: float | None = None
    cpu_time_s: float | None = None
    memory_mb: int | None = None
    pids: int | None = None
    output_kb: int | None = None
    disk_mb: int | None = None


def ceilings_of(settings: Settings) -> Limits:
    """The most a program may ask for in this installation."""
    return Limits(
        wall_time_s=settings.max_wall_time_s,
        cpu_time_s=settings.max_cpu_time_s,
        memory_mb=settings.max_memory_mb,
        pids=settings.max_pids,
        output_kb=settings.max_output_kb,
        disk_mb=settings.max_disk_mb,
    )


def checked_limits(
    asked: LimitsRequest | None,
    ceilings: Limits,
    defaults: Limits = DEFAULTS,
    where: str = "limits",
) -> Limits:
    """The limits a program or its compiler gets.

    Args:
        asked: what its request names.
        ceilings: the most it may ask for.
        defaults: of its language, for what it does not name.
        where: the field they are in.

    A default above the ceiling is lowered to it; a value asked for is not, it is refused.

    Raises:
        InputError: a value is not finite, below the floor or above the ceiling.
    """
    if asked is None:
        return _default_limits(ceilings, defaults)
    chosen: dict[str, float] = {}
    for name in Limits.__struct_fields__:
        ceiling = getattr(ceilings, name)
        value = getattr(asked, name)
        if value is None:
            chosen[name] = min(getattr(defaults, name), ceiling)
            continue
        floor = getattr(LIMIT_FLOORS, name)
        if not math.isfinite(value) or not floor <= value <= ceiling:
            raise InputError(f"{where}.{name}", f"must be between {floor:g} and {ceiling:g}")
        chosen[name] = value
    return Limits(**chosen)  # type: ignore[arg-type]  # each value has its field's own type


@lru_cache(maxsize=16)
def _default_limits(ceilings: Limits, defaults: Limits) -> Limits:
    """What a program gets that asks for nothing, as most do."""
    return checked_limits(LimitsRequest(), ceilings, defaults)
