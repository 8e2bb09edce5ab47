"""KEYS of one call of a script whose ARGV name keys by their positions."""

from __future__ import annotations


class KeyPositions:
    """Numbers keys in the order they are first used, each once.

    Args:
        first: keys the script knows by their places at the front.
    """

    def __init__(self, *first: str) -> None:
        self._positions = {key: position for position, key in enumerate(first, 1)}

    @property
    def keys(self) -> list[str]:
        """KEYS so far."""
        return list(self._positions)

    def at(self, key: str) -> int:
        """The key's number, from 1 as Lua counts; 0 for an empty key, which means none."""
        return self._positions.setdefault(key, len(self._positions) + 1) if key else 0
