"""Server-sent events as bytes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from crucible.events.event import Event
    from crucible.events.position import Position
    from crucible.events.reader import Entry

CONTENT_TYPE = "text/event-stream"
#: What keeps proxies and clients from taking an idle stream for a dead one.
HEARTBEAT = b": heartbeat\n\n"
#: The last thing on a stream whose key was revoked or has expired.
KEY_ENDED = b": the key is not valid any more\n\n"
#: Milliseconds after which a client whose connection ended is to come again.
_RETRY_MS = 1000

_encode = msgspec.json.Encoder().encode


class EventShown(msgspec.Struct, frozen=True, kw_only=True):
    """The data of an ``evaluation`` event.

    Attributes:
        eval_id: which evaluation.
        status: its status from then on.
        verdict: how it ended; null before.
        progress: percent, where its task reports any.
        at: when, milliseconds since the epoch.
        seq: its order among the events of the evaluation: higher is later. The end of an evaluation
            may be reported twice, with the same number.
    """

    eval_id: str
    status: str
    verdict: str | None
    progress: float | None
    at: int
    seq: int


class Resync(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a ``resync`` event: some events may be missing, so look the state up.

    Attributes:
        reason: ``trimmed`` (they are not kept any more, or are too many) or ``slow`` (the client
            did not read them in time; the connection ends, and the next one goes on from the last
            event that was read).
    """

    reason: str


def opening(position: Position) -> bytes:
    """The first bytes of a stream: when to come again, and from where."""
    return f"retry: {_RETRY_MS}\nid: {position}\n\n".encode()


def position_frame(position: Position) -> bytes:
    """Where the client goes on from, with no event."""
    return f"id: {position}\n\n".encode()


def event_frame(event: Event, position: Position) -> bytes:
    """An event, under the id from which a client goes on behind it."""
    data = EventShown(
        eval_id=event.eval_id,
        status=event.status,
        verdict=event.verdict,
        progress=event.progress,
        at=event.at,
        seq=event.seq,
    )
    return b"event: evaluation\nid: %s\ndata: %s\n\n" % (str(position).encode(), _encode(data))


def entry_frame(entry: Entry) -> bytes:
    """An entry of the bus."""
    return event_frame(entry.event, entry.position)


def resync_frame(reason: str, position: Position | None) -> bytes:
    """Events may be missing; ``position`` is from where the stream goes on, None for no change."""
    at = b"" if position is None else b"id: %s\n" % str(position).encode()
    return b"event: resync\n%sdata: %s\n\n" % (at, _encode(Resync(reason=reason)))
