"""A client of the HTTP API: ``AsyncCrucible`` for asyncio programs, ``Crucible`` for others.

::

    with Crucible("http://127.0.0.1:8000") as crucible:
        print(crucible.run("print(6 * 7)").output)
"""

from crucible.client.asynchronous import AsyncCrucible
from crucible.client.blocking import Crucible
from crucible.client.models import BatchItem, Completed, Event, Resync, Submitted
from crucible.client.requests import ProgramOptions, ProgramRequest
from crucible.client.sessions import CellResult, SessionOptions, SessionShown
from crucible.errors import ApiError, ApiRefused, ApiUnreached
from crucible.models import Evaluation

__all__ = [
    "ApiError",
    "ApiRefused",
    "ApiUnreached",
    "AsyncCrucible",
    "BatchItem",
    "CellResult",
    "Completed",
    "Crucible",
    "Evaluation",
    "Event",
    "ProgramOptions",
    "ProgramRequest",
    "Resync",
    "SessionOptions",
    "SessionShown",
    "Submitted",
]
