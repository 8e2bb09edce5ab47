"""States of tasks, spelt as result backends store them (celery ``states.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PENDING = "PENDING"
STARTED = "STARTED"
RETRY = "RETRY"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"

#: States after which nothing changes (celery ``READY_STATES``).
READY = frozenset({SUCCESS, FAILURE, REVOKED})
#: States whose result is an exception.
EXCEPTION = frozenset({RETRY, FAILURE, REVOKED})


def is_final(meta: Mapping[str, Any]) -> bool:
    """Whether no other result may replace a stored one.

    A REVOKED stored by a process that saw no start of the task has null children, from stock
    (celery ``worker/control.py`` ``_revoke``) and from us: the task may run all the same, and then
    its own result counts.
    """
    if meta.get("status") == REVOKED:
        return meta.get("children", ()) is not None
    return meta.get("status") in (SUCCESS, FAILURE)


def adds_left(meta: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    """Whether a state is a REVOKED with what its task left, and the stored one has nothing of that.

    A task that is cancelled before its start was stored is REVOKED before the worker that runs it
    has stopped it.
    """
    return meta.get("status") == REVOKED and _has_left(meta) and not _has_left(stored)


def _has_left(meta: Mapping[str, Any]) -> bool:
    result = meta.get("result")
    return isinstance(result, dict) and result.get("left") is not None
