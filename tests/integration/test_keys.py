"""Keys at the API: who is let in, and to what."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import queued, running_api
from support.keyed import Made, key_store, make_key
from support.patience import PATIENCE_S

from crucible.api.openapi import description
from crucible.api.routes import ROUTES
from crucible.broker.wire.decode import decode
from crucible.embedded.server import free_port
from crucible.errors import BrokerUnavailable, SettingsError
from crucible.identity.key_store import KeyStore
from crucible.identity.secret import new_secret

if TYPE_CHECKING:
    import aiohttp
    from redis.asyncio import Redis

PROGRAM = {"code": "print(1)"}


async def status_of(
    client: aiohttp.ClientSession, method: str, path: str, key: Made | None = None, **given: Any
) -> int:
    """The status of one answer."""
    headers = key.headers if key else {}
    async with client.request(method, path, headers=headers, **given) as response:
        await response.read()
        return response.status


async def until(
    expected: int, client: aiohttp.ClientSession, path: str, key: Made | None = None
) -> None:
    """Ask until the status is the expected one."""
    async with asyncio.timeout(PATIENCE_S):
        while await status_of(client, "GET", path, key) != expected:
            await asyncio.sleep(0.01)


async def test_loopback_is_served_until_a_key_is_made(redis_url: str) -> None:
    """From then on it takes a key as well, in a process that runs already."""
    async with running_api(redis_url) as client:
        assert await status_of(client, "POST", "/api/eval", json=PROGRAM) == 202
        key = await make_key(redis_url, "acme")
        # Known at once, without waiting for the news.
        assert await status_of(client, "POST", "/api/eval", key, json=PROGRAM) == 202
        await until(401, client, "/api/languages")
        assert await status_of(client, "POST", "/api/eval", json=PROGRAM) == 401
        async with key_store(redis_url) as store:
            await store.revoke(key.id)
        # Revoking the last key opens nothing.
        await until(401, client, "/api/languages", key)
        assert await status_of(client, "GET", "/api/languages") == 401


async def test_other_addresses_are_served_only_with_keys(redis_url: str) -> None:
    """Without any key made the start is refused; what a load balancer asks needs none."""
    with pytest.raises(SettingsError, match="crucible keys create"):
        async with running_api(redis_url, host="0.0.0.0"):
            pass
    key = await make_key(redis_url, "acme", "submit", "read")
    admin = await make_key(redis_url, "acme", "admin")
    async with running_api(redis_url, host="0.0.0.0") as client:
        assert await status_of(client, "GET", "/api/languages") == 401
        assert await status_of(client, "GET", "/api/languages", key) == 200
        for path in ("/health", "/openapi.json", "/docs"):
            assert await status_of(client, "GET", path) == 200
        assert await status_of(client, "GET", "/ready") in (200, 503)
        assert await status_of(client, "GET", "/metrics") == 401
        assert await status_of(client, "GET", "/metrics", key) == 403
        assert await status_of(client, "GET", "/metrics", admin) == 200


@pytest.mark.parametrize("direct", [True, False], ids=["fast_path", "handlers"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer crk_garbage"},
        {"Authorization": f"Bearer {new_secret()}"},
        {"X-API-Key": new_secret()},
        {"X-API-Key": ""},
        {"Authorization": "Basic dXNlcjpwYXNz"},
    ],
    ids=range(7),
)
async def test_without_a_valid_key_it_is_401(
    redis_url: str, redis: Redis, fields: dict[str, str], direct: bool
) -> None:
    """With a challenge that says how to ask, and nothing of the key."""
    await make_key(redis_url, "acme")
    async with (
        running_api(redis_url, direct=direct) as client,
        client.post("/api/eval", json=PROGRAM, headers=fields) as response,
    ):
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer realm=")
        assert response.content_type == "application/problem+json"
        text = await response.text()
    assert not await queued(redis)
    assert not any(value and value.rpartition(" ")[2] in text for value in fields.values())


async def test_a_scope_that_is_missing_is_403(redis_url: str) -> None:
    """The answer names the scope."""
    reads = await make_key(redis_url, "acme", "read")
    submits = await make_key(redis_url, "acme", "submit")
    async with running_api(redis_url) as client:
        assert await status_of(client, "POST", "/api/eval", reads, json=PROGRAM) == 403
        assert await status_of(client, "POST", "/api/eval", submits, json=PROGRAM) == 202
        assert await status_of(client, "GET", "/api/eval/x", submits) == 403
        assert await status_of(client, "GET", "/api/eval/x", reads) == 404
        assert await status_of(client, "DELETE", "/api/eval/x", reads) == 403
        assert await status_of(client, "GET", "/api/languages", submits) == 200
        async with client.get("/api/v1/keys", headers=reads.headers) as response:
            assert response.status == 403
            assert 'scope="admin"' in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("direct", [True, False], ids=["fast_path", "handlers"])
async def test_evaluations_are_of_the_keys_tenant_and_tier(
    redis_url: str, redis: Redis, direct: bool
) -> None:
    """Two keys of a tenant share its evaluations; another tenant's same id is another one."""
    premium = await make_key(redis_url, "acme", tier="premium")
    standard = await make_key(redis_url, "acme")
    other = await make_key(redis_url, "other", tier="bulk")
    body = {**PROGRAM, "eval_id": "e1"}
    async with running_api(redis_url, direct=direct) as client:
        async with client.post("/api/eval", json=body, headers=premium.headers) as response:
            assert response.status == 202
            accepted = await response.json()
        assert accepted["eval_id"] == "e1"
        assert accepted["task_id"] == "eval-e1"
        assert accepted["queue"] == "high_priority"
        assert await status_of(client, "GET", accepted["href"], standard) == 200
        assert await status_of(client, "GET", accepted["href"], other) == 404
        assert await status_of(client, "POST", "/api/eval", other, json=body) == 202
        assert await status_of(client, "GET", accepted["href"], other) == 200
    messages = {message.id: message.queue for message in map(decode, await queued(redis))}
    assert messages == {"eval-acme:e1": "high_priority", "eval-other:e1": "batch"}


