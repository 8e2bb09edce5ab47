"""Signatures: tasks to be run later, alone or in chains, groups and chords, as plain data.

A signature is the dictionary that stands on the wire, with Celery's six members in Celery's
order (celery ``canvas.py`` ``Signature``), so it can be put into any option as it is::

    work = chain(signature("a.add", [1, 2]), signature("a.double"))
    result = await publisher.send_canvas(work)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

#: Options a later call must not replace (celery ``Signature._IMMUTABLE_OPTIONS``).
_KEPT_OPTIONS = frozenset({"group_id", "stamped_headers"})

Wire = Mapping[str, Any]


class Signature(dict[str, Any]):
    """One signature. Make one with ``signature``, ``chain``, ``group`` or ``chord``."""

    @property
    def kind(self) -> str | None:
        """``chain``, ``group``, ``chord``; None or another word for a single task."""
        return self.get("subtask_type")

    @property
    def options(self) -> dict[str, Any]:
        """Execution options, such as ``queue`` or ``task_id``."""
        options: dict[str, Any] = self["options"]
        return options

    @property
    def parts(self) -> list[Signature]:
        """The members of a chain or group, or of a chord's header."""
        members = self["kwargs"]["header"] if self.kind == "chord" else self["kwargs"]["tasks"]
        if isinstance(members, Signature):
            return members.parts
        return list(members)

    @property
    def body(self) -> Signature:
        """The body of a chord."""
        body: Signature = self["kwargs"]["body"]
        return body

    def set(self, **options: Any) -> Signature:
        """Set execution options; returns itself."""
        self.options.update(options)
        return self

    def link(self, callback: Wire) -> Signature:
        """Send ``callback`` with the result once this succeeds; a chord's body does. Chainable."""
        if self.kind == "chord":
            self.body.link(callback)
        elif self.kind == "group":
            # Only the first member, and not with its result: it is not that of the group.
            self.parts[0].link(Signature(as_signature(callback), immutable=True))
        else:
            add_to_list(self.options, "link", as_signature(callback))
        return self

    def link_error(self, errback: Wire) -> Signature:
        """Send ``errback`` with the id once this fails. Chainable."""
        if self.kind == "group":
            for part in self.parts:
                part.link_error(clone(as_signature(errback)))
        elif self.kind == "chord":
            for part in self.parts:
                if part.kind == "chord":
                    part.link_error(errback)
            self.body.link_error(errback)
        else:
            add_to_list(self.options, "link_error", as_signature(errback))
        return self

    def stamp(self, **stamps: Any) -> Signature:
        """Mark every task in this, and its callbacks, with headers of one's own. Chainable."""
        for name in ("link", "link_error"):
            for linked in _list_of(self.options.get(name)):
                as_signature(linked).stamp(**stamps)
        if self.kind in ("chain", "group", "chord"):
            for part in self.parts:
                part.stamp(**stamps)
        else:
            names = dict.fromkeys([*stamps, *self.options.get("stamped_headers", ())])
            self.set(**stamps, stamped_headers=list(names))
        return self


def _make(
    task: str, args: Sequence[Any], kwargs: dict[str, Any], options: dict[str, Any],
    kind: str | None = None, *, immutable: bool = False,
) -> Signature:  # fmt: skip
    return Signature(
        task=task,
        args=tuple(args),
        kwargs=kwargs,
        options=options,
        subtask_type=kind,
        immutable=immutable,
    )


def signature(
    task: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    immutable: bool = False,
    **options: Any,
) -> Signature:
    """One task. ``immutable`` takes no arguments from the task before it."""
    return _make(task, args, dict(kwargs or {}), options, immutable=immutable)


def chain(*parts: Wire | Iterable[Wire], **options: Any) -> Signature:
    """Tasks one after the other, each with the result of the one before.

    Args:
        parts: the tasks, or one list of them.
        options: execution options.
    """
    return _make("celery.chain", (), {"tasks": _signatures(_flat(parts))}, options, "chain")


def group(*parts: Wire | Iterable[Wire], **options: Any) -> Signature:
    """Tasks beside one another.

    Args:
        parts: the tasks, or one list of them.
        options: execution options.
    """
    return _make("celery.group", (), {"tasks": _signatures(_flat(parts))}, options, "group")


