"""What a settlement causes besides its own result, as plain data.

Callbacks, the next step of a chain, failures passed on, the body of a chord: all of it happens in
the same step that stores the result and drops the claim (``lua/settle_effects.lua``), so that a
worker may die at any instant and the whole is done once or, by the next owner of the message,
again. ``claiming/effects_writer.py`` writes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Push:
    """One encoded message.

    Attributes:
        list_key: the list it goes to.
        raw: the message.
    """

    list_key: str
    raw: bytes


@dataclass(slots=True, eq=False)
class Effects:
    """Changes that belong together.

    Attributes:
        pushes: messages, in the order they are to be served.
        results: metas of other tasks, by result key.
        sizes: sizes of chords that begin with these messages, by group id.
        groups: structures of their headers, where results are nested, by group id.
        added: groups whose chord waits for one more task.
    """

    pushes: list[Push] = field(default_factory=list)
    results: list[tuple[str, bytes]] = field(default_factory=list)
    sizes: list[tuple[str, int]] = field(default_factory=list)
    groups: list[tuple[str, bytes]] = field(default_factory=list)
    added: list[str] = field(default_factory=list)

    def extend(self, other: Effects) -> None:
        """Append another's changes."""
        self.pushes += other.pushes
        self.results += other.results
        self.sizes += other.sizes
        self.groups += other.groups
        self.added += other.added


@dataclass(slots=True, eq=False)
class ChordClosing:
    """The end of a chord whose body is ours to send, or to fail.

    Attributes:
        group_id: of the chord.
        token: under which it is ours.
        effects: the body's message, or its failure.
        succeeded: the body is sent; nothing of the chord stays but the mark that it was.
    """

    group_id: str
    token: str
    effects: Effects
    succeeded: bool


@dataclass(slots=True, eq=False)
class SettlementEffects:
    """Everything the settlement of one task causes.

    Attributes:
        always: what happens in any case.
        chords: chords that end with it; each only while it is still ours to close.
        children: result tuples of the tasks among it that count as the task's children.
    """

    always: Effects = field(default_factory=Effects)
    chords: list[ChordClosing] = field(default_factory=list)
    children: list[Any] = field(default_factory=list)

    def __bool__(self) -> bool:
        always = self.always
        return bool(always.pushes or always.results or always.added or self.chords)
