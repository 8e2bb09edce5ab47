"""A stock client behind a pipe: one JSON request per line in, one JSON reply per line out.

Runs inside a stock environment (``python -m stock_rig.client_program``); ``client.py`` drives it.
A reply is ``{"ok": …}`` or ``{"error": "<class>: <text>"}``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from celery import chain, chord, exceptions, group
from celery.result import AsyncResult, GroupResult

from stock_rig.values import decode

Request = dict[str, Any]

_module, _, _attribute = os.environ.get("RIG_APP", "stock_rig.rig_app:app").partition(":")
app = getattr(importlib.import_module(_module), _attribute or "app")
#: Results of canvases; a GroupResult cannot be found again by its id alone.
sent: dict[str, Any] = {}
#: Seconds of one ``AsyncResult.get``, and the ids whose result such a call missed.
TURN_S = 1.0
missed: list[str] = []


def signature(spec: Request) -> Any:
    """A stock signature from a decoded ``$signature``."""
    return app.signature(
        spec["task"],
        args=spec.get("args", ()),
        kwargs=spec.get("kwargs", {}),
        options=spec.get("options", {}),
        immutable=spec.get("immutable", False),
    )


def canvas(spec: Any) -> Any:
    """A canvas from ``{"chain": […]}``, ``{"group": […]}``, ``{"chord": {"header", "body"}}``,
    ``{"map"|"starmap"|"chunks": {…}}`` or a ``$signature``; may be nested.
    """
    if not isinstance(spec, dict) or len(spec) != 1:
        return decode(spec, signature)
    ((kind, inner),) = spec.items()
    if kind == "chain":
        return chain(*[canvas(part) for part in inner], app=app)
    if kind == "group":
        return group([canvas(part) for part in inner], app=app)
    if kind == "chord":
        return chord([canvas(part) for part in inner["header"]], canvas(inner["body"]), app=app)
    if kind in ("map", "starmap"):
        return getattr(app.tasks[inner["task"]], kind)(decode(inner["items"], signature))
    if kind == "chunks":
        return app.tasks[inner["task"]].chunks(decode(inner["items"], signature), inner["size"])
    return decode(spec, signature)


def send(request: Request) -> Request:
    """Publishes one call of the golden table; replies with the ids of all its parts."""
    call = request["call"]
    options = decode(call.get("options", {}), signature)
    if "canvas" in call:
        work = canvas(call["canvas"])
        for stamps in call.get("stamps", []):
            work.stamp(**stamps)
        result = work.apply_async(**options)
    else:
        args, kwargs = decode(call.get("args", [])), decode(call.get("kwargs", {}))
        if request.get("via", "send_task") == "send_task":
            result = app.send_task(call["task"], args, kwargs, **options)
        else:
            result = app.tasks[call["task"]].apply_async(args, kwargs, **options)
    sent[result.id] = result
    return describe(result)


def describe(result: Any) -> Request:
    """The ids of a result, its parents and its children."""
    shown: Request = {"id": result.id}
    if result.parent is not None:
        shown["parent"] = describe(result.parent)
    if isinstance(result, GroupResult):
        shown["children"] = [describe(child) for child in result.results]
    return shown


def get(request: Request) -> Any:
    """``AsyncResult.get``: the value, or the exception as an error reply.

    Stock subscribes over one connection, reads the store over another, and does not wait for the
    subscription's confirmation: a result stored and published between the two is missed. Each call
    reads the store, so this one calls again, and records the missed results.
    """
    result = sent.get(request["id"]) or AsyncResult(request["id"], app=app)
    deadline = time.monotonic() + request.get("timeout", 10)
    while True:
        left = deadline - time.monotonic()
        try:
            return result.get(timeout=min(left, TURN_S), propagate=request.get("propagate", True))
        except exceptions.TimeoutError:
            if left <= TURN_S:
                raise
            if AsyncResult(result.id, app=app).ready():
                missed.append(result.id)


def unheard(_request: Request) -> list[str]:
    """Ids whose result was stored while ``get`` waited, without it noticing."""
    return missed


def state(request: Request) -> Request:
    """What an ``AsyncResult`` shows without waiting."""
    result = AsyncResult(request["id"], app=app)
    return {
        "state": result.state,
        "info": result.info,
        "traceback": result.traceback,
        "name": result.name,
        "worker": result.worker,
        "retries": result.retries,
        "queue": result.queue,
        "date_done": result.date_done,
        "children": [describe(child) for child in result.children or []],
    }


def inspect(request: Request) -> Any:
    """``app.control.inspect(…).<method>(*args)``: node name -> reply, or None."""
    inspector = app.control.inspect(
        destination=request.get("destination"), timeout=request.get("timeout", 1.0)
    )
    return getattr(inspector, request["method"])(*request.get("args", []))


def control(request: Request) -> Any:
    """``app.control.<method>(*args, **kwargs)``, such as ``revoke`` or ``broadcast``."""
    method = getattr(app.control, request["method"])
    return method(*request.get("args", []), **request.get("kwargs", {}))


def run(request: Request) -> Any:
    """Runs a snippet of the test; the value of its ``answer`` is the reply."""
    names: Request = {"app": app, "sent": sent, "given": request.get("given")}
    exec(request["code"], names)
    return names.get("answer")


def versions(_request: Request) -> Request:
    """The installed versions."""
    import celery
    import kombu
    import redis

    return {
        "celery": celery.__version__,
        "kombu": kombu.__version__,
        "redis-py": redis.__version__,
        "python": sys.version.split()[0],
    }


VERBS: dict[str, Callable[[Request], Any]] = {
    verb.__name__: verb for verb in (send, get, unheard, state, inspect, control, run, versions)
}


def answer(line: str) -> Request:
    """The reply to one request line."""
    request = json.loads(line)
    try:
        return {"ok": VERBS[request["do"]](request)}
    except Exception as error:  # noqa: BLE001 - every failure is a reply; the driver raises it
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    # Output of a library must not be mistaken for a reply.
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(answer(line), default=repr) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
