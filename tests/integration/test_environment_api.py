"""Environments over HTTP: what there is, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from support.api_rig import queued, running_api

from crucible.environments import EnvironmentState
from crucible.evaluation.announcements import announce, read_announcements
from crucible.redis_keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

ALL = ("default", "judge", "data")
STATE = EnvironmentState(
    name="judge", image_id="sha256:1", size_bytes=7, versions={"cpp": "12.2.0", "python": "3.11.2"}
)


async def test_what_workers_have_is_shown(redis_url: str, redis: Redis) -> None:
    """Environments and languages, with the versions of workers that have reported."""
    await announce([STATE, EnvironmentState(name="data")], redis, Keys())
    async with running_api(redis_url, environments=ALL) as client:
        async with client.get("/api/environments") as response:
            shown = {one["name"]: one for one in await response.json()}
        async with client.get("/api/languages") as response:
            languages = {one["name"]: one for one in await response.json()}
    assert list(shown) == list(ALL)
    assert [one["available"] for one in shown.values()] == [False, True, False]
    assert shown["judge"]["languages"]["cpp"] == "12.2.0"
    assert shown["judge"]["languages"]["go"] is None
    assert (shown["data"]["preload"], shown["data"]["image_id"]) == (["numpy"], None)
    assert languages["cpp"]["version"] == "12.2.0"
    assert languages["cpp"]["environments"] == ["judge"]
    assert "c++" in languages["cpp"]["aliases"]
    assert languages["cpp"]["compile"][0] == "/usr/bin/g++"
    # Its version where it runs unless said otherwise, and nothing was heard of that.
    assert (languages["python"]["version"], languages["python"]["environments"]) == (
        None,
        list(ALL),
    )


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"environment": "nowhere"}, "environment"),
        ({"environment": 3}, "environment"),
        ({"language": "rust"}, "language"),
        ({"language": "cpp", "environment": "data"}, "language"),
        ({"environment": "data", "limits": {"memory_mb": 32}}, "limits.memory_mb"),
    ],
)
async def test_what_is_not_served_is_refused(
    redis_url: str, body: dict[str, Any], field: str, direct: bool
) -> None:
    """422 names the field, at whichever door."""
    served = ("default", "data")
    async with (
        running_api(redis_url, direct=direct, environments=served) as client,
        client.post("/api/eval", json={"code": "x", **body}) as response,
    ):
        assert response.status == 422
        assert (await response.json())["field"] == field


async def test_an_alias_is_queued_by_its_name(redis_url: str, redis: Redis) -> None:
    """Workers and records have the one name; the same under another alias is the same."""
    async with running_api(redis_url, environments=ALL) as client:
        for language in ("c++", "cpp"):
            body = {"code": "x", "language": language, "eval_id": "e", "environment": "judge"}
            async with client.post("/api/eval", json=body) as response:
                assert response.status in (200, 202)
        async with client.get("/api/eval/e") as response:
            assert (await response.json())["language"] == "cpp"
    (message,) = await queued(redis)
    assert b"c++" not in msgspec.json.encode(message)


async def test_what_nobody_repeats_is_forgotten(redis: Redis) -> None:
    """An announcement has a time to live, and one of another version is none."""
    keys = Keys("p:")
    await announce([STATE], redis, keys)
    assert 0 < await redis.ttl("p:crucible:environment:judge") <= 100
    await redis.set("p:crucible:environment:data", b"{")
    assert await read_announcements(["judge", "data", "default"], redis, keys) == {"judge": STATE}
