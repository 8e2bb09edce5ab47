"""The tasks of the task queue server: evaluations of the caller's tenant, and everybody's others.

Tasks that are no evaluations have no tenant, so only callers with the scope ``admin`` see them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from crucible.broker.admin.listing import Listed, Place
from crucible.broker.results.meta import READY
from crucible.errors import NotFound
from crucible.evaluation.messages import TASK
from crucible.evaluation.record import (
    TASK_ID_PREFIX,
    decode_record,
    once_name,
    public_id,
    scoped_id,
    task_id_of,
)
from crucible.evaluation.task_view import (
    TaskOutcome,
    TaskShown,
    evaluation_task,
    outcome_of,
    task_of,
)
from crucible.evaluation.view import evaluation_of, shown, utc_text
from crucible.models import LOCAL_TENANT
from crucible.settings import KNOWN_QUEUES
from crucible.validation import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker import Publisher
    from crucible.broker.admin.operator import Admin
    from crucible.broker.control.client import ControlClient
    from crucible.broker.results.meta import Meta
    from crucible.evaluation.service import EvaluationService
    from crucible.evaluation.task_history import TaskHistory
    from crucible.identity.principal import Principal
    from crucible.models import Evaluation

#: Full parts that are looked at for one page; a page may have fewer than asked for, or none.
_LOOKS = 20
#: Keys of the result server that one command looks at, and rows of the history.
_SCANNED, _OF_HISTORY = 500, 100


#: Sections of a listing behind those of the messages: results, and before them the history.
_RESULTS, _HISTORY = -1, -2
#: Seconds after which the history has got an end; those that it lacks are listed of the results.
_LAG_S = 30.0


class Page(msgspec.Struct, frozen=True, array_like=True):
    """Where a listing goes on: among the messages, then in the history, then among the results.

    Attributes:
        section: as in ``Place``, or one of those above.
        at: as in ``Place``, or the cursor of SCAN.
        skip: entries of the next part that were on the page before.
        cursor: that of the history.
    """

    section: int = 0
    at: int = 0
    skip: int = 0
    cursor: str = ""


class TaskDirectory:
    """Finds tasks.

    Args:
        service: knows evaluations.
        publisher: reads results.
        control: sends remote control commands to workers.
        admin: reads queues.
        history: knows evaluations whose results are gone; None without one.
    """

    def __init__(
        self,
        service: EvaluationService,
        publisher: Publisher,
        control: ControlClient,
        admin: Admin,
        history: TaskHistory | None = None,
    ) -> None:
        self._service = service
        self._publisher = publisher
        self._control = control
        self._admin = admin
        self._history = history

    async def look_up(self, caller: Principal, task_id: str) -> TaskShown:
        """One task.

        Raises:
            NotFound: the caller knows no task with this id.
            BrokerError: the server could not be asked.
            HistoryError: nothing is stored of it, and the history does not answer.
        """
        found, _, _ = await self._find(caller, task_id)
        return found

    async def _find(
        self, caller: Principal, task_id: str
    ) -> tuple[TaskShown, Meta | None, Evaluation | None]:
        if task_id.startswith(TASK_ID_PREFIX):
            eval_id = task_id.removeprefix(TASK_ID_PREFIX)
            evaluation = await self._evaluation(caller, eval_id)
            scoped = task_id_of(scoped_id(caller.tenant, eval_id))
            meta = await self._publisher.results.meta(scoped)
            return evaluation_task(evaluation, meta, TASK), meta, evaluation
        meta = await self._publisher.results.meta(task_id) if _is_admin(caller) else None
        if meta is None:
            raise NotFound(f"no task has the id {quoted(task_id, 128)}, or nothing is stored of it")
        return task_of(task_id, meta), meta, None

    async def _evaluation(self, caller: Principal, eval_id: str) -> Evaluation:
        try:
            return await self._service.look_up(caller, eval_id)
        except NotFound:
            # Its result has expired, or it was never there.
            past = None
            if self._history is not None:
                past = await self._history.find(caller, eval_id)
            if past is None:
                raise
            return past

    async def outcome(self, caller: Principal, task_id: str) -> TaskOutcome:
        """What became of a task; raises what ``look_up`` raises."""
        return outcome_of(*await self._find(caller, task_id))

    async def cancel(self, caller: Principal, task_id: str) -> TaskShown:
        """Keep a task from running, or stop it; raises what ``look_up`` raises.

        Of tasks that are no evaluations nothing may be stored yet, so any id is taken.
        """
        if task_id.startswith(TASK_ID_PREFIX):
            await self._service.cancel(caller, task_id.removeprefix(TASK_ID_PREFIX))
        elif _is_admin(caller):
            meta = await self._publisher.results.meta(task_id)
            if meta is None or not meta.ready:
                await self._control.revoke([task_id], terminate=True)
        return await self.look_up(caller, task_id)

    async def page(
        self,
        caller: Principal,
        limit: int,
        page: Page | None,
        states: frozenset[str] = frozenset(),
    ) -> tuple[list[TaskShown], Page | None]:
        """Some tasks, and where to go on: what waits, what workers hold, what has ended.

        Args:
            caller: whose evaluations; the others only with the scope ``admin``.
            limit: entries at most.
            page: where to begin; None is the beginning.
            states: tasks in these; empty for all.

        Raises:
            BrokerError: the server could not be asked.
            HistoryError: the history does not answer.
        """
        found: list[TaskShown] = []
        at: Page | None = page or (self._first_ended if states and states <= READY else Page())
        looks = 0
        while at is not None and len(found) < limit and looks < _LOOKS:
            part, following = await self._part(caller, at, states)
            # Most lists of queues are empty, and are passed over.
            looks += at.section < 0 or following is None or following.section == at.section
            fresh = part[at.skip :]
            taken = fresh[: limit - len(found)]
            found += taken
            if len(taken) < len(fresh):
                return found, Page(at.section, at.at, at.skip + len(taken), at.cursor)
            at = following
        return found, at

    @property
    def _first_ended(self) -> Page:
        return Page(_RESULTS if self._history is None else _HISTORY)

    async def _part(
        self, caller: Principal, at: Page, states: frozenset[str]
    ) -> tuple[list[TaskShown], Page | None]:
        following: Page | None
        if at.section == _HISTORY and self._history is not None:
            part, cursor = await self._history.page(caller, states, _OF_HISTORY, at.cursor or None)
            following = Page(_RESULTS) if cursor is None else Page(_HISTORY, cursor=cursor)
        elif at.section < 0:
            part, following = await self._ended(caller, at)
        else:
            listed, place = await self._admin.messages(KNOWN_QUEUES, Place(at.section, at.at))
            part = await self._pending(caller, listed)
            following = None if place is None else Page(place.section, place.at)
            if following is None and not (states and states.isdisjoint(READY)):
                following = self._first_ended
        return [one for one in part if not states or one.state in states], following

    async def _pending(self, caller: Principal, listed: Sequence[Listed]) -> list[TaskShown]:
        seen = [one for one in listed if is_visible(caller, one.message.id)]
        ids = [one.message.id for one in seen]
        metas = await self._publisher.results.metas(ids)
        named = {one.message.id: one for one in seen}
        # What was cancelled in its queue has ended, and is listed so.
        live = [(i, m) for i, m in zip(ids, metas, strict=True) if m is None or not m.ready]
        return await self._shown([i for i, _ in live], [m for _, m in live], named)

    async def _ended(self, caller: Principal, at: Page) -> tuple[list[TaskShown], Page | None]:
        is_own = not _is_admin(caller) and caller.tenant != LOCAL_TENANT
        pattern = f"{task_id_of(scoped_id(caller.tenant, ''))}*" if is_own else "*"
        found, cursor = await self._admin.results(pattern, at.at, _SCANNED)
        ids = [task_id for task_id in found if is_visible(caller, task_id)]
        metas = await self._publisher.results.metas(ids)
        ready = [(i, m) for i, m in zip(ids, metas, strict=True) if m is not None and m.ready]
        if self._history is not None:
            ready = await self._not_in_history(caller, ready)
        shown_now = await self._shown([i for i, _ in ready], [m for _, m in ready], {})
        return shown_now, Page(-1, cursor) if cursor else None

    async def _not_in_history(
        self, caller: Principal, ready: Sequence[tuple[str, Meta]]
    ) -> list[tuple[str, Meta]]:
        """Those that are no evaluations, or ended so lately that the history has not got it."""
        assert self._history is not None
        since = (datetime.now(UTC) - timedelta(seconds=_LAG_S)).isoformat()
        fresh = [
            public_id(task_id.removeprefix(TASK_ID_PREFIX))
            for task_id, meta in ready
            if task_id.startswith(TASK_ID_PREFIX)
            and (utc_text(meta.date_done or "") or "") >= since
        ]
        missing = await self._history.missing(caller, fresh)
        return [
            (task_id, meta)
            for task_id, meta in ready
            if not task_id.startswith(TASK_ID_PREFIX)
            or public_id(task_id.removeprefix(TASK_ID_PREFIX)) in missing
        ]

    async def _shown(
        self, ids: Sequence[str], metas: Sequence[Meta | None], listed: dict[str, Listed]
    ) -> list[TaskShown]:
        keys = self._publisher.keys
        evaluations = [i for i in ids if i.startswith(TASK_ID_PREFIX)]
        names = [once_name(i.removeprefix(TASK_ID_PREFIX)) for i in evaluations]
        stored = await self._admin.values([keys.idempotency(name) for name in names])
        records = dict(zip(evaluations, stored, strict=True))
        found = []
        for task_id, meta in zip(ids, metas, strict=True):
            one = listed.get(task_id)
            name = one.message.task if one is not None else None
            if task_id not in records:
                queue = one.queue if one is not None else None
                found.append(task_of(task_id, meta, name=name, queue=queue))
                continue
            raw = records[task_id]
            record = decode_record(raw) if raw is not None else None
            view = evaluation_of(task_id.removeprefix(TASK_ID_PREFIX), record, meta)
            if not view.queue and one is not None:
                view.queue = one.queue
            found.append(evaluation_task(shown(view), meta, name or TASK))
        return found


def is_visible(caller: Principal, task_id: str) -> bool:
    """Whether a caller may know of a task: an evaluation of its own, or any other for admins."""
    if not task_id.startswith(TASK_ID_PREFIX):
        return _is_admin(caller)
    return is_of_tenant(caller.tenant, task_id)


def is_of_tenant(tenant: str, task_id: str) -> bool:
    """Whether a task is an evaluation of a tenant."""
    scoped = task_id.removeprefix(TASK_ID_PREFIX)
    return scoped_id(tenant, public_id(scoped)) == scoped


def _is_admin(caller: Principal) -> bool:
    return "admin" in caller.scopes
