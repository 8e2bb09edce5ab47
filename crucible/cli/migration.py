"""``crucible migration``: the state of the migration off the legacy queue, and each step of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from crucible.cli.flags import with_settings
from crucible.cli.migration_steps import drain, recover, verify
from crucible.cli.options import Json
from crucible.cli.printing import print_json
from crucible.cli.sides import SECTIONS, Reason, who, with_sides
from crucible.errors import BrokerError, LegacyError
from crucible.settings import Settings, http_url
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.migration.operations.sides import Sides
    from crucible.migration.state import Change, State

app = typer.Typer(
    help="Move from the legacy queue to Celery, step by step, and back.", no_args_is_help=True
)
app.command("drain")(drain)
app.command("recover")(recover)
app.command("verify")(verify)


@app.command("status")
@with_settings(*SECTIONS)
def status(settings: Settings, as_json: Json = False) -> None:
    """Print the mode, who set it, the results of comparisons, and the legacy queue's counts."""
    found = with_sides(settings, _status)
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
    from crucible.migration.live.comparer import Mismatches
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
@with_settings(*SECTIONS)
def set_(
    settings: Settings,
    percentage: Annotated[
        float | None,
        typer.Option(
            "--percentage",
            "--celery-percentage",
            help="Share of evaluations sent to Celery, 0.0 to 1.0.",
        ),
    ] = None,
    dual_write: Annotated[
        bool | None, typer.Option("--dual-write/--no-dual-write", help="Send copies to Celery.")
    ] = None,
    enabled: Annotated[
        bool | None,
        typer.Option(
            "--enabled/--disabled",
            "--celery-enabled/--no-celery-enabled",
            help="Allow evaluations to go to Celery.",
        ),
    ] = None,
    force_legacy: Annotated[
        bool | None,
        typer.Option(
            "--force-legacy/--no-force-legacy",
            "--force-legacy-queue/--no-force-legacy-queue",
            help="Overrides every other switch.",
        ),
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Change switches; every api process applies them within a second."""
    from crucible.migration.state import Change

    if all(switch is None for switch in (percentage, dual_write, enabled, force_legacy)):
        raise typer.BadParameter(
            "give a switch: --percentage, --dual-write, --enabled or --force-legacy"
        )
    change = Change(
        celery_enabled=enabled,
        celery_percentage=percentage,
        force_legacy_queue=force_legacy,
        dual_write=dual_write,
        reason=reason,
        by=who(),
    )
    _change(settings, change, as_json)


@app.command("rollback")
@with_settings(*SECTIONS, Section.LISTENING)
def rollback(
    settings: Settings,
    reason: Reason = "rollback",
    as_json: Json = False,
) -> None:
    """Send everything to the legacy queue again, within a second; nothing queued is lost."""
    from crucible.migration.state import Change

    change = Change(force_legacy_queue=True, reason=reason, by=who())
    try:
        _change(settings, change, as_json)
    except BrokerError as error:
        typer.echo(f"crucible: {error}; trying the api instead", err=True)
        asyncio.run(_roll_back_by_api(settings, change))
        typer.echo(
            "rolled back in that api process; it stores the switches once the server is back"
        )


async def _roll_back_by_api(settings: Settings, change: Change) -> None:
    from crucible.cli.client import ask_api
    from crucible.errors import ApiError

    base = http_url(settings.host, settings.port)
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
                # It may be draining; it must accept tasks again.
                await sides.legacy.drain(False)
            except LegacyError as error:
                typer.echo(f"crucible: {error}", err=True)
        return state

    state = with_sides(settings, do)
    if as_json:
        print_json(msgspec.to_builtins(state))
    else:
        typer.echo(f"{state.switches(settings.queue_service_url).mode} (change {state.revision})")
