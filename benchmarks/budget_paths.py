"""The hot paths that have budgets, and the bare probes that these are multiples of.

Each is measured in a process of its own; what it costs is processor time of that process for one
operation, in microseconds.
"""

from __future__ import annotations

import json
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from benchmarks.driven import Driven
from benchmarks.http_load import post
from benchmarks.machine import cores_apart, cpu_s
from benchmarks.scenarios.submit import BODY
from crucible.broker.redis.connection import open_client
from crucible.history.database import open_database
from crucible.history.migrate import migrate
from crucible.identity.key_store import KeyStore
from crucible.identity.keys import checked_request
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    #: Microseconds of processor time for one operation, measured once.
    Measure = Callable[[], Awaitable[float]]

#: Requests a second, and seconds of one measurement over HTTP.
RATE, SECONDS = 1500, 2.0
CONNECTIONS = 32


@dataclass(frozen=True, slots=True)
class Where:
    """What measurements share.

    Attributes:
        redis: URL of the queue server, without a database.
        directory: for databases.
        scale: 1.0 for real figures; tests use less.
    """

    redis: str
    directory: Path
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class HotPath:
    """One hot path, or a probe.

    Attributes:
        what: one operation of it.
        open: opens it; measures while the context is open.
    """

    what: str
    open: Callable[[Where], AbstractAsyncContextManager[Measure]]


def processor_s(pid: int) -> float:
    """Processor seconds of the threads of a process, as finely as the kernel counts them."""
    try:
        found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        return sum(int(text.split()[0]) for text in found) / 1e9
    except OSError:
        return cpu_s(pid)  # in hundredths of a second


@dataclass(frozen=True, slots=True)
class Http:
    """Requests to a server at a fixed rate.

    Attributes:
        subject: its file.
        environment: variables of its settings.
        keyed: with a key that has a rate.
        database: of the queue server.
    """

    subject: str
    environment: dict[str, str] = field(default_factory=dict)
    keyed: bool = False
    database: int = 0

    @asynccontextmanager
    async def __call__(self, where: Where) -> AsyncIterator[Measure]:
        """Start server and load generator."""
        url = f"{where.redis}/{self.database}"
        fields = await key_fields(url) if self.keyed else {}
        mine, others = cores_apart()
        job = {"redis": url, "environment": self.environment}
        async with (
            Driven(self.subject, job=job, cores=mine) as server,
            Driven("load", cores=others) as load,
        ):
            pid = server.facts.get("pid", server.pid)

            async def measure() -> float:
                began_s = processor_s(pid)
                answer = await load.run(
                    port=server.facts["port"],
                    request=post("/api/eval", BODY, fields),
                    connections=CONNECTIONS,
                    rate=RATE,
                    seconds=SECONDS * where.scale,
                )
                used_s = processor_s(pid) - began_s
                if set(answer["statuses"]) != {"202"}:
                    raise RuntimeError(f"submissions were refused: {answer['statuses']}")
                return float(1e6 * used_s / answer["statuses"]["202"])

            yield measure


async def key_fields(url: str) -> dict[str, str]:
    """The header of a key whose rate is never used up."""
    async with open_client(url, name="keys") as client:
        await client.flushdb()
        asked = {"name": "budget", "tenant": "budget", "tier": "premium", "scopes": ["submit"]}
        _, secret = await KeyStore(client, Keys()).create(checked_request(asked))
    return {"Authorization": f"Bearer {secret}"}


@dataclass(frozen=True, slots=True)
class Counted:
    """A subject that says itself what so many operations cost.

    Attributes:
        subject: its file.
        count: operations of one measurement.
        job: further arguments of its ``setup``.
    """

    subject: str
    count: int
    job: dict[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def __call__(self, where: Where) -> AsyncIterator[Measure]:
        """Start it."""
        mine, _ = cores_apart()
        job = {"redis": f"{where.redis}/3", **self.job}
        async with Driven(self.subject, job=job, cores=mine) as subject:

            async def measure() -> float:
                answer = await subject.run(count=max(4, int(self.count * where.scale)))
                return float(1e6 * answer["cpu_s"] / answer["count"])

            yield measure


@asynccontextmanager
async def batches(where: Where) -> AsyncIterator[Measure]:
    """An api that is sent batches of ten thousand."""
    mine, _ = cores_apart()
    job = {"redis": f"{where.redis}/2"}
    async with Driven("crucible_http_batch", job=job, cores=mine) as api:
        pid = api.facts["pid"]

        async def measure() -> float:
            async with Redis.from_url(f"{where.redis}/2") as redis:
                await redis.flushdb()
            began_s = processor_s(pid)
            answer = await api.run(seconds=SECONDS * where.scale)
            return float(1e6 * (processor_s(pid) - began_s) / answer["sent"])

        yield measure


@dataclass(frozen=True, slots=True)
class History:
    """Evaluations written to a SQLite database: by a historian, or by bare inserts.

    Attributes:
        subject: its file.
        fed: it reads them from the event bus.
        count: evaluations of one measurement.
    """

    subject: str
    fed: bool
    count: int = 4000

    @asynccontextmanager
    async def __call__(self, where: Where) -> AsyncIterator[Measure]:
        """Make its schema, and start it."""
        bus = f"{where.redis}/4"
        database = f"sqlite:///{where.directory}/{secrets.token_hex(4)}.sqlite"
        async with open_database(database) as engine:
            await migrate(engine)
        mine, others = cores_apart()
        async with (
            Driven(self.subject, job={"database": database, "redis": bus}, cores=mine) as writer,
            Driven("history_feed", job={"redis": bus}, cores=others) as feed,
        ):

            async def measure() -> float:
                evaluations = max(50, int(self.count * where.scale))
                if self.fed:
                    await feed.run(evaluations=evaluations, rate=0)
                answer = await writer.run(evaluations=evaluations, lag=False)
                return float(1e6 * answer["cpu_s"] / evaluations)

            yield measure


_NO_EVENTS = {"CRUCIBLE_EVENT_BUS_URL": "off"}
#: Keys of this tier have a rate that is never used up.
_FREE = dict.fromkeys(("rate", "burst", "tenant_rate", "tenant_burst", "in_flight"), 1_000_000)
FREE_RATES = json.dumps({"premium": _FREE})

#: The names that ``budgets.toml`` has.
PROBES = {
    "handler": HotPath("a request to a bare aiohttp handler", Http("bare_aiohttp")),
    "loop": HotPath("JSON through a socket and back", Counted("json_loop", 50_000)),
    "insert": HotPath("the rows of an evaluation, by executemany", History("bare_history", False)),
}
PATHS = {
    "submission": HotPath("POST /api/eval", Http("crucible_api", _NO_EVENTS)),
    "submission_full": HotPath(
        "POST /api/eval with key, rate and event",
        Http("crucible_api", {"CRUCIBLE_TIERS": FREE_RATES}, keyed=True, database=1),
    ),
    "batch_item": HotPath("an item of POST /api/eval/batch", batches),
    "task": HotPath("a no-op task from claim to settlement", Counted("crucible_noop", 20_000)),
    "container_program": HotPath(
        "a program in a fresh container",
        Counted("crucible_programs", 30, {"isolation": "container"}),
    ),
    "nested_program": HotPath(
        "a program in a lane", Counted("crucible_programs", 300, {"isolation": "nested"})
    ),
    "history_row": HotPath(
        "an evaluation written to the history", History("crucible_historian", True)
    ),
}
