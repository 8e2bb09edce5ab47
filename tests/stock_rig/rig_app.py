"""A stock Celery application that runs on every version of the rig.

Configured by environment: ``RIG_BROKER_URL``, ``RIG_RESULT_BACKEND`` (the broker's URL when unset)
and ``RIG_CONFIG``, a JSON object of further Celery settings such as ``{"result_extended": true}``.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import Ignore, Reject

Function = TypeVar("Function", bound=Callable[..., Any])

_broker = os.environ.get("RIG_BROKER_URL", "memory://")
app = Celery("rig", broker=_broker, backend=os.environ.get("RIG_RESULT_BACKEND", _broker))
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    accept_content=["json", "application/x-msgpack"],
    timezone="UTC",
    # The default differs between versions, and 5.3 warns if it is unset.
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    **json.loads(os.environ.get("RIG_CONFIG", "{}")),
)


def task(**options: Any) -> Callable[[Function], Function]:
    """``app.task`` with type annotations, so that the tasks below keep theirs."""
    decorate: Callable[[Function], Function] = app.task(**options)
    return decorate


@task(name="rig.add")
def add(x: Any, y: Any) -> Any:
    """The sum of two."""
    return x + y


@task(name="rig.mul")
def mul(x: Any, y: Any) -> Any:
    """The product of two."""
    return x * y


@task(name="rig.xsum")
def xsum(numbers: list[Any]) -> Any:
    """The sum of a list; the body of chords."""
    return sum(numbers)


@task(name="rig.echo")
def echo(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """The value that was passed."""
    return {"args": list(args), "kwargs": kwargs}


@task(name="rig.sleep")
def sleep(seconds: float, value: Any = None) -> Any:
    """``value`` after ``seconds``."""
    time.sleep(seconds)
    return value


class RigError(Exception):
    """An exception of this module's own."""

    class InnerError(Exception):
        """One whose qualified name has a dot."""


_FAILURES: dict[str, Callable[[], BaseException]] = {
    "value": lambda: ValueError("bang", 42),
    "key": lambda: KeyError("missing"),
    "own": lambda: RigError("own", {"a": 1}),
    "inner": lambda: RigError.InnerError("inner"),
    "empty": lambda: RuntimeError(),
    "unicode": lambda: ValueError("grün \u2192 \U0001f600"),
    "odd_args": lambda: ValueError({1, 2}, object),
    "os": lambda: FileNotFoundError(2, "No such file or directory", "/nowhere"),
    "ignore": lambda: Ignore(),
    "reject": lambda: Reject("no", requeue=False),
}


@task(name="rig.fail")
def fail(kind: str = "value") -> None:
    """Raises the exception named ``kind``."""
    raise _FAILURES[kind]()


@task(name="rig.fail_late", acks_late=True)
def fail_late(kind: str = "value") -> None:
    """Raises the exception named ``kind`` while its message is not acknowledged yet."""
    raise _FAILURES[kind]()


@task(name="rig.fail_from")
def fail_from() -> None:
    """Raises an exception that has a cause."""
    try:
        int("nonsense")
    except ValueError as error:
        raise RigError("outer") from error


@task(name="rig.unserialisable")
def unserialisable() -> Any:
    """Returns a value that JSON cannot encode."""
    return object()


@task(name="rig.retry_then_ok", bind=True, max_retries=5)
def retry_then_ok(self: Any, failures: int = 1, countdown: float = 0.05) -> int:
    """Retries ``failures`` times, then returns the count of retries."""
    if self.request.retries < failures:
        raise self.retry(exc=ValueError("not yet"), countdown=countdown)
    return int(self.request.retries)


@task(name="rig.retry_forever", bind=True, max_retries=1)
def retry_forever(self: Any, *, with_exc: bool = True) -> None:
    """Exceeds its retries: ends with the exception, or MaxRetriesExceededError without one."""
    if with_exc:
        raise self.retry(exc=ValueError("never"), countdown=0.05)
    raise self.retry(countdown=0.05)


@task(name="rig.ignored", ignore_result=True)
def ignored(value: Any = None) -> Any:
    """A task whose result is ignored."""
    return value


@task(name="rig.started", track_started=True)
def started(x: Any, y: Any) -> Any:
    """The sum of two, with a STARTED state before it."""
    return x + y


@task(name="rig.slow", track_started=True)
def slow(seconds: float) -> str:
    """Takes ``seconds``; its STARTED state shows that it has begun."""
    time.sleep(seconds)
    return "slow"


@task(name="rig.progress", bind=True)
def progress(self: Any, total: int = 2) -> str:
    """Stores a PROGRESS state per step."""
    for current in range(1, total + 1):
        self.update_state(state="PROGRESS", meta={"current": current, "total": total})
    return "done"


@task(name="rig.context", bind=True)
def context(self: Any) -> dict[str, Any]:
    """The task's request, as the worker passes it."""
    request = self.request
    names = (
        "id root_id parent_id group group_index retries eta expires origin delivery_info "
        "correlation_id reply_to hostname timelimit redelivered headers stamped_headers stamps"
    )
    return {name: getattr(request, name, None) for name in names.split()}


@task(name="rig.spawn", bind=True)
def spawn(self: Any, value: int) -> str:
    """Sends another task from inside a task and returns its id."""
    return str(add.apply_async((value, 1)).id)  # type: ignore[attr-defined]  # a Celery task


@task(name="rig.replaced", bind=True)
def replaced(self: Any, x: int, y: int) -> Any:
    """Is replaced by ``rig.add``."""
    raise self.replace(app.signature("rig.add", args=(x, y)))


@task(name="rig.late", acks_late=True)
def late(seconds: float = 0.0) -> str:
    """Acknowledged after it ran."""
    time.sleep(seconds)
    return "late"


@task(name="rig.die")
def die() -> None:
    """Kills the pool process it runs in, after it was acknowledged."""
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="rig.die_late", acks_late=True)
def die_late() -> None:
    """Kills the pool process it runs in, before it is acknowledged."""
    os.kill(os.getpid(), signal.SIGKILL)


@task(name="rig.soft", soft_time_limit=0.3)
def soft() -> str:
    """Returns how the soft time limit was raised in it."""
    from celery.exceptions import SoftTimeLimitExceeded

    try:
        time.sleep(5)
    except SoftTimeLimitExceeded:
        return "soft limit"
    return "no limit"


@task(name="rig.on_error")
def on_error(failed_id: str) -> str:
    """An errback that takes the failed task's id, and so is sent as a task."""
    return failed_id


@task(name="rig.on_error_inline")
def on_error_inline(request: Any, exc: BaseException, traceback: str) -> str:
    """An errback that takes three arguments, and so is called in the worker."""
    return f"{request.id}: {exc!r}"


@task(name="tasks.evaluate_code")
def evaluate_code(eval_id: str, code: str, language: str, **options: Any) -> dict[str, Any]:
    """Stands in for Crucible's task of this name, so that a stock client knows its signature."""
    return {"eval_id": eval_id, "language": language, "options": options, "code": code}
