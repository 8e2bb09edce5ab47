"""What ``crucible historian`` runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crucible.cli.running import StopSignals, run
from crucible.cli.services.service import Service
from crucible.errors import SettingsError
from crucible.settings.sections import Section

if TYPE_CHECKING:
    from crucible.settings import Settings


def run_historian(settings: Settings) -> None:
    """Write the history until it is asked to stop."""
    run(_serve(settings, history_url(settings)), settings)


def history_url(settings: Settings) -> str:
    """Where the history is. Raises SettingsError: there is none."""
    if settings.history is None:
        raise SettingsError(
            "CRUCIBLE_HISTORY_URL",
            "is not set: there is no history; sqlite:///FILE or postgresql://USER@HOST/DATABASE",
        )
    return settings.history


async def _serve(settings: Settings, url: str) -> None:
    from crucible.evaluation.executor_settings import breaker_policy
    from crucible.history.historian import open_historian
    from crucible.redis_keys import Keys
    from crucible.telemetry.traces import open_tracing

    if settings.event_bus is None:
        raise SettingsError("CRUCIBLE_EVENT_BUS_URL", "is off: there are no events to write")
    signals = StopSignals()
    keys = Keys(settings.global_keyprefix, settings.result_prefix)
    async with (
        open_tracing(settings, "crucible-historian") as tracing,
        open_historian(
            url,
            settings.event_bus,
            keys,
            count=settings.history_batch,
            policy=breaker_policy(settings),
            written=None if tracing is None else tracing.history.written,
        ) as historian,
    ):
        await historian.run(signals.stop)


SERVICE = Service(
    (
        Section.HISTORY,
        Section.EVENT_BUS,
        Section.BREAKERS,
        Section.TRACING,
        "global_keyprefix",
        "log_level",
        "log_format",
    ),
    run_historian,
)
