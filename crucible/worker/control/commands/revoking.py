"""Commands that keep tasks from running, or stop them."""

from __future__ import annotations

import logging
import signal as signals
from typing import TYPE_CHECKING, Any

from crucible.broker.wire.decode import decode
from crucible.errors import BrokerError, MessageError
from crucible.worker.control.stamps import matching_stamps

if TYPE_CHECKING:
    from crucible.broker.wire.decode import Message
    from crucible.worker.control.controlled import ControlledWorker
    from crucible.worker.run import Run

logger = logging.getLogger(__name__)


def revoked(worker: ControlledWorker, **_: Any) -> list[str]:
    """The ids of revoked tasks."""
    return list(worker.node.revocations.ids)


async def terminate(
    worker: ControlledWorker, signal: Any, task_id: Any, **_: Any
) -> dict[str, str]:
    """Revoke and stop; the old spelling of ``revoke`` with ``terminate``."""
    return await revoke(worker, task_id, terminate=True, signal=signal)


async def revoke(
    worker: ControlledWorker, task_id: Any, terminate: Any = False, signal: Any = None, **_: Any
) -> dict[str, str]:
    """Have tasks not run; with ``terminate`` stop those that run here.

    As from 5.6.2 on, a task that no worker has started is stored as REVOKED at once: clients that
    wait for it need not wait for its turn. Its event follows when the message is reached.
    """
    ids = _ids(task_id)
    running = {run.message.id: run for run in worker.runs.running if run.message is not None}
    try:
        await worker.node.revocations.revoke(ids)
        await worker.node.revocations.store([task_id for task_id in ids if task_id not in running])
    except BrokerError as error:
        # Remembered here all the same; the message is settled as REVOKED when it is reached.
        logger.warning("revoked tasks are not stored as such yet: %s", error)
    if not terminate:
        logger.info("tasks revoked: %s", ", ".join(ids))
        return {"ok": f"tasks {set(ids)} flagged as revoked"}
    signum = _signum(signal)
    known = [task_id for task_id in ids if task_id in running or _is_held(worker, task_id)]
    for task_id in known:
        if task_id in running:
            _stop(worker, running[task_id], signum)
    return {"ok": f"terminate: {', '.join(known)}" if known else "terminate: tasks unknown"}


def _ids(task_id: Any) -> list[str]:
    ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
    if not all(isinstance(one, str) for one in ids):
        raise TypeError("task ids must be strings")
    return list(dict.fromkeys(ids))


def _signum(signal: Any) -> int:
    """Its number, for the event only: a task here is no process that could be sent a signal.

    Raises:
        AttributeError: no such signal, as from stock.
        TypeError: not a name.
    """
    if signal is None:
        return signals.SIGTERM
    if isinstance(signal, int):
        return signal
    if not isinstance(signal, str) or not signal.isupper():
        raise TypeError("signal name must be uppercase string.")
    name = signal if signal.startswith("SIG") else f"SIG{signal}"
    return int(getattr(signals, name))


def _is_held(worker: ControlledWorker, task_id: str) -> bool:
    needle = task_id.encode()
    for run in worker.runs.unsettled:
        if run.message is not None:
            if run.message.id == task_id:
                return True
        elif needle in run.claim.raw:
            try:
                if decode(run.claim.raw).id == task_id:
                    return True
            except MessageError:
                continue
    return False


def _stop(worker: ControlledWorker, run: Run, signum: int) -> None:
    if run.message is None:
        return
    logger.info("terminating task %s", run.message.id)
    worker.node.task_events.signums[run.message.id] = signum
    if not worker.runs.terminate(run.message.id):
        del worker.node.task_events.signums[run.message.id]


async def revoke_by_stamped_headers(
    worker: ControlledWorker, headers: Any, terminate: Any = False, signal: Any = None, **_: Any
) -> dict[str, str]:
    """Have tasks with certain stamps not run; with ``terminate`` stop those that run here."""
    signum = _signum(signal)
    if isinstance(headers, list):
        headers = {name: value for name, _, value in (h.partition("=") for h in headers)}
    for name, stamps in headers.items():
        worker.node.revocations.stamps.setdefault(name, []).extend(_listed(stamps))
    if not terminate:
        return {"ok": f"headers {headers} flagged as revoked, but not terminated"}
    stopped: dict[str, list[Any]] = {}
    for run in list(worker.runs.running):
        matched = _matched(run.message, headers)
        for name, stamps in matched.items():
            stopped.setdefault(name, []).extend(stamps)
        if matched:
            _stop(worker, run, signum)
    if not stopped:
        return {"ok": f"headers {headers} were not terminated"}
    return {"ok": f"headers {stopped} revoked"}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _matched(message: Message | None, headers: dict[str, Any]) -> dict[str, list[Any]]:
    stamps = message.headers.get("stamps") if message is not None else None
    if not isinstance(stamps, dict):
        return {}
    found = {name: matching_stamps(stamps.get(name), wanted) for name, wanted in headers.items()}
    return {name: values for name, values in found.items() if values}
