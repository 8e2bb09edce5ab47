"""What api and workers say to each other about sessions, as it is stored in Redis.

======================================= ==================================================
list ``crucible:sessions:wanted``       ``Open``: taken by a worker that has room
list ``crucible:sessions:calls:<host>`` ``Execute`` and ``Close`` for sessions of one worker
list ``crucible:sessions:answers:<id>`` ``Answer`` for one api process
``crucible:sessions:host:<host>``       heartbeat of a worker that keeps sessions
``crucible:session:<tenant>:<id>``      ``Record``
``crucible:sessions:of:<tenant>``       ids of a tenant's sessions
======================================= ==================================================
"""

from __future__ import annotations

from typing import Literal

import msgspec

# msgspec reads the annotations
from crucible.executor.sessions.models import Cell, CellResult, Reason, SessionSpec  # noqa: TC001
from crucible.models import Isolation  # noqa: TC001

#: Seconds a call waits for its turn, behind others of its session.
TURN_S = 60.0
#: Calls that wait for their turn in one session.
WAITING_CALLS = 16
#: Seconds that an api process waits for a session to be opened.
OPEN_S = 30.0


class Open(msgspec.Struct, frozen=True, kw_only=True, tag="open"):
    """A session is wanted.

    Attributes:
        call: number of the call, unique in its api process.
        reply_to: that api process.
        session: id of the new session.
        spec: what it is to be like.
        name: what a facade's client calls it; empty for others.
        idle_s: seconds without a cell after which it ends.
    """

    call: int
    reply_to: str
    session: str
    spec: SessionSpec
    idle_s: float
    name: str = ""


class Execute(msgspec.Struct, frozen=True, kw_only=True, tag="execute"):
    """A cell for a session; the first attributes as of ``Open``."""

    call: int
    reply_to: str
    session: str
    cell: Cell


class Close(msgspec.Struct, frozen=True, kw_only=True, tag="close"):
    """A session is not needed any more; attributes as of ``Open``."""

    call: int
    reply_to: str
    session: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call.

    Attributes:
        call: its number.
        result: of a cell.
        lost: the session has ended, for this reason.
        refused: it can never be as asked, and why.
        busy: it cannot be now, and why.
    """

    call: int
    result: CellResult | None = None
    lost: Reason | None = None
    refused: str = ""
    busy: str = ""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a session.

    Attributes:
        id: its id.
        tenant: whose it is.
        name: what a facade's client calls it; empty for others.
        host: the worker that keeps it; empty while none does.
        status: where it stands.
        reason: why it ended.
        environment: the image of its interpreter.
        isolation: what its sandbox is.
        created_at: when it was asked for.
        last_used_at: when its last cell ended.
        ended_at: when it ended.
        idle_s: seconds without a cell after which it ends.
        total_s: seconds after which it ends whatever it does.
        cells: run so far.
    """

    id: str
    tenant: str
    name: str = ""
    host: str = ""
    status: Literal["opening", "open", "ended"] = "opening"
    reason: Reason | None = None
    environment: str = "default"
    isolation: Isolation = "container"
    created_at: str = ""
    last_used_at: str | None = None
    ended_at: str | None = None
    idle_s: float = 0.0
    total_s: float = 0.0
    cells: int = 0


encode = msgspec.msgpack.Encoder().encode
decode_call = msgspec.msgpack.Decoder(Open | Execute | Close).decode
decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_record = msgspec.msgpack.Decoder(Record).decode
