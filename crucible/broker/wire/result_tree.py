"""Ids of a canvas in the shape of its results: Celery's form of a result, parents and children."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class ResultTree:
    """The result of a part of a canvas, known before any of it is sent.

    Attributes:
        id: of the task, or of the group.
        parent: what runs before it.
        children: the members of a group; None for a task.
    """

    id: str
    parent: ResultTree | None = None
    children: list[ResultTree] | None = None

    @property
    def first(self) -> ResultTree:
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
