"""Rights that are taken away while a worker claims: said, and nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support.servers import KINDS, KindOfServer

from crucible.broker.claiming.claims import Claims, new_worker_id
from crucible.broker.redis.connection import open_client
from crucible.broker.redis.with_lua.store import LuaStore
from crucible.broker.wire.encode import encode_task
from crucible.errors import NotPermitted


@pytest.mark.parametrize("right", ["rpop", "hset", "zadd", "evalsha"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_right_that_is_gone_is_told_and_loses_nothing(
    kind: str, right: str, tmp_path: Path
) -> None:
    """RPOP's errors were all taken for a wrong type, and an error after it lost messages."""
    async with KindOfServer(tmp_path, kind) as server:
        admin: Any = Redis.from_url(server.url)
        async with admin, open_client(f"redis://w:pw@127.0.0.1:{server.port}/0") as client:
            await admin.execute_command("ACL", "SETUSER", "w", "on", ">pw", "~*", "&*", "+@all")
            for number in range(3):
                await admin.lpush("q", encode_task("t", [], task_id=f"t{number}", queue="q"))
            before = await admin.lrange("q", 0, -1)
            claims = Claims(LuaStore(client), new_worker_id(), ["q"])
            await admin.execute_command("ACL", "SETUSER", "w", f"-{right}")
            with pytest.raises(NotPermitted):
                await claims.take(2)
            assert await admin.lrange("q", 0, -1) == before
            assert await admin.exists("unacked", "unacked_index") == 0
            await admin.execute_command("ACL", "SETUSER", "w", f"+{right}")
            assert [claim.raw for claim in await claims.take(2)] == [before[2], before[1]]
