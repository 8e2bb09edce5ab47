"""The errors that cross from one room of the package into another, as one tree.

A room may refine one of them with subclasses of its own (``executor.sandbox.ProgramLost``). Those
are defined beside the code that raises them and imported by no other room, so whoever catches a
class of this tree has caught them. ``tests/unit/test_errors.py`` holds the package to it.

::

    CrucibleError
    ├── InputError                what a client sent cannot be used; names the field
    │   ├── ParameterError        a query parameter or header field, not one of the body
    │   └── ConflictError         the same id was used before with other content
    ├── NotFound                  nothing has the id that was asked for
    ├── Unauthenticated           no valid key came with a request that needs one
    ├── Forbidden                 the key lacks a scope
    ├── SettingsError             configuration that must not start; names the setting
    ├── RequirementError          something the machine lacks; carries the remedy
    ├── BrokerError               the queue server
    │   ├── BrokerUnavailable     no answer in time; what was asked may have happened
    │   │   ├── NothingStored     unavailable, and nothing happened: not sent, or refused
    │   │   │   ├── MemoryFull    the server has no memory left
    │   │   │   └── NotPermitted  the server's ACL does not let this user do it
    │   │   └── NotReplicated     it happened, and too few replicas know of it
    │   ├── QueueFull             a queue holds as many messages as it may
    │   └── QuotaExceeded         the sender has used up its rate, or has too much in flight
    ├── MessageError              bytes that are not a task message
    ├── TaskError                 a task has no result; raised to whoever waits for it
    │   ├── TaskFailed            the task raised
    │   ├── TaskRevoked           the task was cancelled or expired
    │   └── ResultTimeout         no result within the deadline
    ├── LegacyError               the legacy queue
    │   ├── LegacyUnavailable     no usable answer in time; what was asked may have happened
    │   │   └── LegacyUnreached   unavailable, and nothing happened: nothing was sent
    │   ├── LegacyRefused         it accepts no new task: draining or full
    │   ├── LegacyTaskUnknown     it has no such task: never had it, dropped it, lost it in a crash
    │   └── LegacyWrongState      the task's status does not allow what was asked
    ├── ExecutorError             platform fault: a program could not be run; never a verdict on it
    │   ├── ExecutorUnavailable   temporary: engine gone, no sandbox in time; may be retried
    │   └── ExecutorRefused       permanent: unknown language, no image; a retry cannot help
    ├── SessionError              a session, or one that is wanted
    │   ├── SessionGone           it has ended, and its state with it; says why
    │   ├── SessionQuota          its tenant has as many as it may
    │   └── SessionUnavailable    no worker takes it, or the call for it, now
    ├── HistoryError              the database of the history
    │   └── HistoryUnavailable    it does not answer, or its circuit is open
    ├── ObjectStoreError          the store of large outputs refused, or does not answer
    └── ApiError                  a client and the HTTP API
        ├── ApiUnreached          the API did not answer, however often it was asked
        └── ApiRefused            the API answered with a problem document

Foreign exceptions are translated at one place per library: ``broker.redis.translation`` for
redis-py, ``executor.engine`` for aiodocker, ``history.database`` for SQLAlchemy,
``objects.store`` for obstore, and ``legacy.client`` for the legacy queue's HTTP.
"""

from __future__ import annotations

from typing import Any, Self


class CrucibleError(Exception):
    """Base of every error Crucible raises on purpose."""


class InputError(CrucibleError):
    """What a client sent cannot be used.

    Attributes:
        field: path of the offending field, such as ``limits.memory_mb``; empty for the whole body.
        detail: one sentence for people.
        steps: keys and indices from the body down to the field; None where the path says it all.
    """

    def __init__(self, field: str, detail: str) -> None:
        # The arguments as given: pickle and Celery's result backends rebuild errors from them.
        super().__init__(field, detail)
        self.field = field
        self.detail = detail
        self.steps: tuple[str | int, ...] | None = None

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}" if self.field else self.detail


class ParameterError(InputError):
    """A query parameter or header field cannot be used."""


class ConflictError(InputError):
    """The same evaluation id was used before with other content."""


class NotFound(CrucibleError):  # noqa: N818 - the name of the HTTP status
    """Nothing has the id that was asked for: no evaluation, or no dead letter."""


class NotEnded(CrucibleError):  # noqa: N818 - a state of the evaluation, named as users see it
    """What was asked needs an evaluation that has ended."""


class ContentGone(CrucibleError):  # noqa: N818 - a state of the evaluation, named as users see it
    """What an evaluation ran is not kept, or not any more."""


