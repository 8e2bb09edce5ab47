"""Sessions as callers have them: what a tier allows, and no other tenant's."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from crucible.errors import InputError, NotFound, SessionQuota, SessionUnavailable
from crucible.executor.admission import (
    check_code,
    check_environment,
    check_files,
    check_limits,
    check_memory,
    check_output_files,
)
from crucible.executor.sessions.models import Cell, SessionSpec
from crucible.models import LIMIT_FLOORS, Isolation, Limits, SourceFile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crucible.evaluation.allowance import Allowance
    from crucible.executor.sessions.models import CellResult
    from crucible.identity.principal import Principal
    from crucible.models import Tier
    from crucible.sessions.desk import SessionDesk
    from crucible.sessions.wire import Record
    from crucible.settings import Settings

#: Sessions of a caller without a tier: of this machine, where no keys were made.
SESSIONS_OF_LOCAL = 64
#: Seconds without a cell after which a session ends that does not say otherwise, and altogether.
IDLE_S, TOTAL_S = 300.0, 1800.0
#: The least of either.
LEAST_S = 1.0
CELL_S = 10.0
#: Seconds between two looks at a session that another request opens.
OPENING_LOOK_S = 0.05
#: Seconds to wait for room before a session makes room that was not used for so many.
ROOM_S, UNUSED_S = 2.0, 10.0


class SessionLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a whole session may use; absent ones take the default. Units as in ``models.Limits``."""

    memory_mb: int | None = None
    pids: int | None = None
    disk_mb: int | None = None


class SessionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/sessions``.

    Attributes:
        environment: the image its interpreter runs in; the first with Python by default.
        isolation: what its sandbox is; the installation's default.
        limits: of the whole session.
        idle_timeout_s: seconds without a cell after which it ends.
        total_timeout_s: seconds after which it ends in any case.
        files: laid in its working directory before the first cell.
    """

    environment: str | None = None
    isolation: Isolation | None = None
    limits: SessionLimits = SessionLimits()
    idle_timeout_s: float | None = None
    total_timeout_s: float | None = None
    files: tuple[SourceFile, ...] = ()


class CellRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/sessions/{session_id}/execute``.

    Attributes:
        code: Python.
        timeout_s: seconds after which the cell is interrupted.
        output_files: names of files to hand back afterwards.
    """

    code: str
    timeout_s: float = CELL_S
    output_files: tuple[str, ...] = ()


