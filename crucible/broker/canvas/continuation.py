"""What the end of a task causes besides its own result, as data, and as operations of one script.

Callbacks, the next step of a chain, failures handed on, the body of a chord: all of it happens in
the same step that stores the result and drops the claim (``lua/conclude.lua``), so that a worker
may die at any instant and the whole is done once or, by the next owner of the message, again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from crucible.broker.redis.key_positions import KeyPositions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.redis_keys import Keys

#: Seconds the right to send a chord's body is extended to when it is about to be sent, and seconds
#: it is remembered that it was (celery 5.7 ``backends/redis.py`` with its default settings).
SENDING_S, SENT_S = 21, 300


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
class Closing:
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
class Continuation:
    """Everything the end of one task causes.

    Attributes:
        effects: what happens in any case.
        closings: what happens if it is still ours to do.
        children: result tuples of the tasks among it that count as the task's children.
    """

    effects: Effects = field(default_factory=Effects)
    closings: list[Closing] = field(default_factory=list)
    children: list[Any] = field(default_factory=list)

    def __bool__(self) -> bool:
        effects = self.effects
        return bool(effects.pushes or effects.results or effects.added or self.closings)


class Operations:
    """Builds KEYS and ARGV of ``conclude.lua``.

    Args:
        keys: key names.
        ttl_s: seconds results and chords are kept, 0 for ever.
    """

    def __init__(self, keys: Keys, ttl_s: int) -> None:
        self._names = keys
        self._ttl_s = ttl_s
        self._positions = KeyPositions(keys.unacked, keys.unacked_index)
        self._at = self._positions.at
        self.args: list[Any] = [ttl_s]

    @property
    def keys(self) -> list[str]:
        """KEYS so far."""
        return self._positions.keys

    def __bool__(self) -> bool:
        return len(self.args) > 1

    def claim(self, claim_field: str) -> None:
        """What follows happens with the end of this claim, or not at all."""
        self.args += ("claim", claim_field)

    def free(self) -> None:
        """What follows belongs to no claim."""
        self.args.append("free")

    def guard(self, closing: Closing) -> None:
        """What follows, up to ``unguard``, happens only while the chord is ours to close."""
        base = self._names.group(closing.group_id)
        self.args += ("guard", self._at(f"{base}.c"), self._at(f"{base}.s"))
        self.args += (closing.token, SENDING_S)

    def unguard(self) -> None:
        """The end of what is guarded."""
        self.args.append("unguard")

    def store(self, result_key: str, meta: bytes) -> None:
        """Store and publish a result."""
        self.args += ("store", self._at(result_key), meta)

    def records(self, effects: Effects) -> None:
        """Results and chords: what lies on the result server."""
        for result_key, meta in effects.results:
            self.store(result_key, meta)
        for group_id, raw in effects.groups:
            self.args += ("set", self._at(self._names.group(group_id)), raw, self._ttl_s)
        for group_id, size in effects.sizes:
            base = self._names.group(group_id)
            # A chord that is run again under its old id begins anew.
            self.args += ("del", self._at(f"{base}.c"))
            self.args += ("set", self._at(f"{base}.s"), size, self._ttl_s)
        for group_id in effects.added:
            self.args += ("incr", self._at(f"{self._names.group(group_id)}.t"), self._ttl_s)

    def pushes(self, effects: Effects) -> None:
        """Messages: what lies on the queue server."""
        for push in effects.pushes:
            self.args += ("push", self._at(push.list_key), push.raw)

    def bury(self, stream: str, limit: int, fields: Sequence[Any]) -> None:
        """A dead letter; names and values in turn."""
        self.args += ("bury", self._at(stream), limit, len(fields), *fields)

    def close(self, closing: Closing) -> None:
        """Remove what a closed chord leaves, inside its guard.

        Of a failed one stock removes the size only: a part that comes again must not fail it
        again, and its results stay to be looked at.
        """
        base = self._names.group(closing.group_id)
        suffixes = ("j", "t", "s", "d") if closing.succeeded else ("s",)
        for suffix in suffixes:
            self.args += ("del", self._at(f"{base}.{suffix}"))
        if closing.succeeded:
            self.args += ("set", self._at(f"{base}.c"), "done", SENT_S)
