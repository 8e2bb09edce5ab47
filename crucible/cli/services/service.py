"""A service: what it reads, and what runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crucible.settings.sections import Section


@dataclass(frozen=True, slots=True)
class Service:
    """A service that a command starts.

    Attributes:
        settings: sections and single settings that it reads; each has a flag.
        run: called with the settings and what is given of ``options``; returns when it ends.
        options: flags of its own by name, each with what reads its value or raises ValueError.
    """

    settings: tuple[Section | str, ...]
    run: Callable[..., None]
    options: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
