"""What the workers of a cell write down about each run, on a server that nothing happens to."""

from __future__ import annotations

from typing import Any

import msgspec

STREAM = "runs"
#: Environment variables of the workers.
LEDGER_VARIABLE, WORKER_VARIABLE = "OUTAGE_LEDGER_URL", "OUTAGE_WORKER"


class Began(msgspec.Struct, tag=True, frozen=True):
    """An evaluation began to run; ``at`` is in seconds since the epoch."""

    eval_id: str
    run: str
    worker: str
    at: float


class Ended(msgspec.Struct, tag=True, frozen=True):
    """A run came to its end, and was not stopped before it."""

    eval_id: str
    run: str
    at: float


Record = Began | Ended
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


async def write(client: Any, record: Record) -> None:
    """Append a record; it counts once this has returned."""
    await client.xadd(STREAM, {"r": msgspec.json.encode(record)})


async def read(client: Any) -> list[Record]:
    """All records in their order."""
    return [_decoder.decode(fields[b"r"]) for _, fields in await client.xrange(STREAM)]