class Unauthenticated(CrucibleError):  # noqa: N818 - the meaning of the HTTP status
    """No valid key came with a request that needs one.

    Attributes:
        detail: one sentence for people.
        given: something came that is no valid key.
    """

    def __init__(self, detail: str, given: bool = False) -> None:
        super().__init__(detail, given)
        self.detail = detail
        self.given = given

    def __str__(self) -> str:
        return self.detail


class Forbidden(CrucibleError):  # noqa: N818 - the name of the HTTP status
    """The key of a request lacks a scope.

    Attributes:
        scope: which.
    """

    def __init__(self, scope: str) -> None:
        super().__init__(scope)
        self.scope = scope

    def __str__(self) -> str:
        return f"the key lacks the scope {self.scope}"


class SettingsError(CrucibleError):
    """Configuration that must not start.

    Attributes:
        setting: the environment name of the setting, such as ``CRUCIBLE_PORT``.
        detail: one sentence for people; never the value of a secret.
    """

    def __init__(self, setting: str, detail: str) -> None:
        super().__init__(setting, detail)
        self.setting = setting
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.setting}: {self.detail}"


class RequirementError(CrucibleError):
    """Something the machine lacks.

    Attributes:
        message: what is missing.
        remedy: what to type or install; empty where nothing helps.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class BrokerError(CrucibleError):
    """The queue server refused or failed."""


class BrokerUnavailable(BrokerError):  # noqa: N818 - a state of the server, named as users see it
    """The queue server did not answer in time; what was asked may have happened."""


class NothingStored(BrokerUnavailable):
    """The queue server was sent nothing, or refused it: what was asked did not happen."""


class NotReplicated(BrokerUnavailable):
    """It is stored, and too few replicas have it: lost if the master fails before they do.

    Attributes:
        confirmed: replicas that have it.
        wanted: how many must have it.
        eval_id: the evaluation, as clients know it; empty for other messages.
    """

    def __init__(self, confirmed: int, wanted: int, eval_id: str = "") -> None:
        super().__init__(confirmed, wanted, eval_id)
        self.confirmed = confirmed
        self.wanted = wanted
        self.eval_id = eval_id

    def __str__(self) -> str:
        return f"{self.confirmed} of {self.wanted} replicas confirmed it in time"


class MemoryFull(NothingStored):
    """The queue server refuses to store anything more: its memory limit is reached."""


class NotPermitted(NothingStored):
    """The queue server's ACL does not let this user do it; its operator may change that."""


class QueueFull(BrokerError):  # noqa: N818 - a state of the queue, named as users see it
    """A queue holds as many messages as it may.

    Attributes:
        queue: its name.
        depth: messages waiting when the submission was refused.
    """

    def __init__(self, queue: str, depth: int) -> None:
        super().__init__(queue, depth)
        self.queue = queue
        self.depth = depth

    def __str__(self) -> str:
        return f"queue {self.queue} is full: {self.depth} messages are waiting"


class QuotaExceeded(BrokerError):  # noqa: N818 - a state of the sender, named as users see it
    """The sender has used up its rate, or has as much in flight as it may.

    Attributes:
        retry_after_s: seconds until it may try again.
        reset_s: seconds until its rate is wholly free again.
        in_flight: it has as much in flight as it may; its rate would allow more.
        policy: what it may, as the HTTP field ``RateLimit-Policy`` says it; empty where unknown.
    """

    def __init__(
        self, retry_after_s: float, reset_s: float, in_flight: bool = False, policy: str = ""
    ) -> None:
        super().__init__(retry_after_s, reset_s, in_flight, policy)
        self.retry_after_s = retry_after_s
        self.reset_s = reset_s
        self.in_flight = in_flight
        self.policy = policy

    def __str__(self) -> str:
        if self.in_flight:
            return "as many evaluations as allowed are queued or running"
        return f"the rate is used up; the next is allowed in {self.retry_after_s:.3g} s"


class MessageError(CrucibleError):
    """Bytes that are not a task message, or not one that may be run."""


class TaskError(CrucibleError):
    """A task has no result to return; raised to whoever waits for it."""


class TaskFailed(TaskError):  # noqa: N818 - the Celery state it stands for
    """The task raised.

    Attributes:
        exc_type: qualified name of the exception class on the worker's side.
        exc_message: its arguments, as far as JSON carries them.
        exc_module: module of the class.
        traceback: text of the worker's traceback, or None.
    """

    def __init__(
        self,
        exc_type: str,
        exc_message: object = (),
        exc_module: str = "",
        traceback: str | None = None,
    ) -> None:
        super().__init__(exc_type, exc_message, exc_module, traceback)
        self.exc_type = exc_type
        self.exc_message = exc_message
        self.exc_module = exc_module
        self.traceback = traceback

    def __str__(self) -> str:
        message = self.exc_message
        parts = message if isinstance(message, (list, tuple)) else (message,)
        shown = ", ".join(map(str, parts))
        return f"{self.exc_type}: {shown}" if shown else self.exc_type


