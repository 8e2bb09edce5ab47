"""What every facade needs of the api it is served by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from crucible.evaluation.service import EvaluationService
    from crucible.evaluation.session_service import SessionService
    from crucible.executor.served import ServedEnvironments
    from crucible.identity.principal import Principal
    from crucible.models import Limits


@dataclass(frozen=True, slots=True)
class FacadeContext:
    """The api behind the facades.

    Attributes:
        service: runs evaluations.
        sessions: keeps interpreters.
        served: environments and their languages.
        ceilings_of: the most a program of a request's caller may ask for.
        caller_of: who makes a request.
        load: messages that wait in all queues, and workers that are there.
        versions: the version of each language, as workers report it.
    """

    service: EvaluationService
    sessions: SessionService
    served: ServedEnvironments
    ceilings_of: Callable[[web.Request], Limits]
    caller_of: Callable[[web.Request], Principal]
    versions: Callable[[], Awaitable[Mapping[str, str | None]]]
    load: Callable[[], Awaitable[tuple[int, int]]]


CONTEXT = web.AppKey("facade_context", FacadeContext)
