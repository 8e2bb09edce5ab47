"""Where a part of a canvas stands, and what it will be known by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crucible.broker.canvas.signature import Signature


@dataclass(slots=True)
class Frozen:
    """What a part of a canvas will be known by.

    Attributes:
        id: of the task, or of the group.
        parent: what runs before it.
        children: the members of a group; None for a task.
    """

    id: str
    parent: Frozen | None = None
    children: list[Frozen] | None = None

    @property
    def first(self) -> Frozen:
        """The start of the line that leads here."""
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def as_tuple(self) -> list[Any]:
        """Celery's form of a result, as saved groups hold it."""
        parent = self.parent.as_tuple() if self.parent else None
        if self.children is None:
            return [[self.id, parent], None]
        return [[self.id, parent], [child.as_tuple() for child in self.children]]


@dataclass(slots=True, kw_only=True)
class Place:
    """Where in a canvas a part stands.

    Attributes:
        task_id: id of a task, or of the last task of a chain, unless it has one.
        group_id: group or chord the part's end counts for.
        chord: body of that chord.
        group_index: position in it.
        root_id: first task of all.
        parent_id: task that sends the part.
    """

    task_id: str | None = None
    group_id: str | None = None
    chord: Signature | None = None
    group_index: int | None = None
    root_id: str | None = None
    parent_id: str | None = None