@pytest.mark.parametrize("route", [r for r in ROUTES if r.need != "nothing"], ids=lambda r: r.path)
async def test_no_route_is_answered_without_a_key(redis_url: str, route: Any) -> None:
    """Whatever the OpenAPI document has; only metrics are open to the machine itself."""
    await make_key(redis_url, "acme")
    path = route.path.format(
        eval_id="x",
        letter_id="1-1",
        key_id="key_0123456789ab",
        task_id="eval-x",
        webhook_id="x",
        assessment_id="x",
        workflow_id="x",
        delivery_id="x",
        queue="batch",
        name="stdout",
        session_id="x",
    )
    async with running_api(redis_url) as client:
        status = await status_of(client, route.method, path, json=PROGRAM)
    assert status == (200 if route.need == "loopback" else 401)
    described = description()["paths"][route.path][route.method.lower()]
    assert ("security" in described) == (route.need != "loopback")


async def until_own_event(
    client: aiohttp.ClientSession, response: aiohttp.ClientResponse, key: Any
) -> str:
    """What a stream of events has up to the event of an evaluation that is submitted now."""
    async with client.post("/api/eval", json=PROGRAM, headers=key.headers) as submitted:
        eval_id: str = (await submitted.json())["eval_id"]
    text = ""
    while eval_id not in text:
        text += (await response.content.readline()).decode()
    return text


