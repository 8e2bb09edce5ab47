"""The tasks of ``retry_tasks`` as stock's own: ``celery -A support.retry_stock_app worker``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from celery import Celery
from celery.exceptions import Reject

from support.retry_cases import AUTORETRY, ERRORS, PARKED, REQUEST, RETRIES

Function = TypeVar("Function", bound=Callable[..., Any])

_url = os.environ.get("RIG_BROKER_URL", "memory://")
app = Celery("retries", broker=_url, backend=_url)


def task(**options: Any) -> Callable[[Function], Function]:
    """``app.task`` with type annotations, so that the tasks below keep theirs."""
    decorate: Callable[[Function], Function] = app.task(**options)
    return decorate


@task(name="retry.ask", bind=True, max_retries=5)
def ask(self: Any, case: str, x: Any = 0, y: Any = 0) -> None:
    raise self.retry(queue=PARKED, countdown=0, **RETRIES[case])


@task(name="retry.bounded", bind=True, max_retries=1)
def bounded(self: Any, limit: int | None, named: bool) -> None:
    error = KeyError(self.request.retries) if named else None
    raise self.retry(exc=error, countdown=0, max_retries=limit)


@task(name="retry.auto", bind=True, **AUTORETRY)
def auto(self: Any, error: str) -> None:
    raise ERRORS[error](self.request.retries)


@task(name="retry.auto_plain", bind=True, **AUTORETRY)
def auto_plain(self: Any, error: str) -> None:
    raise ERRORS[error](self.request.retries)


@task(name="retry.auto_asks", bind=True, **AUTORETRY)
def auto_asks(self: Any, limit: int) -> None:
    raise self.retry(exc=KeyError(self.request.retries), countdown=0, max_retries=limit)


@task(
    name="retry.auto_rejects",
    bind=True,
    autoretry_for=(Exception,),
    retry_kwargs=AUTORETRY["retry_kwargs"],
)
def auto_rejects(self: Any) -> None:
    raise Reject(f"no {self.request.retries}", requeue=False)


@task(name="retry.request", bind=True)
def request(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    return {name: getattr(self.request, name) for name in REQUEST}


@task(name="retry.replaced_by", bind=True)
def replaced_by(self: Any, work: dict[str, Any]) -> Any:
    return self.replace(self.app.signature(work))
