"""``crucible migration``: where the way off the legacy queue stands, and each step of it."""

from __future__ import annotations

import asyncio
import getpass
import socket
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from crucible.cli.options import Json, QueueUrl
from crucible.cli.printing import print_json
from crucible.errors import BrokerError, CrucibleError, LegacyError
from crucible.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from crucible.legacy import QueueStats
    from crucible.migration.recover import Moved
    from crucible.migration.repair import Repaired
    from crucible.migration.sides import Sides
    from crucible.migration.state import Change, State
    from crucible.migration.verify import Verification

app = typer.Typer(
    help="Move from the legacy queue to Celery, step by step, and back.", no_args_is_help=True
)
T = TypeVar("T")

Reason = Annotated[str, typer.Option(help="Why; kept with the change.")]
ServiceUrl = Annotated[
    str | None,
    typer.Option(help="The legacy queue service (QUEUE_SERVICE_URL).", show_default=False),
]


def _settings(queue_url: str | None, service_url: str | None) -> Settings:
    flags = {"celery_broker_url": queue_url, "queue_service_url": service_url}
    return load_settings(flags=flags)


def _with_sides(settings: Settings, work: Callable[[Sides], Awaitable[T]]) -> T:
    from crucible.migration.sides import Sides

    async def do() -> T:
        async with Sides.connect(settings) as sides:
            return await work(sides)

    return asyncio.run(do())


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


@app.command("status")
def status(
    queue_url: QueueUrl = None, queue_service_url: ServiceUrl = None, as_json: Json = False
) -> None:
    """Print the mode, who set it, what comparisons found, and what waits on the legacy side."""
    settings = _settings(queue_url, queue_service_url)
    found = _with_sides(settings, _status)
    if as_json:
        print_json(found)
        return
    state = found["switches"]
    typer.echo(f"mode        {found['mode']}")
    typer.echo(
        f"switches    CELERY_ENABLED={state['celery_enabled']} "
        f"CELERY_PERCENTAGE={state['celery_percentage']} "
        f"FORCE_LEGACY_QUEUE={state['force_legacy_queue']} "
        f"CRUCIBLE_DUAL_WRITE={state['dual_write']}"
    )
    who = f"{state['by']} at {state['changed_at']}: {state['reason'] or 'no reason given'}"
    typer.echo(f"set by      {who if state['revision'] else 'the environment'}")
    counts = "  ".join(f"{name} {number}" for name, number in found["compared"].items())
    typer.echo(f"compared    {counts}")
    legacy = found["legacy"]
    typer.echo(f"legacy      {legacy if isinstance(legacy, str) else _stats_line(legacy)}")


async def _status(sides: Sides) -> dict[str, Any]:
    from crucible.migration.dual import Mismatches
    from crucible.migration.state import effective

    state = await sides.switches.read()
    legacy: Any = "not configured"
    if sides.legacy is not None:
        try:
            legacy = msgspec.to_builtins(await sides.legacy.stats())
        except LegacyError as error:
            legacy = str(error)
    return {
        "mode": effective(state, sides.settings).mode.value,
        "switches": msgspec.to_builtins(state),
        "compared": await Mismatches(sides.client, sides.keys).counts(),
        "legacy": legacy,
        "audit": msgspec.to_builtins(await sides.switches.audit(20)),
    }


def _stats_line(stats: dict[str, Any]) -> str:
    draining = ", draining" if stats["draining"] else ""
    return f"{stats['queued']} queued, {stats['running']} running{draining}"


