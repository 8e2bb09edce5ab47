"""Switches out of whatever they are written in: environment, file, or a request's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.errors import SettingsError
from crucible.migration.routing import (
    DUAL_WRITE,
    ENABLED,
    FORCE_LEGACY,
    LEGACY_URL,
    PERCENTAGE,
    Switches,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_DEFAULT = Switches()


def parse_switches(values: Mapping[str, object]) -> Switches:
    """The switches in ``values``; absent ones have their defaults, other names are ignored.

    Args:
        values: by environment name. Strings as in an environment, or JSON's own types.

    Raises:
        SettingsError: naming the first setting that is wrong or contradicts another.
    """
    return Switches(
        celery_enabled=_flag(values, ENABLED, default=_DEFAULT.celery_enabled),
        celery_percentage=_share(values, PERCENTAGE, _DEFAULT.celery_percentage),
        force_legacy_queue=_flag(values, FORCE_LEGACY, default=_DEFAULT.force_legacy_queue),
        dual_write=_flag(values, DUAL_WRITE, default=_DEFAULT.dual_write),
        queue_service_url=_url(values, LEGACY_URL),
    )


def _flag(values: Mapping[str, object], name: str, *, default: bool) -> bool:
    value = values.get(name, default)
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise SettingsError(name, f"{value!r} is neither true nor false")


def _share(values: Mapping[str, object], name: str, default: float) -> float:
    value = values.get(name, default)
    # A bool is an int to Python and a slip of the pen to everybody else.
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise SettingsError(name, f"{value!r} is not a number from 0.0 to 1.0")


def _url(values: Mapping[str, object], name: str) -> str:
    value = values.get(name, "")
    if isinstance(value, str):
        url = value.strip()
        if not url or url.startswith(("http://", "https://")):
            return url
    raise SettingsError(name, f"{value!r} is not an HTTP URL")
