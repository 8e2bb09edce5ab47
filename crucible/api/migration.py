"""The handlers of ``/api/v1/migration``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from crucible.api.app_keys import SERVICE, SETTINGS
from crucible.api.query import limit_of
from crucible.errors import BrokerError, InputError, LegacyError
from crucible.evaluation.misread import input_error
from crucible.migration.live.comparer import Listed  # noqa: TC001 - msgspec reads annotations
from crucible.migration.live.service import RoutedService
from crucible.migration.routing import Mode
from crucible.migration.state import AuditEntry, Change, State, initial_state

if TYPE_CHECKING:
    from crucible.migration.live.watch import SwitchWatch

log = logging.getLogger(__name__)

#: Entries of one answer, by default and at most.
PAGE, LARGEST_PAGE = 100, 1000


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/migration``.

    Attributes:
        mode: where the migration stands.
        switches: what was set, by whom, when and why.
        forced: ``FORCE_LEGACY_QUEUE`` in this process's environment overrules the switches.
        stored: False while a rollback is in force here that the queue server has not taken yet.
        legacy_configured: there is a legacy queue.
        circuits: state of each circuit breaker, by downstream.
        copies: what became of dual-write copies of this process.
        compared: how comparisons came out, over all processes; None while they cannot be read.
        following: evaluations of this process that have not ended as far as it knows.
        audit: the last changes, newest first.
    """

    mode: str
    switches: State
    forced: bool = False
    stored: bool = True
    legacy_configured: bool = False
    circuits: dict[str, str] = {}
    copies: dict[str, int] = {}
    compared: dict[str, int] | None = None
    following: int = 0
    audit: list[AuditEntry] = []


class MismatchList(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/migration/mismatches``.

    Attributes:
        compared: how all comparisons came out.
        mismatches: the last that were not equal, newest first.
    """

    compared: dict[str, int]
    mismatches: list[Listed]


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/migration``: where the migration stands."""
    return _json(await _status(request))


async def change(request: web.Request) -> web.Response:
    """``PUT /api/v1/migration``: set switches; the answer is the status after it."""
    wanted = _decoded(await request.read())
    if not wanted.by:
        wanted = msgspec.structs.replace(wanted, by=f"http:{request.remote}")
    service = request.app[SERVICE]
    if not isinstance(service, RoutedService):
        _check_without_legacy(wanted, initial_state(request.app[SETTINGS]))
        return _json(await _status(request))
    await service.watch.change(wanted)
    await _serve_again(service.watch, service)
    return _json(await _status(request))


def _decoded(body: bytes) -> Change:
    """The body of a change; raises InputError."""
    try:
        try:
            return msgspec.json.decode(body, type=Change)
        except msgspec.ValidationError as error:
            raise input_error(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Python's clients write NaN and Infinity, which are no JSON; its reader takes them, and
            # then the switch is refused by its name.
            return msgspec.convert(json.loads(body), Change)
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    except (ValueError, RecursionError) as error:
        raise InputError("", f"the body is not valid JSON: {error}") from None


def _check_without_legacy(wanted: Change, state: State) -> None:
    """Refuse what needs the legacy queue there is not; what is left changes nothing."""
    wanted.applied_to(state).switches("")


async def _serve_again(watch: SwitchWatch, service: RoutedService) -> None:
    """A legacy queue that was drained must take tasks again when they are sent to it."""
    if watch.switches.mode is Mode.CELERY_PRIMARY:
        return
    try:
        await service.legacy.drain(False)
    except LegacyError as error:
        log.warning("the legacy queue could not be told to take tasks again: %s", error)


async def mismatches(request: web.Request) -> web.Response:
    """``GET /api/v1/migration/mismatches[?limit=]``: what ended differently on both sides."""
    limit = limit_of(request, PAGE, LARGEST_PAGE)
    service = request.app[SERVICE]
    if not isinstance(service, RoutedService):
        return _json(MismatchList(compared={}, mismatches=[]))
    kept = service.mismatches
    found = MismatchList(compared=await kept.counts(), mismatches=await kept.latest(limit))
    return _json(found)


async def _status(request: web.Request) -> MigrationStatus:
    service, settings = request.app[SERVICE], request.app[SETTINGS]
    if not isinstance(service, RoutedService):
        state = initial_state(settings)
        return MigrationStatus(mode=state.switches("").mode, switches=state)
    compared: dict[str, int] | None = None
    audit: list[AuditEntry] = []
    try:
        compared = await service.mismatches.counts()
        audit = await service.watch.store.audit(20)
    except BrokerError as error:
        log.info("comparisons and audit cannot be read now: %s", error)
    return MigrationStatus(
        mode=service.watch.switches.mode,
        switches=service.watch.state,
        forced=settings.force_legacy_queue,
        stored=service.watch.stored,
        legacy_configured=True,
        circuits={breaker.name: breaker.state.value for breaker in service.breakers},
        copies=dict(service.shadow.totals),
        compared=compared,
        following=service.following,
        audit=audit,
    )


def _json(value: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json")
