"""``crucible keys``: the keys of clients."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.models import LOCAL_TENANT
from crucible.settings import Settings
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.identity.key_store import KeyStore
    from crucible.identity.keys import KeyMade, KeyRequest, KeyShown

app = typer.Typer(help="Keys of clients: who may do what.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="Its id, as list prints it.")]


@app.command("create")
@with_settings(Section.TASK_QUEUE)
def create(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    tenant: Annotated[str, typer.Option(help="Whose evaluations it has.")] = LOCAL_TENANT,
    tier: Annotated[str, typer.Option(help="premium, standard or bulk.")] = "standard",
    scopes: Annotated[
        str, typer.Option(help="What it may do: submit, read, admin.", metavar="A,B")
    ] = "submit,read",
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once: only a hash of it is stored."""
    from crucible.identity.key_store import check_scripting
    from crucible.identity.keys import checked_request

    wanted = checked_request(
        {
            "name": name,
            "tenant": tenant,
            "tier": tier,
            "scopes": [scope.strip() for scope in scopes.split(",") if scope.strip()],
        }
    )
    check_scripting(settings)
    _print_made(asyncio.run(_create(settings, wanted)), as_json)


async def _create(settings: Settings, wanted: KeyRequest) -> KeyMade:
    from crucible.identity.keys import made

    async with _store(settings) as store:
        return made(*await store.create(wanted))


@app.command("list")
@with_settings(Section.TASK_QUEUE)
def list_(settings: Settings, as_json: Json = False) -> None:
    """Print all keys, the newest first, without their secrets."""
    found = asyncio.run(_list(settings))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, header_style="bold")
    # What is copied into the next command is never cut.
    table.add_column("id", no_wrap=True, min_width=max((len(key.id) for key in found), default=0))
    for name in ("name", "tenant", "tier", "scopes", "key", "last used", "revoked"):
        table.add_column(name, overflow="fold")
    for key in found:
        table.add_row(
            key.id,
            key.name,
            key.tenant,
            key.tier,
            ",".join(key.scopes),
            f"{key.start}…",
            _shortened(key.last_used_at),
            _shortened(key.revoked_at),
        )
    Console().print(table if found else "no keys")


def _shortened(moment: str | None) -> str:
    return (moment or "").partition(".")[0].replace("T", " ")


async def _list(settings: Settings) -> list[KeyShown]:
    async with _store(settings) as store:
        return await store.shown()


@app.command("revoke")
@with_settings(Section.TASK_QUEUE)
def revoke(settings: Settings, key_id: KeyId, as_json: Json = False) -> None:
    """Revoke a key: every api process refuses it within a second."""
    key = asyncio.run(_revoke(settings, key_id))
    if as_json:
        print_json(key)
    else:
        typer.echo(f"{key.id} ({key.name}) is revoked")


async def _revoke(settings: Settings, key_id: str) -> KeyShown:
    from crucible.identity.keys import shown

    async with _store(settings) as store:
        return shown(await store.revoke(key_id))


@app.command("rotate")
@with_settings(Section.TASK_QUEUE)
def rotate(
    settings: Settings,
    key_id: KeyId,
    grace_s: Annotated[
        float,
        typer.Option(
            min=0, max=30 * 86_400, help="Seconds for which the key until now stays valid."
        ),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Give a key a new secret and print it, this once."""
    _print_made(asyncio.run(_rotate(settings, key_id, grace_s)), as_json)


async def _rotate(settings: Settings, key_id: str, grace_s: float) -> KeyMade:
    from crucible.identity.keys import made

    async with _store(settings) as store:
        return made(*await store.rotate(key_id, grace_s))


def _print_made(key: KeyMade, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    typer.echo(key.key)
    typer.echo(f"{key.id}: tenant {key.tenant}, {key.tier}, {','.join(key.scopes)}", err=True)
    typer.echo("It is not shown again.", err=True)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[KeyStore]:
    from crucible.broker.redis.connection import TYPED_CONNECT_TIMEOUT_S, open_client
    from crucible.identity.key_store import KeyStore
    from crucible.redis_keys import Keys

    async with open_client(
        settings.celery_broker_url, connect_timeout_s=TYPED_CONNECT_TIMEOUT_S, name="keys"
    ) as client:
        names = Keys(settings.global_keyprefix, settings.result_prefix)
        yield KeyStore(client, names)