class SessionService:
    """Sessions, each of one tenant: ids of others are unknown to a caller.

    Args:
        desk: has the sessions.
        allowed: what callers of each tier may ask for.
        settings: of the installation.
    """

    def __init__(
        self,
        desk: SessionDesk,
        allowed: Mapping[Tier | None, Allowance],
        settings: Settings,
    ) -> None:
        self._desk = desk
        self._allowed = allowed
        self._idle_s = settings.session_idle_s
        self._total_s = settings.session_total_s
        self._default_isolation = settings.isolation
        self._most = {tier: rules.sessions for tier, rules in settings.tier_rules.items()}

    async def open(self, caller: Principal, asked: SessionRequest) -> Record:
        """Open a session.

        Raises:
            InputError: it asks for what it may not have.
            SessionQuota: its tenant has as many as it may.
            SessionUnavailable: no worker has room for it.
            BrokerError: the queue server does not answer.
        """
        idle_s = _seconds("idle_timeout_s", asked.idle_timeout_s, IDLE_S, self._idle_s)
        spec = self._spec(caller, asked)
        return await self._desk.open(spec, idle_s, self._most_of(caller))

    async def open_named(
        self, caller: Principal, asked: SessionRequest, name: str, wait_s: float
    ) -> tuple[Record, bool]:
        """The session that a facade's client calls so, opened where there is none any more.

        Where there is no room, that of the caller's named sessions makes room which was not used
        for longest.

        Args:
            caller: who asks.
            asked: what a new one is to be like.
            name: the client's.
            wait_s: seconds to wait for it.

        Returns:
            The session, and whether it is new.

        Raises:
            CrucibleError: as ``open``.
        """
        session_id = _id_of(name)
        until_s = time.monotonic() + wait_s
        while True:
            try:
                record = await self._desk.look_up(caller.tenant, session_id)
                if record.status == "open":
                    return record, False
            except NotFound:
                pass
            if await self._desk.turn_to_open(caller.tenant, session_id):
                break
            if time.monotonic() > until_s:
                raise SessionUnavailable("another request is opening this session")
            await asyncio.sleep(OPENING_LOOK_S)
        try:
            return await self._opened(caller, asked, session_id, name, until_s), True
        finally:
            await self._desk.opened(caller.tenant, session_id)

    async def _opened(
        self, caller: Principal, asked: SessionRequest, session_id: str, name: str, until_s: float
    ) -> Record:
        idle_s = _seconds("idle_timeout_s", asked.idle_timeout_s, IDLE_S, self._idle_s)
        spec, most = self._spec(caller, asked), self._most_of(caller)
        while True:
            left_s = until_s - time.monotonic()
            try:
                return await self._desk.open(
                    spec,
                    idle_s,
                    most,
                    session_id=session_id,
                    name=name,
                    wait_s=max(0.1, min(ROOM_S, left_s)),
                )
            except (SessionUnavailable, SessionQuota):
                if left_s <= ROOM_S:
                    raise
                await self._make_room(caller, name)

    async def _make_room(self, caller: Principal, name: str) -> None:
        """Close the named session that was not used for longest, if it was not just now."""
        before = (datetime.now(UTC) - timedelta(seconds=UNUSED_S)).isoformat()
        unused = [
            (one.last_used_at, one.id)
            for one in await self._desk.of_tenant(caller.tenant)
            if one.name and one.name != name and one.last_used_at and one.last_used_at < before
        ]
        if unused:
            await self._desk.close(caller.tenant, min(unused)[1])
        else:
            await asyncio.sleep(OPENING_LOOK_S)

    def _most_of(self, caller: Principal) -> int:
        return SESSIONS_OF_LOCAL if caller.tier is None else self._most[caller.tier]

    def _spec(self, caller: Principal, asked: SessionRequest) -> SessionSpec:
        allowance = self._allowed[caller.tier]
        environment, language = allowance.served.find("python", asked.environment)
        total_s = _seconds("total_timeout_s", asked.total_timeout_s, TOTAL_S, self._total_s)
        isolation = asked.isolation or allowance.isolation or self._default_isolation
        if isolation not in allowance.isolations:
            raise InputError("isolation", f"must be one of {', '.join(allowance.isolations)}")
        ceilings = allowance.ceilings
        limits = Limits(
            **{
                name: min(getattr(Limits(), name), getattr(ceilings, name))
                if (value := getattr(asked.limits, name)) is None
                else value
                for name in SessionLimits.__struct_fields__
            }
        )
        check_limits(limits, msgspec.structs.replace(ceilings, wall_time_s=1e9, cpu_time_s=1e9,
                                                     output_kb=1 << 30))  # fmt: skip
        check_environment(environment, limits)
        check_files(asked.files, language.file_name)
        check_memory(limits, "", 0, asked.files)
        return SessionSpec(
            tenant=caller.tenant,
            environment=environment.name,
            isolation=isolation,
            limits=msgspec.structs.replace(limits, wall_time_s=total_s, cpu_time_s=total_s),
            files=asked.files,
        )

    async def execute(self, caller: Principal, session_id: str, asked: CellRequest) -> CellResult:
        """Run a cell once those before it are done.

        Raises:
            InputError: it asks for what it may not have.
            NotFound: the caller has no session with this id.
            SessionGone: it has ended, before or because of the cell.
            SessionUnavailable: too many cells wait for it.
            BrokerError: the queue server does not answer.
        """
        ceilings = self._allowed[caller.tier].ceilings
        check_code(asked.code)
        check_output_files(asked.output_files)
        least, most = LIMIT_FLOORS.wall_time_s, ceilings.wall_time_s
        if not least <= asked.timeout_s <= most:
            raise InputError("timeout_s", f"must be between {least:g} and {most:g}")
        cell = Cell(
            code=asked.code,
            timeout_s=asked.timeout_s,
            output_kb=min(Limits().output_kb, ceilings.output_kb),
            output_files=asked.output_files,
        )
        return await self._desk.execute(caller.tenant, session_id, cell)

    async def list(self, caller: Principal) -> list[Record]:
        """The open sessions of the caller's tenant, the oldest first.

        Raises:
            BrokerError: the queue server does not answer.
        """
        return await self._desk.of_tenant(caller.tenant)

    async def look_up(self, caller: Principal, session_id: str) -> Record:
        """What is known of a session.

        Raises:
            NotFound: the caller has none with this id.
            BrokerError: the queue server does not answer.
        """
        return await self._desk.look_up(caller.tenant, session_id)

    async def close(self, caller: Principal, session_id: str) -> Record:
        """End a session; one that has ended stays as it is.

        Raises:
            NotFound: the caller has none with this id.
            BrokerError: the queue server does not answer.
        """
        return await self._desk.close(caller.tenant, session_id)

    async def close_named(self, caller: Principal, name: str) -> None:
        """End the session that a facade's client calls so.

        Raises:
            NotFound: the caller has none, or it has ended.
            BrokerError: the queue server does not answer.
        """
        record = await self._desk.look_up(caller.tenant, _id_of(name))
        if record.status == "ended":
            raise NotFound(f"the session {name!r} has ended")
        await self._desk.close(caller.tenant, record.id)


def _id_of(name: str) -> str:
    """The id of a session that a client has named."""
    return f"x_{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def _seconds(name: str, asked: float | None, usual: float, most: float) -> float:
    if asked is None:
        return min(usual, most)
    if not LEAST_S <= asked <= most:
        raise InputError(name, f"must be between {LEAST_S:g} and {most:g}")
    return asked
