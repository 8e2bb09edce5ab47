"""``crucible webhooks``: who is notified when evaluations end."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.client import Url, api_of, ask_api
from crucible.cli.flags import with_settings
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.settings import Settings
from crucible.settings.sections import Section

app = typer.Typer(help="Who is notified when evaluations end.", no_args_is_help=True)

_PATH = "/api/v1/webhooks"
WebhookId = Annotated[str, typer.Argument(help="Its id, as list prints it.")]


class Queued(msgspec.Struct):
    """What an answer about a delivery has at least."""

    id: str


class Secret(msgspec.Struct):
    """What an answer with a new secret has at least."""

    id: str
    secret: str


class Webhooks(msgspec.Struct):
    """What a list of webhooks has."""

    webhooks: list[dict[str, Any]]


class Deliveries(msgspec.Struct):
    """What a list of deliveries has."""

    deliveries: list[dict[str, Any]]


def _ask(
    settings: Settings,
    url: str | None,
    method: str,
    path: str,
    body: Any = None,
    kind: Any = dict[str, Any],
) -> Any:
    return asyncio.run(ask_api(api_of(url, settings), method, path, body, kind=kind))


@app.command("create")
@with_settings(Section.LISTENING)
def create(
    settings: Settings,
    receiver: Annotated[str, typer.Argument(help="URL that deliveries go to.")],
    event: Annotated[
        list[str] | None,
        typer.Option(help="Type of event to deliver, such as evaluation.failed; may be repeated."),
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Register a webhook and print its id and its secret, which is not shown again."""
    made = _ask(settings, url, "POST", _PATH, {"url": receiver, "events": event or None}, Secret)
    _print_secret(made, as_json)


@app.command("list")
@with_settings(Section.LISTENING)
def list_(settings: Settings, url: Url = None, as_json: Json = False) -> None:
    """Print the webhooks."""
    found = _ask(settings, url, "GET", _PATH, kind=Webhooks)["webhooks"]
    if as_json:
        print_json(found)
        return
    table = Table("id", "url", "events", "state", box=None, header_style="bold")
    for one in found:
        state = "enabled" if one["enabled"] else f"disabled: {one['disabled_reason']}"
        events = " ".join(name.removeprefix("evaluation.") for name in one["events"])
        table.add_row(one["id"], one["url"] or "of each submission", events, state)
    Console().print(table if found else "no webhooks")


@app.command("delete")
@with_settings(Section.LISTENING)
def delete(
    settings: Settings, webhook_id: WebhookId, url: Url = None, as_json: Json = False
) -> None:
    """Forget a webhook."""
    _ask(settings, url, "DELETE", f"{_PATH}/{_segment(webhook_id)}")
    if as_json:
        print_json({"deleted": webhook_id})
    else:
        typer.echo(f"{webhook_id} deleted")


@app.command("rotate")
@with_settings(Section.LISTENING)
def rotate(
    settings: Settings, webhook_id: WebhookId, url: Url = None, as_json: Json = False
) -> None:
    """Give a webhook a new secret and print it; the old one goes on signing for a day."""
    path = f"{_PATH}/{_segment(webhook_id)}/rotate"
    _print_secret(_ask(settings, url, "POST", path, kind=Secret), as_json)


@app.command("deliveries")
@with_settings(Section.LISTENING)
def deliveries(
    settings: Settings, webhook_id: WebhookId, url: Url = None, as_json: Json = False
) -> None:
    """Print the latest deliveries of a webhook."""
    path = f"{_PATH}/{_segment(webhook_id)}/deliveries"
    found = _ask(settings, url, "GET", path, kind=Deliveries)["deliveries"]
    if as_json:
        print_json(found)
        return
    table = Table("id", "evaluation", "at", "tries", "status", box=None, header_style="bold")
    for one in found:
        last = one["attempts"][0]
        said = last["status_code"] or last["detail"][:60]
        tries = str(last["number"])
        table.add_row(one["id"], one["eval_id"], last["at"], tries, f"{one['status']} ({said})")
    Console().print(table if found else "no deliveries")


@app.command("replay")
@with_settings(Section.LISTENING)
def replay(
    settings: Settings,
    delivery_id: Annotated[str, typer.Argument(help="Its id, as deliveries prints it.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Deliver once more, under the same webhook-id."""
    path = f"{_PATH}/deliveries/{_segment(delivery_id)}/replay"
    found = _ask(settings, url, "POST", path, kind=Queued)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found['id']} queued")


def _segment(text: str) -> str:
    """An id as one segment of a path.

    Raises:
        typer.BadParameter: nothing can have this id.
    """
    if not text or text in (".", ".."):
        raise typer.BadParameter(f"nothing can have the id {text!r}")
    return quote(text, safe="")


def _print_secret(webhook: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(webhook)
    else:
        typer.echo(f"{webhook['id']}\n{webhook['secret']}")
