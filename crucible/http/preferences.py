"""What a client prefers (``Prefer``, RFC 7240), and what of it was done."""

from __future__ import annotations

import re

from aiohttp import web

PREFER, APPLIED = "Prefer", "Preference-Applied"
_WAIT = re.compile(r"\s*wait\s*=\s*(?:\"([0-9]{1,9})\"|([0-9]{1,9}))\s*(?:;.*)?", re.IGNORECASE)
_applied = web.RequestKey("preference_applied", str)


def preferred_wait(request: web.Request, most_s: float) -> float | None:
    """Whole seconds a client prefers to wait (``wait=N``); None where it names none.

    What cannot be read is ignored, as the RFC asks; of several the first counts. The answer says
    what was applied, see ``add_applied``.

    Args:
        request: its header is read.
        most_s: seconds that the installation allows.
    """
    for value in request.headers.getall(PREFER, ()):
        for preference in value.split(","):
            if match := _WAIT.fullmatch(preference):
                seconds = min(int(match[1] or match[2]), most_s)
                request[_applied] = f"wait={seconds:g}"
                return float(seconds)
    return None


async def add_applied(request: web.Request, response: web.StreamResponse) -> None:
    """Say in a successful answer which preference was applied; a signal of the application."""
    if _applied in request and response.status < 300:
        response.headers[APPLIED] = request[_applied]
