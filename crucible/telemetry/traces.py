"""Switches tracing on where the settings name a receiver; imports OpenTelemetry only then."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crucible.errors import RequirementError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.settings import Settings
    from crucible.telemetry.tracing.provider import ProcessTracing


def start_tracing(settings: Settings, service: str) -> ProcessTracing | None:
    """The tracing of this process, which its owner closes; None where it is off.

    Args:
        settings: name the receiver and the share of requests.
        service: name of the process among those of the installation.

    Raises:
        RequirementError: the libraries are missing.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        from crucible.telemetry.tracing.provider import ProcessTracing, exporter_to
    except ImportError as error:
        raise RequirementError(
            f"tracing needs {error.name}", "pip install 'crucible-sandbox[tracing]'"
        ) from None
    exporter = exporter_to(settings.otlp_endpoint)
    return ProcessTracing(service, exporter, settings.trace_sample_rate)


@asynccontextmanager
async def open_tracing(settings: Settings, service: str) -> AsyncIterator[ProcessTracing | None]:
    """``start_tracing``; what is left is sent when the context is closed."""
    found = start_tracing(settings, service)
    try:
        yield found
    finally:
        if found is not None:
            # It waits for the receiver.
            await asyncio.to_thread(found.close)