async def test_another_tenants_key_finds_nothing(redis_url: str) -> None:
    """Every route of the OpenAPI document, with the ids of another tenant: 403, 404, or nothing
    of it in the answer.
    """
    owner = await make_key(redis_url, "acme")
    foreign = await make_key(redis_url, "other")
    # Streams of events begin with all that the bus has.
    from_start = {**foreign.headers, "Last-Event-ID": "0-0"}
    secret_text = "nobody else may read this"
    async with running_api(redis_url) as client:
        body = {"code": f"print({secret_text!r})", "eval_id": "victim", "metadata": {"a": "b"}}
        assert await status_of(client, "POST", "/api/eval", owner, json=body) == 202
        receiver = {"url": "https://acme.example/"}
        async with client.post(
            "/api/v1/webhooks", json=receiver, headers=owner.headers
        ) as response:
            assert response.status == 201
            webhook_id = (await response.json())["id"]
        for path, operations in description()["paths"].items():
            for method in operations:
                for eval_id in ("victim", "acme:victim", "acme%3Avictim"):
                    concrete = path.format(
                        eval_id=eval_id,
                        letter_id="1-1",
                        key_id=owner.id,
                        task_id=f"eval-{eval_id}",
                        webhook_id=webhook_id,
                        delivery_id="msg_0123456789ab",
                        session_id="s_x",
                        token=eval_id,
                        id="0",
                        assessment_id="acme:one",
                        workflow_id="acme:one",
                        queue="batch",
                        name="stdout",
                    )
                    async with client.request(
                        method, concrete, headers=from_start, json=PROGRAM
                    ) as response:
                        if response.content_type == "text/event-stream":
                            text = await until_own_event(client, response, foreign)
                        else:
                            text = await response.text()
                        if "{" in path:
                            assert response.status in (403, 404), concrete
                        elif path != "/metrics":
                            assert "victim" not in text, concrete
                            assert "acme" not in text, concrete
                        assert secret_text not in text
        async with client.get("/api/eval/victim", headers=owner.headers) as response:
            assert (await response.json())["status"] == "queued"


async def test_a_revoked_key_is_refused_by_every_api(redis_url: str) -> None:
    """Each process learns of it by itself."""
    key = await make_key(redis_url, "acme")
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(running_api(redis_url)) for _ in range(2)]
        for client in clients:
            assert await status_of(client, "POST", "/api/eval", key, json=PROGRAM) == 202
        async with key_store(redis_url) as store:
            await store.revoke(key.id)
        for client in clients:
            await until(401, client, "/api/languages", key)
            assert await status_of(client, "POST", "/api/eval", key, json=PROGRAM) == 401


