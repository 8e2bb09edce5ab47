"""The split over HTTP: 20 000 submissions at each share, with ids from a fixed seed."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
import msgspec
import pytest
from support.migration_rig import LegacyInstallation, LocalExecutor, switch
from support.worker_rig import crucible

from crucible.migration import share_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stock_rig.child import Child

COUNT, AGAIN = 20_000, 500
CONNECTIONS = 32
SHARES = (0.10, 0.25, 0.50, 0.90)


class _Answer(msgspec.Struct):
    eval_id: str
    queue_system: str


_decode = msgspec.json.Decoder(_Answer).decode


async def submit_all(url: str, ids: Iterable[str]) -> dict[str, str]:
    """Submit each id, on connections kept open; the side each went to."""
    sides: dict[str, str] = {}
    # One iterator for all connections: each takes the next id when it is free.
    waiting = iter(ids)
    await asyncio.gather(*(_submit(url, waiting, sides) for _ in range(CONNECTIONS)))
    return sides


async def _submit(url: str, ids: Iterator[str], sides: dict[str, str]) -> None:
    """One connection; a hand-made client, for the load must not outweigh what is tested."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    try:
        for eval_id in ids:
            body = b'{"code":"print(1)","eval_id":"%b"}' % eval_id.encode()
            writer.write(
                b"POST /api/eval HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            async with asyncio.timeout(60):
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                answer = await reader.readexactly(length)
            assert head.startswith((b"http/1.1 202", b"http/1.1 200")), (head, answer)
            found = _decode(answer)
            assert found.eval_id == eval_id
            sides[eval_id] = found.queue_system
    finally:
        writer.close()


def api(redis_url: str, legacy_url: str, share: float) -> Child:
    """An api process."""
    return crucible(
        ["api", "--port", "0"],
        CELERY_BROKER_URL=redis_url,
        CRUCIBLE_EVENT_BUS_URL=redis_url,
        CRUCIBLE_QUEUE_LIMIT=str(2 * COUNT * len(SHARES)),
        QUEUE_SERVICE_URL=legacy_url,
        CELERY_PERCENTAGE=str(share),
    )


async def url_of(process: Child) -> str:
    """Where an api process listens."""
    return (await process.wait_for_log("listening on http://")).split()[-1]


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_each_share_holds_over_20000_submissions_and_no_id_changes_sides(
    redis_url: str,
) -> None:
    """Within four standard deviations, as the decision says for each id, and it stays there.

    Ids come again under the same switches, under those of the other shares, and in a second process
    that has nothing but the records to go by.
    """
    seed = random.Random(20260101)
    kept: dict[str, str] = {}
    async with LegacyInstallation(LocalExecutor(), 0, limit=COUNT * len(SHARES)) as legacy:
        async with api(redis_url, legacy.url, SHARES[0]) as process:
            url = await url_of(process)
            async with aiohttp.ClientSession(url) as client:
                for share in SHARES:
                    await switch(client, celery_percentage=share)
                    ids = [
                        str(uuid.UUID(int=seed.getrandbits(128), version=4)) for _ in range(COUNT)
                    ]
                    sides = await submit_all(url, ids)
                    decided = {i: "celery" if share_of(i) < share else "legacy" for i in ids}
                    assert sides == decided
                    deviation = (COUNT * share * (1 - share)) ** 0.5
                    assert abs(Counter(sides.values())["celery"] - COUNT * share) < 4 * deviation
                    kept |= {i: sides[i] for i in seed.sample(ids, AGAIN)}
                    assert await submit_all(url, kept) == kept
        async with api(redis_url, legacy.url, 1.0) as process:
            assert await submit_all(await url_of(process), kept) == kept
        assert Counter(kept.values()).keys() == {"celery", "legacy"}
