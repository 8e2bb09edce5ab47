"""Effects of settlements as atomic operations; see ``redis/store.py``."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from crucible.broker.redis.commands import Commands

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.redis.link import Argument
    from crucible.redis_keys import Keys


class Verb(StrEnum):
    """What a ``Write`` does with its key."""

    STORE = "store"  # (result): store and publish, unless a final one is there
    PUSH = "push"  # (message): to the end producers push to
    SET = "set"  # (value, seconds to live or 0)
    DELETE = "del"  # ()
    INCREMENT = "incr"  # (seconds to live or 0)
    DEAD_LETTER = "dead_letter"  # (name, value, …): into the stream of dead letters


class Write(NamedTuple):
    """One write among the effects of a settlement; ``args`` as ``Verb`` says."""

    verb: Verb
    key: str
    args: tuple[Argument, ...] = ()


class Guarded(NamedTuple):
    """Writes that happen only while a worker holds a chord's dispatch mark.

    Attributes:
        mark: key of the mark.
        size: key that is there while the chord is open.
        token: ours; the mark is taken again where it ran out.
        ttl_s: seconds the mark is extended to.
        writes: what then happens.
    """

    mark: str
    size: str
    token: str
    ttl_s: int
    writes: list[Write]


class EffectBlock(NamedTuple):
    """What happens with the end of one claim, all of it or nothing.

    Attributes:
        claim: its field; None where the writes belong to no claim.
        writes: in their order.
        guarded: after them.
    """

    claim: str | None
    writes: list[Write]
    guarded: list[Guarded]


class EffectsSettled(NamedTuple):
    """The reply of ``settle_effects``.

    Attributes:
        ours: claims that were still ours.
        allowed: for each ``Guarded``, in order, whether its writes happened.
    """

    ours: int
    allowed: Sequence[bool]


class PartCount(NamedTuple):
    """One part of a chord to be counted.

    Attributes:
        group_id: the chord's id.
        task_id: the task that ended.
        part: as it is stored.
        start: the start of the part, the same for each run of the task.
        position: in the header, as text, ``+inf`` for none.
        token: who counts.
        claim: field of the claim it ended under, where claims are on the same server; else empty.
    """

    group_id: str
    task_id: str
    part: str
    start: str
    position: str
    token: str
    claim: str = ""


class ChordState(StrEnum):
    """Where a chord stands once a part was counted."""

    LOST = "lost"  # the claim is another worker's by now, and so is the part
    DONE = "done"  # the body was sent before
    WAITING = "waiting"  # other parts are missing
    TAKEN = "taken"  # complete, and another worker is sending the body
    CLAIMED = "claimed"  # complete, and the body is ours to send


class ChordCounted(NamedTuple):
    """The reply of ``count_chord_part``.

    Attributes:
        state: of the chord.
        left_ms: milliseconds until the mark of that worker runs out; for ``TAKEN``.
        structure: the saved structure of the header, empty for a flat one; for ``CLAIMED``.
        size: how many parts there are; for ``CLAIMED``.
    """

    state: ChordState
    left_ms: int = 0
    structure: bytes = b""
    size: int = 0


class EffectStore(Commands, Protocol):
    """What settlements cause beyond the result."""

    async def settle_effects(
        self, keys: Keys, blocks: Sequence[EffectBlock], ttl_s: int
    ) -> EffectsSettled:
        """Settle claims together with all they cause; each block all or nothing.

        Args:
            keys: key names.
            blocks: one a claim.
            ttl_s: seconds results are kept, 0 for ever.
        """

    async def count_chord_part(
        self, keys: Keys, counted: PartCount, *, ttl_s: int, mark_ttl_s: int
    ) -> ChordCounted:
        """Count one part; the worker that completes the chord takes its dispatch mark.

        Args:
            keys: key names.
            counted: the part.
            ttl_s: seconds the chord's keys are kept, 0 for ever.
            mark_ttl_s: seconds within which the body must be sent.
        """