async def test_a_missed_publication_is_found_by_the_poll(
    redis_url: str, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose subscription hears nothing still refuses a revoked key soon."""
    key = await make_key(redis_url, "acme")

    async def deaf(self: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("crucible.identity.key_table.KeyTable._keep_listening", deaf)
    async with running_api(redis_url) as client, key_store(redis_url) as store:
        assert await status_of(client, "GET", "/api/languages", key) == 200
        await store.revoke(key.id)
        await until(401, client, "/api/languages", key)


async def test_a_rotated_key(redis_url: str) -> None:
    """Without grace its secret until now is refused; with it both are valid, for its time."""
    key = await make_key(redis_url, "acme")
    async with running_api(redis_url) as client, key_store(redis_url) as store:
        assert await status_of(client, "GET", "/api/languages", key) == 200
        _, second = await store.rotate(key.id)
        await until(401, client, "/api/languages", key)
        assert await status_of(client, "GET", "/api/languages", Made(key.id, second)) == 200
        _, third = await store.rotate(key.id, grace_s=3600)
        await until(200, client, "/api/languages", Made(key.id, third))
        assert await status_of(client, "GET", "/api/languages", Made(key.id, second)) == 200
        _, fourth = await store.rotate(key.id, grace_s=0.001)
        await until(200, client, "/api/languages", Made(key.id, fourth))
        await until(401, client, "/api/languages", Made(key.id, third))
        assert await status_of(client, "GET", "/api/languages", Made(key.id, second)) == 401


async def test_a_secret_is_shown_whatever_comes_after(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is made, rotated and revoked though this process cannot read it back at once."""
    admin = await make_key(redis_url, "ops", "admin")

    async def away(store: KeyStore) -> int:
        raise BrokerUnavailable("the queue server did not answer in time")

    async with running_api(redis_url) as client:
        wanted = {"name": "ci", "tenant": "acme", "scopes": ["submit"]}
        assert await status_of(client, "GET", "/api/v1/keys", admin) == 200
        monkeypatch.setattr(KeyStore, "version", away)
        async with client.post("/api/v1/keys", json=wanted, headers=admin.headers) as response:
            assert response.status == 201
            path = f"/api/v1/keys/{(await response.json())['id']}"
        async with client.post(f"{path}/rotate", headers=admin.headers) as response:
            assert response.status == 200
            key = Made("", (await response.json())["key"])
        monkeypatch.undo()
        await until(200, client, "/api/v1/me", key)
        monkeypatch.setattr(KeyStore, "version", away)
        assert await status_of(client, "DELETE", path, admin) == 200
        monkeypatch.undo()
        await until(401, client, "/api/v1/me", key)


async def test_keys_over_http(
    redis_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Made, listed, rotated and revoked; each secret is shown once and stored nowhere."""
    caplog.set_level(logging.DEBUG)
    wanted = {"name": "ci", "tenant": "acme", "tier": "bulk", "scopes": ["submit"]}
    admin = await make_key(redis_url, "ops", "admin")
    async with running_api(redis_url) as client:
        headers = admin.headers
        async with client.post("/api/v1/keys", json=wanted, headers=headers) as response:
            assert response.status == 201
            assert response.headers["Cache-Control"] == "no-store"
            first = await response.json()
        assert {name: first[name] for name in wanted} == wanted
        path = f"/api/v1/keys/{first['id']}"
        async with client.post(f"{path}/rotate", headers=headers) as response:
            assert response.status == 200
            second = await response.json()
        assert first["key"] != second["key"]
        key = Made(first["id"], second["key"])
        # Changed by this process, so known to it at once.
        assert await status_of(client, "POST", "/api/eval", key, json=PROGRAM) == 202
        assert await status_of(client, "DELETE", path, admin) == 200
        assert await status_of(client, "POST", "/api/eval", key, json=PROGRAM) == 401
        assert await status_of(client, "DELETE", path, admin) == 200
        assert await status_of(client, "POST", f"{path}/rotate", admin) == 404
        assert await status_of(client, "DELETE", "/api/v1/keys/version", admin) == 404
        async with client.get("/api/v1/keys", headers=headers) as response:
            listed = await response.json()
            text = await response.text()
    assert [one["id"] for one in listed["keys"]] == [first["id"], admin.id]
    assert listed["keys"][0]["revoked_at"]
    stored = b"".join([await redis.dump(name) or b"" for name in await redis.keys("*")])
    fields: Any = await redis.hgetall("crucible:keys")
    values = b"".join(fields.values())
    for secret in (first["key"], second["key"], admin.secret):
        assert secret not in text
        assert secret.encode() not in stored
        assert secret.encode() not in values
        assert secret not in caplog.text


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/api/v1/keys", {}, 422),
        ("/api/v1/keys", {"name": "n", "tenant": "t", "tier": "gold"}, 422),
        ("/api/v1/keys", [], 400),
        ("/api/v1/keys/key_0123456789ab/rotate", {"grace_s": -1}, 422),
        ("/api/v1/keys/key_0123456789ab/rotate", {"grace": 1}, 422),
        ("/api/v1/keys/key_0123456789ab/rotate", {}, 404),
    ],
)
async def test_what_cannot_be_made_of_a_key(
    redis_url: str, path: str, body: object, status: int
) -> None:
    """Refused with the field named."""
    async with running_api(redis_url) as client:
        assert await status_of(client, "POST", path, json=body) == status


async def test_without_scripts_there_are_no_keys(redis_url: str) -> None:
    """Rates are kept in a script, so keys and ``CRUCIBLE_CLAIM=brpop`` exclude each other."""
    wanted = {"name": "n", "tenant": "t"}
    async with running_api(redis_url, claim="brpop") as client:
        assert await status_of(client, "POST", "/api/v1/keys", json=wanted) == 422
    await make_key(redis_url, "acme")
    with pytest.raises(SettingsError, match="CRUCIBLE_CLAIM"):
        async with running_api(redis_url, claim="brpop"):
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
async def test_keys_that_were_never_read_let_nobody_in(host: str) -> None:
    """An api that starts while the queue server is away does not know whether there are any."""
    async with running_api(f"redis://127.0.0.1:{free_port()}/0", host=host) as client:
        assert await status_of(client, "GET", "/health") == 200
        assert await status_of(client, "GET", "/api/languages") == 503
        key = Made("", new_secret())
        assert await status_of(client, "POST", "/api/eval", key, json=PROGRAM) == 503
