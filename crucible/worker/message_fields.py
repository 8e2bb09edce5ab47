"""The properties of a task's message, as stock's ``task.request`` has them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crucible.broker.wire.decode import Message

T = TypeVar("T")


class TaskRequest(Protocol):
    """What a message says about its task, beside what every task needs."""

    @property
    def delivery_info(self) -> Mapping[str, Any]:
        """Exchange, routing_key, priority, redelivered."""

    @property
    def properties(self) -> Mapping[str, Any]:
        """The message's properties as they were written."""

    @property
    def correlation_id(self) -> str | None:
        """The task's id, unless its producer wrote another."""

    @property
    def reply_to(self) -> str | None:
        """Where a producer with an ``rpc`` backend waits for results."""

    @property
    def origin(self) -> str | None:
        """The process that sent it, such as ``gen1234@host``."""

    @property
    def eta(self) -> str | None:
        """When it was due, in ISO 8601."""

    @property
    def expires(self) -> str | None:
        """When it expires, in ISO 8601."""

    @property
    def timelimit(self) -> Sequence[float | None]:
        """Hard and soft limit in seconds as the message has them."""

    @property
    def group_index(self) -> int | None:
        """Its place in its group or chord."""

    @property
    def shadow(self) -> str | None:
        """The name that events and logs show in the place of its own."""

    @property
    def ignore_result(self) -> bool | None:
        """Whether its result is not stored; None leaves that to the task."""

    @property
    def replaced_task_nesting(self) -> int:
        """How many tasks it has replaced, one after the other."""

    @property
    def stamped_headers(self) -> Sequence[str] | None:
        """The names of its stamps."""

    @property
    def stamps(self) -> Mapping[str, Any] | None:
        """Its stamps."""

    @property
    def callbacks(self) -> Sequence[Any] | None:
        """Signatures to start with its result."""

    @property
    def errbacks(self) -> Sequence[Any] | None:
        """Signatures to notify when it fails."""

    @property
    def chain(self) -> Sequence[Any] | None:
        """The rest of its chain, last step first."""

    @property
    def chord(self) -> Any:
        """The body of the chord it is part of."""


class _Of(Generic[T]):
    """An attribute of a context that is read from its message."""

    def __init__(self, read: Callable[[Message], T]) -> None:
        self._read = read

    def __get__(self, context: MessageFields, owner: type | None = None) -> T:
        return self._read(context._message)  # noqa: SLF001 - its descriptor


def _header(name: str) -> _Of[Any]:
    return _Of(lambda message: message.headers.get(name))


def _embedded(name: str) -> _Of[Any]:
    return _Of(lambda message: message.embed[name])


def _delivery_info(message: Message) -> Mapping[str, Any]:
    return {
        "exchange": message.exchange,
        "routing_key": message.queue,
        "priority": message.priority,
        "redelivered": message.redelivered,
    }


def _moment(message: Message, name: str, epoch_s: float | None) -> str | None:
    if epoch_s is None:
        return None
    # A task of protocol 1 has none of these headers.
    shown: str | None = message.headers.get(name)
    return shown or datetime.fromtimestamp(epoch_s, UTC).isoformat()


class MessageFields:
    """``TaskRequest`` of a message that this worker decoded."""

    __slots__ = ("_message",)

    _message: Message

    delivery_info = _Of(_delivery_info)
    properties: _Of[Mapping[str, Any]] = _Of(lambda message: message.properties)
    correlation_id: _Of[str | None] = _Of(lambda message: message.properties.get("correlation_id"))
    reply_to: _Of[str | None] = _Of(lambda message: message.properties.get("reply_to"))
    eta = _Of(lambda message: _moment(message, "eta", message.eta))
    expires = _Of(lambda message: _moment(message, "expires", message.expires))
    timelimit: _Of[Sequence[float | None]] = _Of(lambda message: list(message.timelimit))
    replaced_task_nesting: _Of[int] = _Of(
        lambda message: message.headers.get("replaced_task_nesting") or 0
    )
    origin = _header("origin")
    group_index = _header("group_index")
    shadow = _header("shadow")
    ignore_result = _header("ignore_result")
    stamped_headers = _header("stamped_headers")
    stamps = _header("stamps")
    callbacks = _embedded("callbacks")
    errbacks = _embedded("errbacks")
    chain = _embedded("chain")
    chord = _embedded("chord")
