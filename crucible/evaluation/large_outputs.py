"""Outputs that are too large for a stored result: in the object store, with a link in the result.

The object is stored before the result that names it, so a link always leads to a whole object. What
the store does not take stays in the result, as without a store: nothing is lost. Objects that no
result names, of runs that were repeated or whose results have expired, are swept.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from crucible.broker.redis.connection import open_client
from crucible.broker.redis.translation import translated
from crucible.errors import ObjectStoreError, RequirementError
from crucible.evaluation.executor_settings import breaker_policy
from crucible.evaluation.record import public_id, task_id_of, tenant_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from crucible.breaker import Circuit
    from crucible.models import Outcome
    from crucible.objects.store import ObjectStore
    from crucible.redis_keys import Keys
    from crucible.settings import Settings

log = logging.getLogger(__name__)

#: Bytes of a large output that stay in the result, for who does not follow the link.
HEAD_BYTES = 64 * 1024
#: What is older than this and named by no result will not be: uploads end long before.
GRACE = timedelta(hours=1)
#: Objects of outputs; the name within an evaluation, as it stands in links.
_FOLDER = "outputs"
NAME = re.compile(r"[0-9a-f]{32}-(stdout|stderr)\.zst\Z")


def folder_of(eval_id: str) -> str:
    """Where the objects of an evaluation are, by its scoped id."""
    return f"{_FOLDER}/{tenant_of(eval_id)}/{public_id(eval_id)}"


class LargeOutputs:
    """Moves outputs into the object store.

    Args:
        store: takes them; None keeps all in results.
        threshold: bytes from which on an output is moved.
    """

    def __init__(self, store: ObjectStore | None = None, threshold: int = 0) -> None:
        self._store = store
        self._threshold = threshold

    def circuits(self) -> dict[str, Circuit]:
        """The circuit before the store."""
        if self._store is None:
            return {}
        return {self._store.breaker.name: self._store.breaker.circuit}

    async def moved(self, eval_id: str, outcome: Outcome) -> tuple[Outcome, dict[str, str]]:
        """The outcome with the beginning of what was moved; and names of objects by stream.

        Args:
            eval_id: the scoped id.
            outcome: of its program.
        """
        names: dict[str, str] = {}
        for stream in ("stdout", "stderr"):
            content: bytes = getattr(outcome, stream)
            if self._store is None or len(content) <= self._threshold:
                continue
            name = f"{secrets.token_hex(16)}-{stream}.zst"
            try:
                await self._put(self._store, f"{folder_of(eval_id)}/{name}", content)
            except ObjectStoreError as error:
                log.warning("%s of %s stays in its result: %s", stream, eval_id, error)
                continue
            names[stream] = name
            head = content[:HEAD_BYTES]
            outcome = msgspec.structs.replace(outcome, **{stream: head})
        return outcome, names

    @staticmethod
    async def _put(store: ObjectStore, name: str, content: bytes) -> None:
        from crucible.objects.compressed import compressed

        # Some tenths of a second of processor time for the largest.
        await store.put(name, await asyncio.to_thread(compressed, content))


def open_store(settings: Settings) -> ObjectStore | None:
    """The store of an installation; None where there is none.

    Raises:
        RequirementError: a library is missing.
        SettingsError: its URL cannot be used.
    """
    if settings.objects is None:
        return None
    try:
        # Imported here: the libraries are an extra, and take memory.
        from crucible.objects import compressed, store
    except ImportError as error:
        raise RequirementError(
            f"the object store needs {error.name}", "pip install 'crucible-sandbox[objects]'"
        ) from None
    assert compressed is not None
    return store.ObjectStore(settings.objects, breaker_policy(settings))


def large_outputs(settings: Settings) -> LargeOutputs:
    """What moves the outputs of an installation; raises as ``open_store``."""
    return LargeOutputs(open_store(settings), settings.object_threshold_kb * 1024)


async def forget_objects(store: ObjectStore, eval_id: str) -> None:
    """Delete what is stored of one evaluation; raises ObjectStoreError."""
    async for page in store.names(folder_of(eval_id)):
        await store.delete([one.name for one in page])


class Orphans:
    """Deletes objects that no result names.

    Args:
        store: where they are.
        results: client of the result server.
        keys: key names.
    """

    def __init__(self, store: ObjectStore, results: Any, keys: Keys) -> None:
        self._store = store
        self._results = results
        self._keys = keys

    async def sweep(self, grace: timedelta = GRACE) -> int:
        """How many were deleted.

        Raises:
            ObjectStoreError: the store does not answer.
            BrokerError: the result server does not answer.
        """
        deleted, before = 0, datetime.now(UTC) - grace
        async for page in self._store.names(_FOLDER):
            old = [one.name for one in page if one.modified < before]
            orphans = await self._unnamed(old)
            await self._store.delete(orphans)
            deleted += len(orphans)
        return deleted

    async def _unnamed(self, names: list[str]) -> list[str]:
        if not names:
            return []
        with translated():
            metas: Any = await self._results.mget([self._result_of(name) for name in names])
        # The random part of the name stands nowhere but in the result that names it.
        return [
            name
            for name, meta in zip(names, metas, strict=True)
            if meta is None or name.rpartition("/")[2].encode() not in meta
        ]

    def _result_of(self, name: str) -> str:
        _, tenant, eval_id, _ = name.split("/", 3)
        scoped = eval_id if tenant == "local" else f"{tenant}:{eval_id}"
        return self._keys.result(task_id_of(scoped))


@asynccontextmanager
async def open_orphans(settings: Settings, keys: Keys) -> AsyncIterator[Orphans | None]:
    """What sweeps an installation's objects; None where there is no store."""
    store = open_store(settings)
    if store is None:
        yield None
        return
    async with open_client(settings.result_url, name="objects") as results:
        yield Orphans(store, results, keys)
