"""The stored switches: what is in force, who set it, when, and why.

One STRING holds what is in force, and a bounded STREAM the changes. What is stored overrules the
environment a process was started with, with one exception: ``FORCE_LEGACY_QUEUE`` in the
environment always holds, also while nothing can be read.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.transactions import executed
from crucible.broker.redis.translation import translated
from crucible.errors import ConflictError
from crucible.migration.routing import Switches
from crucible.redis_keys import AUDIT_LIMIT

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from crucible.redis_keys import Keys
    from crucible.settings import Settings

#: Attempts to write while others write as well.
_ATTEMPTS = 10


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Where a migration stands.

    Attributes:
        celery_enabled: evaluations may go to Celery.
        celery_percentage: share of the ids that do.
        force_legacy_queue: everything to the legacy queue, whatever the others say.
        dual_write: everything to the legacy queue, and a copy to Celery.
        revision: changes so far; 0 while the environment decides.
        by: who set it.
        reason: why.
        changed_at: when, UTC; empty while the environment decides.
    """

    celery_enabled: bool = True
    celery_percentage: float = 1.0
    force_legacy_queue: bool = False
    dual_write: bool = False
    revision: int = 0
    by: str = ""
    reason: str = ""
    changed_at: str = ""

    def switches(self, queue_service_url: str) -> Switches:
        """The switches beside a legacy queue.

        Raises:
            SettingsError: they contradict each other, or need a legacy queue and there is none.
        """
        return Switches(
            celery_enabled=self.celery_enabled,
            celery_percentage=self.celery_percentage,
            force_legacy_queue=self.force_legacy_queue,
            dual_write=self.dual_write,
            queue_service_url=queue_service_url,
        )


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change of the switches; what is None stays as it is.

    Attributes:
        expected_revision: refuse when the switches were changed since.
    """

    celery_enabled: bool | None = None
    celery_percentage: float | None = None
    force_legacy_queue: bool | None = None
    dual_write: bool | None = None
    reason: str = ""
    by: str = ""
    expected_revision: int | None = None

    def wanted(self) -> dict[str, Any]:
        """The switches that it names."""
        named = {name: getattr(self, name) for name in SWITCHES}
        return {name: value for name, value in named.items() if value is not None}

    def changes(self, state: State) -> bool:
        """Whether anything is stored that is not stored already.

        What the environment says is no stored state: setting the same makes it one.
        """
        differs = any(getattr(state, name) != value for name, value in self.wanted().items())
        return differs or not state.revision

    def applied_to(self, state: State) -> State:
        """The next state."""
        return msgspec.structs.replace(
            state,
            **self.wanted(),
            revision=state.revision + 1,
            by=self.by,
            reason=self.reason,
            changed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )


SWITCHES = ("celery_enabled", "celery_percentage", "force_legacy_queue", "dual_write")


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the switches.

    Attributes:
        mode_from: the mode before; empty where it was not known.
        mode_to: the mode after.
    """

    revision: int
    at: str
    by: str
    reason: str
    mode_from: str
    mode_to: str
    before: State
    after: State


def initial_state(settings: Settings) -> State:
    """What the environment says."""
    return State(**{name: getattr(settings, name) for name in SWITCHES})


def effective(state: State, settings: Settings) -> Switches:
    """The switches in force in a process; force in its environment beats what is stored.

    Raises:
        SettingsError: the stored switches cannot work with this process's settings.
    """
    if settings.force_legacy_queue:
        state = msgspec.structs.replace(state, force_legacy_queue=True)
    return state.switches(settings.queue_service_url)


class SwitchStore:
    """The stored switches and their audit.

    Args:
        client: of the task queue server.
        keys: key names.
        settings: decide while nothing is stored.
    """

    def __init__(self, client: Redis, keys: Keys, settings: Settings) -> None:
        self._client = client
        self._keys = keys
        self._settings = settings

    async def read(self) -> State:
        """What is in force.

        Raises:
            BrokerError: the server does not answer.
        """
        with translated():
            stored: Any = await self._client.get(self._keys.migration)
        return self._decoded(stored)

    async def change(self, change: Change) -> State:
        """Change switches, publish the new state and record the change, all in one step.

        What is in force already is no change: the state stays, with its revision.

        Raises:
            SettingsError: the new switches would contradict each other.
            ConflictError: they were changed since ``expected_revision``.
            BrokerError: the server does not answer.
        """
        for _ in range(_ATTEMPTS):
            if (state := await self._try_change(change)) is not None:
                return state
        raise ConflictError(
            "expected_revision", "the switches are being changed by others; try again"
        )

    async def _try_change(self, change: Change) -> State | None:
        """The new state; None where another process wrote in between."""
        keys = self._keys
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                await pipe.watch(keys.migration)
                held: Any = await pipe.get(keys.migration)
                before = self._decoded(held)
                expected = change.expected_revision
                if expected is not None and expected != before.revision:
                    raise ConflictError("expected_revision", f"is {before.revision} now")
                if not change.changes(before):
                    return before
                after = change.applied_to(before)
                entry = self._audited(before, after)
                stored = msgspec.json.encode(after)
                pipe.multi()  # type: ignore[no-untyped-call]  # redis-py left it unannotated
                pipe.set(keys.migration, stored)
                pipe.xadd(
                    keys.migration_audit,
                    {"entry": msgspec.json.encode(entry)},
                    maxlen=AUDIT_LIMIT,
                    approximate=True,
                )
                pipe.publish(keys.migration, stored)
                return None if await executed(pipe) is None else after

    def _audited(self, before: State, after: State) -> AuditEntry:
        url = self._settings.queue_service_url
        return AuditEntry(
            revision=after.revision,
            at=after.changed_at,
            by=after.by,
            reason=after.reason,
            mode_from=before.switches(url).mode,
            mode_to=after.switches(url).mode,
            before=before,
            after=after,
        )

    async def audit(self, limit: int = 100) -> list[AuditEntry]:
        """The last changes, newest first.

        Raises:
            BrokerError: the server does not answer.
        """
        with translated():
            rows: Any = await self._client.xrevrange(self._keys.migration_audit, count=limit)
        return [msgspec.json.decode(fields[b"entry"], type=AuditEntry) for _, fields in rows]

    def _decoded(self, stored: bytes | None) -> State:
        if stored is None:
            return initial_state(self._settings)
        return decode_state(stored)


def decode_state(stored: bytes) -> State:
    """A stored state.

    Raises:
        msgspec.DecodeError: it is something else.
    """
    return msgspec.json.decode(stored, type=State)
