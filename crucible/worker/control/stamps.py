"""Stamps of messages against stamps that were revoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crucible.broker.wire.decode import Message


def is_stamped(message: Message, revoked: dict[str, list[Any]]) -> bool:
    """Whether one of its stamps is among those revoked.

    Source: celery ``worker/request.py`` ``Request.revoked``.
    """
    stamps = message.headers.get("stamps")
    names = message.headers.get("stamped_headers")
    if not isinstance(stamps, dict) or not isinstance(names, list):
        return False
    return any(matching_stamps(stamps.get(name), revoked.get(name)) for name in names)


def matching_stamps(stamps: Any, wanted: Any) -> list[Any]:
    """The stamps that are among those wanted; either may be one value or a list."""
    if stamps is None or wanted is None:
        return []
    those = wanted if isinstance(wanted, list) else [wanted]
    return [stamp for stamp in (stamps if isinstance(stamps, list) else [stamps]) if stamp in those]