class TaskRevoked(TaskError):  # noqa: N818 - the Celery state it stands for
    """The task was revoked, terminated, or expired before it ran."""


class ResultTimeout(TaskError):  # noqa: N818 - a timeout, as users search for it
    """No result came within the deadline; the task may still end later."""


class LegacyError(CrucibleError):
    """The legacy queue refused or failed."""


class LegacyUnavailable(LegacyError):  # noqa: N818 - a state of the service, as users see it
    """The legacy queue gave no usable answer in time; what was asked may have happened."""


class LegacyUnreached(LegacyUnavailable):
    """The legacy queue was sent nothing: what was asked did not happen."""


class LegacyRefused(LegacyError):  # noqa: N818 - an answer of the service
    """The legacy queue accepts no new task: it is draining or full."""


class LegacyTaskUnknown(LegacyError):  # noqa: N818 - an answer of the service
    """The legacy queue has no such task: it never had it, dropped it, or lost it in a crash."""


class LegacyWrongState(LegacyError):  # noqa: N818 - an answer of the service
    """The status of a legacy task does not allow what was asked."""


class ExecutorError(CrucibleError):
    """A platform fault: a program could not be run. Never a verdict on the program.

    Attributes:
        detail: one sentence for people.
        retries: of the evaluation that met it, those under way or waited for included. It is an
            argument since that is all of an error that a stored result keeps.
    """

    def __init__(self, detail: str = "", retries: int = 0) -> None:
        super().__init__(*((detail, retries) if retries else (detail,)))
        self.detail = detail
        self.retries = retries

    def __str__(self) -> str:
        return self.detail

    def after(self, retries: int) -> Self:
        """The same error, met by an evaluation after so many retries."""
        return type(self)(self.detail, retries)


class ExecutorUnavailable(ExecutorError):  # noqa: N818 - a state of the executor
    """Temporary: the engine is gone or no sandbox was free in time. Trying again may help."""


class ExecutorRefused(ExecutorError):  # noqa: N818 - an answer of the executor
    """Permanent: unknown language or missing image. Trying again cannot help."""


class SessionError(CrucibleError):
    """A session, or one that is wanted."""


class SessionGone(SessionError):  # noqa: N818 - a state, named as clients see it
    """A session has ended, and its state with it.

    Attributes:
        reason: why; one of ``executor.sessions.models.Reason``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return f"the session has ended ({self.reason}), and its state is lost"


class SessionQuota(SessionError):  # noqa: N818 - a state, named as clients see it
    """A tenant has as many sessions as it may.

    Attributes:
        most: how many that are.
    """

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most

    def __str__(self) -> str:
        return f"{self.most} sessions are open, and more are not allowed at once"


class SessionUnavailable(SessionError):  # noqa: N818 - a state, named as clients see it
    """No worker takes a session, or a call for one, now."""


class HistoryError(CrucibleError):
    """The database of the history refused or failed."""


class HistoryUnavailable(HistoryError):  # noqa: N818 - a state of the database, as users see it
    """The database of the history does not answer, or its circuit is open."""


class ObjectStoreError(CrucibleError):
    """The object store refused or did not answer, or its circuit is open."""


class ApiError(CrucibleError):
    """The API refused a request, or did not answer it."""


class ApiUnreached(ApiError):  # noqa: N818 - no answer is a state of the service
    """The API did not answer, however often it was asked.

    A submission may have been queued all the same: its id is known only where the caller chose it.
    """


class ApiRefused(ApiError):  # noqa: N818 - an answer of the service
    """The API answered with a problem document.

    Attributes:
        status: HTTP status.
        title: the kind of problem.
        detail: this occurrence, for people; empty where the API said nothing more.
        field: path of the field that is wrong, or None.
        errors: every field that is wrong, each with ``detail`` and ``pointer``.
        retry_after_s: seconds after which the API asks to be tried again, or None.
    """

    def __init__(
        self, status: int, problem: dict[str, Any], retry_after_s: float | None = None
    ) -> None:
        super().__init__(status, problem, retry_after_s)
        self.status = status
        self.title = str(problem.get("title") or "")
        self.detail = str(problem.get("detail") or "")
        self.field: str | None = problem.get("field")
        self.errors: list[dict[str, Any]] = problem.get("errors") or []
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        said = self.detail or self.title or f"HTTP status {self.status}"
        return f"{self.field}: {said}" if self.field else said
