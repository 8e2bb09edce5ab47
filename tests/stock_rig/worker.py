"""A real ``celery worker`` of any version of the rig."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, Self

from stock_rig.child import Child
from stock_rig.environments import process_environment, python_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Importing Celery on a loaded machine takes seconds; mingle takes one more.
READY_DEADLINE_S = 60.0
_LOUD = re.compile(r": (WARNING|ERROR|CRITICAL)/|^Traceback |Warning: ")
#: Warnings of a healthy worker, each with its reason.
ALLOWED = (
    # Tests run as root in a container.
    re.compile(r"superuser privileges|SecurityWarning"),
)
_numbers = itertools.count(1)


def loud_lines(lines: Sequence[str], allowed: Sequence[re.Pattern[str]] = ALLOWED) -> list[str]:
    """The warnings and errors in a worker's log that are not in ``allowed``."""
    return [
        line
        for line in lines
        if _LOUD.search(line) and not any(pattern.search(line) for pattern in allowed)
    ]


class StockWorker(Child):
    """``celery -A <app> worker`` as an async context manager, ready once entered.

    Attributes:
        version: the Celery version it runs, or ``PROJECT``.
        node: its node name.
    """

    def __init__(
        self,
        version: str,
        broker_url: str,
        *,
        queues: Sequence[str] = ("celery",),
        pool: str = "solo",
        concurrency: int = 1,
        loglevel: str = "INFO",
        events: bool = False,
        sociable: bool = False,
        node: str | None = None,
        app: str = "stock_rig.rig_app",
        backend_url: str | None = None,
        config: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Describe the worker; entering starts it.

        Args:
            version: a version of ``environments.VERSIONS``, or ``PROJECT``.
            broker_url: the queue server.
            queues: served queues (``-Q``).
            pool: ``solo``, ``threads`` or ``prefork``.
            concurrency: tasks at once (``-c``).
            loglevel: level of its log, kept in ``lines``.
            events: send task events from the start (``-E``).
            sociable: take part in mingle and gossip as stock workers do by default; mingle takes
                a second.
            node: node name ``name@host``; unique by default.
            app: Celery application to serve (``-A``).
            backend_url: result backend of the rig's application; the broker's when None.
            config: further Celery settings for the rig's application.
            environment: further environment variables.
            arguments: further arguments of ``celery worker``.
        """
        self.version = version
        self.node = node or f"stock{next(_numbers)}@rig"
        alone = [] if sociable else ["--without-mingle", "--without-gossip"]
        command = [
            *(str(python_of(version)), "-m", "celery", "-A", app, "worker"),
            *("-P", pool, "-c", str(concurrency), "-Q", ",".join(queues)),
            *("-n", self.node, "-l", loglevel, *alone, *(["-E"] if events else []), *arguments),
        ]
        super().__init__(
            command,
            process_environment(
                broker_url, backend_url=backend_url, config=config, extra=environment
            ),
        )

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await self.wait_for_log(rf"{re.escape(self.node)} ready\.", READY_DEADLINE_S)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    def assert_quiet(self, *allowed: str) -> None:
        """Assert that the log holds no warning, error or traceback.

        Args:
            allowed: further patterns of lines that this test expects.
        """
        loud = loud_lines(self.lines, (*ALLOWED, *map(re.compile, allowed)))
        assert not loud, f"{self.version} worker is not quiet: {loud}\n{self.log}"