@app.command("set")
def set_(
    percentage: Annotated[
        float | None, typer.Option(help="Share of the evaluations for Celery, 0.0 to 1.0.")
    ] = None,
    dual_write: Annotated[
        bool | None, typer.Option("--dual-write/--no-dual-write", help="Copies for Celery.")
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--enabled/--disabled", help="Celery takes part at all.")
    ] = None,
    force_legacy: Annotated[
        bool | None, typer.Option("--force-legacy/--no-force-legacy", help="Overrules all else.")
    ] = None,
    reason: Reason = "",
    queue_url: QueueUrl = None,
    queue_service_url: ServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Change switches; in force in every api process within a second."""
    from crucible.migration.state import Change

    change = Change(
        celery_enabled=enabled,
        celery_percentage=percentage,
        force_legacy_queue=force_legacy,
        dual_write=dual_write,
        reason=reason,
        by=_who(),
    )
    _change(_settings(queue_url, queue_service_url), change, as_json)


@app.command("rollback")
def rollback(
    reason: Reason = "rollback",
    queue_url: QueueUrl = None,
    queue_service_url: ServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Send everything to the legacy queue again, within a second; nothing queued is lost."""
    from crucible.migration.state import Change

    change = Change(force_legacy_queue=True, reason=reason, by=_who())
    settings = _settings(queue_url, queue_service_url)
    try:
        _change(settings, change, as_json)
    except BrokerError as error:
        typer.echo(f"crucible: {error}; asking the api instead", err=True)
        asyncio.run(_roll_back_by_api(settings, change))
        typer.echo("rolled back in that api process; it stores it once the server is back")


async def _roll_back_by_api(settings: Settings, change: Change) -> None:
    from crucible.cli.client import ApiError, ask_api

    base = f"http://{settings.host}:{settings.port}"
    body = {"force_legacy_queue": True, "reason": change.reason, "by": change.by}
    answer = await ask_api(base, "PUT", "/api/v1/migration", body)
    if answer.get("mode") != "legacy_only":
        raise ApiError(f"the api at {base} is in mode {answer.get('mode')}")


def _change(settings: Settings, change: Change, as_json: bool) -> None:
    async def do(sides: Sides) -> State:
        from crucible.migration.routing import Mode
        from crucible.migration.state import effective

        state = await sides.switches.change(change)
        mode = effective(state, settings).mode
        if sides.legacy is not None and mode not in (Mode.CELERY_PRIMARY, Mode.CELERY_ONLY):
            try:
                # It may have been drained; what is sent to it must be taken.
                await sides.legacy.drain(False)
            except LegacyError as error:
                typer.echo(f"crucible: {error}", err=True)
        return state

    state = _with_sides(settings, do)
    if as_json:
        print_json(msgspec.to_builtins(state))
    else:
        typer.echo(f"{state.switches(settings.queue_service_url).mode} (change {state.revision})")


@app.command("drain")
def drain(
    timeout: Annotated[float, typer.Option(help="Seconds to wait for what is left.")] = 300.0,
    reason: Reason = "drain",
    queue_url: QueueUrl = None,
    queue_service_url: ServiceUrl = None,
) -> None:
    """Send everything to Celery, close the legacy queue, and wait until it is empty."""
    from crucible.migration.drain import drain as drain_legacy

    def tell(stats: QueueStats) -> None:
        typer.echo(f"{stats.queued} queued, {stats.running} running")

    async def do(sides: Sides) -> bool:
        return await drain_legacy(sides, timeout, by=_who(), reason=reason, tell=tell)

    if not _with_sides(_settings(queue_url, queue_service_url), do):
        raise CrucibleError("the legacy queue is not empty yet; drain again, or recover")
    typer.echo("the legacy queue is empty")


@app.command("recover")
def recover(
    to: Annotated[
        Literal["legacy", "celery"], typer.Option(help="The side to move evaluations to.")
    ],
    active: Annotated[
        bool, typer.Option("--active", help="Also what workers hold; it may run twice.")
    ] = False,
    queue_url: QueueUrl = None,
    queue_service_url: ServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Move evaluations that have not ended to the other side."""

    async def do(sides: Sides) -> Moved:
        from crucible.migration.recover import to_celery, to_legacy

        return await (to_legacy if to == "legacy" else to_celery)(sides, active=active)

    moved = _with_sides(_settings(queue_url, queue_service_url), do)
    if as_json:
        print_json(msgspec.to_builtins(moved))
        return
    typer.echo(f"{len(moved.moved)} moved to {to}")
    for eval_id, why in moved.left.items():
        typer.echo(f"left  {eval_id}  {why}")


@app.command("verify")
def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Submit again what is lost, and verify once more.")
    ] = False,
    queue_url: QueueUrl = None,
    queue_service_url: ServiceUrl = None,
    as_json: Json = False,
) -> None:
    """Prove that every accepted evaluation has ended or is queued; exit code 1 when not."""

    async def do(sides: Sides) -> tuple[Verification, Repaired | None]:
        from crucible.migration.repair import repair as repair_missing
        from crucible.migration.verify import verify as verify_all

        found, missing = await verify_all(sides)
        if not missing or not repair:
            return found, None
        repaired = await repair_missing(sides, missing)
        return (await verify_all(sides))[0], repaired

    found, repaired = _with_sides(_settings(queue_url, queue_service_url), do)
    if as_json:
        print_json({
            **msgspec.to_builtins(found),
            "proved": found.proved,
            "repaired": msgspec.to_builtins(repaired),
        })  # fmt: skip
    else:
        _show(found, repaired)
    if not found.proved:
        raise typer.Exit(1)


def _show(found: Verification, repaired: Repaired | None) -> None:
    if repaired is not None:
        typer.echo(
            f"submitted again: {len(repaired.to_legacy)} to legacy, {len(repaired.to_celery)} "
            f"to celery; {len(repaired.failed)} could not be"
        )
        for eval_id, why in repaired.failed.items():
            typer.echo(f"failed  {eval_id}  {why}")
    table = Table("side", "place", "evaluations", box=None, header_style="bold")
    for side, places in found.places.items():
        for place, number in sorted(places.items()):
            table.add_row(side, place, str(number))
    Console().print(table)
    typer.echo(f"{found.accepted} accepted, {found.unrecorded} on the legacy side unrecorded")
    for missing in found.missing:
        typer.echo(f"{missing.place}  {missing.eval_id}  {missing.queue_system}  "
                   f"{missing.created_at}")  # fmt: skip
    typer.echo(
        "every accepted evaluation has ended or is queued"
        if found.proved
        else f"{len(found.missing)} evaluations will not end by themselves"
    )
