"""Tasks of a registry that ask for retries, get them by themselves, and look at their message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from crucible.worker import Reject, TaskRegistry
from support.retry_cases import AUTORETRY, ERRORS, PARKED, REQUEST, RETRIES

if TYPE_CHECKING:
    from crucible.worker import TaskContext

registry = TaskRegistry()


@registry.task("retry.ask", max_retries=5)
async def ask(ctx: TaskContext, case: str, x: Any = 0, y: Any = 0) -> None:
    """Asks for the next try as a case of ``RETRIES`` says."""
    raise ctx.retry(queue=PARKED, countdown=0, **RETRIES[case])


@registry.task("retry.bounded", max_retries=1)
async def bounded(ctx: TaskContext, limit: int | None, named: bool) -> None:
    """Asks until no tries are left."""
    error = KeyError(ctx.retries) if named else None
    raise ctx.retry(exc=error, countdown=0, max_retries=limit)


@registry.task("retry.auto", **AUTORETRY)
async def auto(ctx: TaskContext, error: str) -> None:
    """Raises an error of ``ERRORS`` that says how often it was tried before."""
    raise ERRORS[error](ctx.retries)


@registry.task("retry.auto_plain", **AUTORETRY)
def auto_plain(ctx: TaskContext, error: str) -> None:
    """The same as a plain function."""
    raise ERRORS[error](ctx.retries)


@registry.task("retry.auto_asks", **AUTORETRY)
async def auto_asks(ctx: TaskContext, limit: int) -> None:
    """Asks itself, with a limit that is not its definition's."""
    raise ctx.retry(exc=KeyError(ctx.retries), countdown=0, max_retries=limit)


@registry.task(
    "retry.auto_rejects", autoretry_for=(Exception,), retry_kwargs=AUTORETRY["retry_kwargs"]
)
async def auto_rejects(ctx: TaskContext) -> None:
    """Rejects its message, which is an exception like others to stock's ``autoretry_for``."""
    raise Reject(f"no {ctx.retries}", requeue=False)


@registry.task("retry.backoff", autoretry_for=(KeyError,), retry_backoff=3, retry_jitter=False)
async def backoff(ctx: TaskContext) -> None:
    """Is tried again after 3, 6, 12 s."""
    raise KeyError(ctx.retries)


@registry.task("retry.request")
async def request(ctx: TaskContext, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What it finds of its message."""
    return {name: getattr(ctx, name) for name in REQUEST}


@registry.task("retry.replaced_by")
async def replaced_by(ctx: TaskContext, work: dict[str, Any]) -> None:
    """Is replaced by a signature."""
    raise ctx.replace(work)
