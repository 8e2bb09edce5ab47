"""Ways a task may end other than by returning: what its function raises to say so.

``wire_type`` is the name a stored result or an event gives the exception, so that stock clients
meet the class they know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from crucible.broker.wire.retry import UNCHANGED, RetryOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class Retry(Exception):  # noqa: N818 - named as in Celery
    """Raised to run the task again later; made by ``ctx.retry``.

    Attributes:
        countdown: seconds until the next try, unless ``eta`` says when.
        exc: what went wrong, or None.
        eta: when the next try is due, or None.
        options: what the next try has of its own.
    """

    wire_type: ClassVar = ("Retry", "celery.exceptions")

    def __init__(
        self,
        countdown: float = 0.0,
        exc: BaseException | None = None,
        *,
        eta: datetime | None = None,
        options: RetryOptions = UNCHANGED,
    ) -> None:
        super().__init__(*(() if exc is None else (repr(exc),)))
        self.countdown = countdown
        self.exc = exc
        self.eta = eta
        self.options = options

    def __str__(self) -> str:
        when = f"in {self.countdown:g}s" if self.eta is None else f"at {self.eta}"
        cause = f": {self.exc!r}" if self.exc is not None else ""
        return f"Retry {when}{cause}"


class Reject(Exception):  # noqa: N818 - named as in Celery
    """Raised to refuse the message: back to its queue, or to the dead letters.

    Attributes:
        reason: anything that says why.
        requeue: give it to another worker instead of dropping it.
    """

    wire_type: ClassVar = ("Reject", "celery.exceptions")

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue


class Ignore(Exception):  # noqa: N818 - named as in Celery
    """Raised to end the task without a result and without a final event."""

    wire_type: ClassVar = ("Ignore", "celery.exceptions")


class Replaced(Ignore):
    """Raised to let another signature take the task's place; made by ``ctx.replace``.

    Attributes:
        work: the signature.
    """

    def __init__(self, work: Mapping[str, Any]) -> None:
        super().__init__("replaced by another task")
        self.work = work


class ImproperlyConfigured(ValueError):  # noqa: N818 - named as in Celery
    """A signature that cannot take a task's place."""

    wire_type: ClassVar = ("ImproperlyConfigured", "celery.exceptions")


class SoftTimeLimitExceeded(Exception):  # noqa: N818 - named as in Celery
    """Raised inside a task when its soft time limit has passed; it may still clean up."""

    wire_type: ClassVar = ("SoftTimeLimitExceeded", "billiard.exceptions")


class TimeLimitExceeded(Exception):  # noqa: N818 - named as in Celery
    """What a task that ran into its hard time limit failed with."""

    wire_type: ClassVar = ("TimeLimitExceeded", "billiard.exceptions")


class MaxRetriesExceeded(Exception):  # noqa: N818 - named as in Celery
    """Raised by ``ctx.retry`` when no tries are left and no other exception was given."""

    wire_type: ClassVar = ("MaxRetriesExceededError", "celery.exceptions")


class NotRegistered(Exception):  # noqa: N818 - named as in Celery
    """The message names a task this worker does not have."""

    wire_type: ClassVar = ("NotRegistered", "celery.exceptions")


class Unreadable(Exception):  # noqa: N818 - named as the state it describes
    """The message is no task that could be run."""

    wire_type: ClassVar = ("InvalidTaskError", "celery.exceptions")


class EncodeError(Exception):
    """The task's result is of a kind that JSON cannot carry."""

    wire_type: ClassVar = ("EncodeError", "kombu.exceptions")


class ResultRefused(Exception):  # noqa: N818 - named as the state it describes
    """The queue server does not take what the task came to."""

    wire_type: ClassVar = ("BackendStoreError", "celery.exceptions")


class WorkerLost(Exception):  # noqa: N818 - named as in Celery
    """Every worker that claimed the message died before settling it, or the task raised an exit."""

    wire_type: ClassVar = ("WorkerLostError", "billiard.exceptions")


class Escaped(Exception):  # noqa: N818 - raised by ``isolate``; tasks never see it
    """A task raised what is no ``Exception``, such as ``SystemExit``.

    Attributes:
        error: what it raised.
        failure: what it failed with: clients raise it, and must not exit because of it.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error
        self.failure = error
        if isinstance(error, (SystemExit, KeyboardInterrupt, GeneratorExit)):
            self.failure = WorkerLost(f"Worker exited prematurely: the task raised {error!r}.")


class ChordError(Exception):
    """A chord's body cannot run: its header failed, or the body cannot be sent."""

    wire_type: ClassVar = ("ChordError", "celery.exceptions")
