"""The handlers of ``/api/v1/migration``."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import MIGRATION, SETTINGS
from crucible.errors import BrokerError, InputError, LegacyError
from crucible.evaluation.readiness import states_of
from crucible.http.answers import json_answer
from crucible.http.body import read_body
from crucible.http.query import limit_of
from crucible.migration.live.comparer import Listed  # noqa: TC001 - msgspec reads annotations
from crucible.migration.routing import Mode
from crucible.migration.state import SWITCHES, AuditEntry, Change, State, initial_state
from crucible.validation import input_error, not_json

if TYPE_CHECKING:
    from aiohttp import web

    from crucible.migration.live.migration import Migration

log = logging.getLogger(__name__)

#: Entries of one answer, by default and at most.
PAGE, LARGEST_PAGE = 100, 1000


class MigrationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``GET /api/v1/migration``.

    Attributes:
        mode: where the migration stands.
        switches: what was set, by whom, when and why.
        forced: ``FORCE_LEGACY_QUEUE`` in this process's environment overrules the switches.
        stored: False while a rollback is in force here that is not stored yet.
        legacy_configured: there is a legacy queue.
        circuits: state of each circuit breaker, by downstream.
        copies: what became of dual-write copies of this process.
        compared: results of comparisons, of all processes; None while they cannot be read.
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
        compared: results of all comparisons.
        mismatches: the last that were not equal, newest first.
    """

    compared: dict[str, int]
    mismatches: list[Listed]


async def show(request: web.Request) -> web.Response:
    """``GET /api/v1/migration``: where the migration stands."""
    return json_answer(await _status(request))


async def change(request: web.Request) -> web.Response:
    """``PUT /api/v1/migration``: set switches; the answer is the status after it."""
    wanted = _decoded(await read_body(request, "CRUCIBLE_MAX_BODY_KB"))
    if not wanted.wanted():
        raise _no_switch()
    if not wanted.by:
        wanted = msgspec.structs.replace(wanted, by=f"http:{request.remote}")
    migration = request.app.get(MIGRATION)
    if migration is None:
        _check_without_legacy(wanted, initial_state(request.app[SETTINGS]))
        return json_answer(await _status(request))
    await migration.watch.change(wanted)
    await _stop_draining(migration)
    return json_answer(await _status(request))


def _decoded(body: bytes) -> Change:
    """The body of a change; raises InputError."""
    try:
        try:
            return msgspec.json.decode(body, type=Change)
        except msgspec.ValidationError as error:
            raise input_error(error) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Python's ``json`` writes NaN and Infinity, which are not JSON. Its decoder accepts
            # them, so the error can name the switch.
            return msgspec.convert(json.loads(body), Change)
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    except (ValueError, RecursionError) as error:
        raise not_json(error) from None


def _no_switch() -> InputError:
    error = InputError("body", f"names no switch to set; there are {', '.join(SWITCHES)}")
    error.steps = ()
    return error


def _check_without_legacy(wanted: Change, state: State) -> None:
    """Refuse switches that need a legacy queue; the others change nothing without one."""
    wanted.applied_to(state).switches("")


async def _stop_draining(migration: Migration) -> None:
    """Open a drained legacy queue again where submissions go to it from now on."""
    if migration.watch.switches.mode is Mode.CELERY_PRIMARY:
        return
    try:
        await migration.legacy.drain(False)
    except LegacyError as error:
        log.warning("the legacy queue may still refuse new tasks: %s", error)


async def mismatches(request: web.Request) -> web.Response:
    """``GET /api/v1/migration/mismatches[?limit=]``: outcomes that differ."""
    limit = limit_of(request, PAGE, LARGEST_PAGE)
    migration = request.app.get(MIGRATION)
    if migration is None:
        return json_answer(MismatchList(compared={}, mismatches=[]))
    kept = migration.mismatches
    found = MismatchList(compared=await kept.counts(), mismatches=await kept.latest(limit))
    return json_answer(found)


async def _status(request: web.Request) -> MigrationStatus:
    migration, settings = request.app.get(MIGRATION), request.app[SETTINGS]
    if migration is None:
        state = initial_state(settings)
        return MigrationStatus(mode=state.switches("").mode, switches=state)
    compared: dict[str, int] | None = None
    audit: list[AuditEntry] = []
    try:
        compared = await migration.mismatches.counts()
        audit = await migration.watch.store.audit(20)
    except BrokerError as error:
        log.info("comparisons and audit cannot be read now: %s", error)
    return MigrationStatus(
        mode=migration.watch.switches.mode,
        switches=migration.watch.state,
        forced=settings.force_legacy_queue,
        stored=migration.watch.stored,
        legacy_configured=True,
        circuits=states_of(migration.circuits()),
        copies=dict(migration.shadow.totals),
        compared=compared,
        following=len(migration.follower),
        audit=audit,
    )
