"""``crucible keys``: what operators type, and what scripts read."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.api_rig import port_of, running_api
from typer.testing import CliRunner

from crucible.cli.main import app
from crucible.errors import InputError, NotFound, SettingsError
from crucible.identity.secret import digest_of

if TYPE_CHECKING:
    from typer.testing import Result

runner = CliRunner()


async def crucible(redis_url: str, *words: str, **environ: str) -> Result:
    """What a command did."""
    env = {"CELERY_BROKER_URL": redis_url, "COLUMNS": "200", **environ}
    return await asyncio.to_thread(lambda: runner.invoke(app, list(words), env=env))


async def test_a_key_from_its_making_to_its_end(redis_url: str) -> None:
    """The JSON has ``id`` and ``key``; lists have no secret."""
    words = ["--tenant", "acme", "--tier", "premium", "--scopes", "submit,read", "--json"]
    made = json.loads((await crucible(redis_url, "keys", "create", "ci", *words)).stdout)
    assert digest_of(made["key"])
    assert (made["name"], made["tenant"], made["tier"]) == ("ci", "acme", "premium")
    assert made["scopes"] == ["submit", "read"]
    [listed] = json.loads((await crucible(redis_url, "keys", "list", "--json")).stdout)
    assert listed == {name: value for name, value in made.items() if name != "key"}
    rotated = json.loads((await crucible(redis_url, "keys", "rotate", made["id"], "--json")).stdout)
    assert rotated["id"] == made["id"]
    assert rotated["key"] != made["key"]
    table = (await crucible(redis_url, "keys", "list")).stdout
    assert made["id"] in table
    assert rotated["key"] not in table
    revoked = json.loads((await crucible(redis_url, "keys", "revoke", made["id"], "--json")).stdout)
    assert revoked["revoked_at"]
    refused = await crucible(redis_url, "keys", "rotate", made["id"])
    assert isinstance(refused.exception, NotFound)


async def test_a_key_for_people(redis_url: str) -> None:
    """Standard output has the key and nothing else, so that it can be piped."""
    done = await crucible(redis_url, "keys", "create", "mine")
    assert digest_of(done.stdout.strip())
    assert "tenant local, standard, submit,read" in done.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("create", "n", "--tenant", "a b"), InputError),
        (("create", "n", "--tier", "gold"), InputError),
        (("create", "n", "--scopes", "all"), InputError),
        (("create", "n", "--scopes", ""), InputError),
        (("revoke", "key_0123456789ab"), NotFound),
        (("revoke", "version"), NotFound),
    ],
)
async def test_what_cannot_be_done_is_said(
    redis_url: str, words: tuple[str, ...], error: type[Exception]
) -> None:
    """One line, exit code 1."""
    done = await crucible(redis_url, "keys", *words)
    assert done.exit_code == 1
    assert isinstance(done.exception, error)


async def test_no_key_without_scripts(redis_url: str) -> None:
    """The setting to change is named."""
    done = await crucible(redis_url, "keys", "create", "n", CRUCIBLE_CLAIM="brpop")
    assert isinstance(done.exception, SettingsError)


async def test_commands_ask_with_the_key_of_the_settings(redis_url: str) -> None:
    """``CRUCIBLE_API_KEY``: no flag has it, because every user can read command lines."""
    made: dict[str, Any] = json.loads(
        (await crucible(redis_url, "keys", "create", "n", "--json")).stdout
    )
    async with running_api(redis_url) as client:
        port = str(port_of(client))
        code, text = await submitted(port, made["key"])
        assert (code, json.loads(text)["status"]) == (0, "queued")
        code, text = await submitted(port, "")
        assert code == 1
        assert "a key is needed" in text


async def submitted(port: str, key: str) -> tuple[int | None, str]:
    """Exit code and output of ``crucible submit``, as its own process: it handles signals."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "crucible", "submit", "-", "--no-wait", "--json", "--port", port),
        env={**os.environ, "CRUCIBLE_API_KEY": key},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate(b"print(1)")
    return process.returncode, output.decode()
