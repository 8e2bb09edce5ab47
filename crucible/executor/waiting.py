"""Those who wait for a sandbox: each shape a queue of its own, in which tenants take turns."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from crucible.errors import ExecutorUnavailable
from crucible.executor.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from crucible.executor.sandbox import Sandbox, Shape

S = TypeVar("S", bound="Sandbox")
W = TypeVar("W", bound="Waiter[Any]")


class PoolFull(ExecutorUnavailable):
    """More programs wait for a sandbox than may."""


class PoolTimeout(ExecutorUnavailable):
    """No sandbox became free within the time a program may wait for one."""


class PoolClosed(ExecutorUnavailable):
    """The pool is shutting down."""


class Waiter(Generic[S]):
    """A program of a tenant waiting for a sandbox of a shape.

    Attributes:
        future: gets the sandbox, or the reason why there is none.
        served: a container of its unusual shape is being made for it.
    """

    def __init__(self, shape: Shape, tenant: str) -> None:
        self.shape = shape
        self.tenant = tenant
        self.future: asyncio.Future[S] = asyncio.get_running_loop().create_future()
        self.served = False


class Line(Generic[W]):
    """Waiters in order of arrival."""

    def __init__(self) -> None:
        self._waiters: list[W] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def join(self, waiter: W) -> W:
        """Have a program wait from now on."""
        self._waiters.append(waiter)
        return waiter

    def leave(self, waiter: Waiter[S]) -> S | None:
        """Give up; a sandbox that was handed over already comes back."""
        self._waiters = [other for other in self._waiters if other is not waiter]
        future = waiter.future
        if future.done() and not future.cancelled() and future.exception() is None:
            return future.result()
        return None

    def fail(self, error: Exception, concerned: Callable[[W], bool]) -> None:
        """End the wait of those concerned with an error."""
        for waiter in [waiter for waiter in self._waiters if concerned(waiter)]:
            self._waiters.remove(waiter)
            if not waiter.future.done():
                waiter.future.set_exception(error)


class WaitingLine(Line["Waiter[Sandbox]"]):
    """Waiting programs; among those of one shape, tenants in turn, each in order of arrival."""

    def __init__(self, default: Shape) -> None:
        super().__init__()
        self._default = default
        self._turns = Turns()

    @property
    def unusual(self) -> int:
        """Those that no usual sandbox can serve."""
        return sum(1 for waiter in self._waiters if waiter.shape != self._default)

    @property
    def unserved(self) -> list[Waiter[Sandbox]]:
        """Waiters for unusual shapes without a container under way."""
        return [w for w in self._waiters if w.shape != self._default and not w.served]

    def has(self, shape: Shape) -> bool:
        """Whether there is a waiter for a sandbox of ``shape``."""
        return any(waiter.shape == shape for waiter in self._waiters)

    def serve(self, sandbox: Sandbox) -> bool:
        """Hand a sandbox to the next waiter for its shape; False without one."""
        firsts: dict[str, Waiter[Sandbox]] = {}
        for waiter in self._waiters:
            if waiter.shape == sandbox.shape and not waiter.future.done():
                firsts.setdefault(waiter.tenant, waiter)
        if not firsts:
            return False
        tenant = self._turns.next_tenant(firsts, {})
        self._turns.serve(tenant)
        self._turns.forget({waiter.tenant for waiter in self._waiters})
        self._waiters.remove(firsts[tenant])
        firsts[tenant].future.set_result(sandbox)
        return True

    def disappoint(self, error: Exception, shape: Shape | None = None, *, final: bool) -> None:
        """A sandbox of ``shape`` (None: of any) could not be made: another try, or an error."""
        for waiter in self._waiters:
            if shape in (None, waiter.shape):
                waiter.served = False
        if final:
            self.fail(error, lambda waiter: shape in (None, waiter.shape))