def chord(header: Iterable[Wire] | Signature, body: Wire, **options: Any) -> Signature:
    """Tasks beside one another, and one more with the list of their results."""
    if isinstance(header, Signature):
        members = header.parts if header.kind in ("group", "chain") else [header]
    else:
        members = _signatures(header)
    kwargs = {"kwargs": {}, "header": members, "body": as_signature(body)}
    return _make("celery.chord", (), kwargs, options, "chord")


def _flat(parts: Sequence[Wire | Iterable[Wire]]) -> Iterable[Wire]:
    """The parts of a canvas, whether they were given one by one or as one list."""
    given: Any = parts
    if len(parts) == 1 and not isinstance(parts[0], Mapping):
        given = parts[0]
    flat: Iterable[Wire] = given
    return flat


def _signatures(parts: Iterable[Wire]) -> list[Signature]:
    return [as_signature(part) for part in parts]


def as_signature(wire: Wire) -> Signature:
    """A signature as it came out of a message, with its members made signatures too.

    Raises:
        ValueError: it is not a signature.
    """
    if isinstance(wire, Signature):
        return wire
    given: Any = wire
    if not isinstance(given, Mapping) or not isinstance(given.get("task"), str):
        raise ValueError("a signature is an object with a task")
    made = _make(
        wire["task"],
        wire.get("args") or (),
        dict(wire.get("kwargs") or {}),
        dict(wire.get("options") or {}),
        wire.get("subtask_type"),
        immutable=bool(wire.get("immutable")),
    )
    made["args"] = wire.get("args") or ()
    kwargs = made["kwargs"]
    try:
        if made.kind in ("chain", "group"):
            kwargs["tasks"] = _signatures(kwargs["tasks"])
        elif made.kind == "chord":
            header = kwargs["header"]
            single = isinstance(header, Mapping)
            kwargs["header"] = as_signature(header) if single else _signatures(header)
            kwargs["body"] = as_signature(kwargs["body"])
            kwargs.setdefault("kwargs", {})
    except (KeyError, TypeError) as error:
        raise ValueError(f"a {made.kind} without its parts") from error
    return made


def clone(
    sig: Signature, args: Sequence[Any] = (), kwargs: Wire | None = None, **options: Any
) -> Signature:
    """A copy whose options and members can be changed, with arguments and options merged in."""
    args, kwargs, options = merged(sig, args, kwargs or {}, options)
    copied = _make(
        sig["task"], args, dict(kwargs), _copied_options(options), sig.kind,
        immutable=sig["immutable"],
    )  # fmt: skip
    members = copied["kwargs"]
    if copied.kind in ("chain", "group"):
        members["tasks"] = [clone(part) for part in members["tasks"]]
    elif copied.kind == "chord":
        header = members["header"]
        members["header"] = (
            clone(header) if isinstance(header, Signature) else [clone(part) for part in header]
        )
        members["body"] = clone(members["body"])
    return copied


def _copied_options(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _copied(value) for name, value in options.items()}


def _copied(value: Any) -> Any:
    if isinstance(value, Signature):
        return clone(value)
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return deepcopy(value)


def merged(
    sig: Signature, args: Sequence[Any], kwargs: Wire, options: Wire
) -> tuple[Sequence[Any], Wire, dict[str, Any]]:
    """Arguments in front of a signature's own, options over its own, where it lets them."""
    kept = _KEPT_OPTIONS.union(sig.options.get("stamped_headers") or ())
    both = {
        **sig.options,
        **{name: value for name, value in options.items()
           if name not in kept or name not in sig.options},
    }  # fmt: skip
    if sig["immutable"]:
        return sig["args"], sig["kwargs"], both
    # Nothing to put in front leaves what came out of a message a list, which its repr shows.
    own_args = (*args, *sig["args"]) if args else sig["args"]
    return own_args, {**sig["kwargs"], **kwargs}, both


def add_to_list(options: dict[str, Any], name: str, value: Any) -> None:
    """Append to an option that is a list, or one value, or absent; once only."""
    items = options[name] = _list_of(options.get(name))
    if value not in items:
        items.append(value)


def _list_of(value: Any) -> list[Any]:
    if value is None:
        return []
    return (
        value if isinstance(value, list) else list(value) if isinstance(value, tuple) else [value]
    )
