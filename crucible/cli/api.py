"""``crucible api``: the HTTP service."""

from __future__ import annotations

from crucible.cli.options import EventBusUrl, Host, LogLevel, Port, QueueUrl, ResultUrl
from crucible.cli.running import StopSignals, run
from crucible.settings import Settings, load_settings


def command(
    host: Host = None,
    port: Port = None,
    queue_url: QueueUrl = None,
    result_url: ResultUrl = None,
    event_bus_url: EventBusUrl = None,
    log_level: LogLevel = None,
) -> None:
    """Serve the HTTP API."""
    flags = {
        "host": host,
        "port": port,
        "celery_broker_url": queue_url,
        "celery_result_backend": result_url,
        "event_bus_url": event_bus_url,
        "log_level": log_level,
    }
    settings = load_settings(flags=flags)
    run(_serve(settings), settings.log_level)


async def _serve(settings: Settings) -> None:
    # Imported here so that other commands need not load the HTTP server.
    from crucible.api.server import serve

    await serve(settings, StopSignals().stop)
