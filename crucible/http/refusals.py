"""What a client is told whose connection has to end, as the bytes of an answer."""

from __future__ import annotations

from crucible.http.answers import rendered
from crucible.http.guard import Fault
from crucible.http.problems import problem

#: Seconds after which a client that was refused for load is asked to come back.
RETRY_AFTER_S = 2

_TOO_SLOW = {
    Fault.HEAD_TIMEOUT: "the head of the request did not arrive in time (CRUCIBLE_HEAD_TIMEOUT_S)",
    Fault.BODY_TIMEOUT: "the body arrived too slowly (CRUCIBLE_TRANSFER_GRACE_S and _RATE_KB)",
}
_TOO_MANY = {
    Fault.CONNECTIONS: "too many connections are open (CRUCIBLE_MAX_CONNECTIONS)",
    Fault.CONNECTIONS_OF_ADDRESS: (
        "too many connections are open from this address (CRUCIBLE_MAX_CONNECTIONS_PER_ADDRESS)"
    ),
    Fault.UNFINISHED_BODIES: "too many bodies are unfinished (CRUCIBLE_MAX_UNFINISHED_MB)",
}


def refusal(fault: Fault) -> bytes:
    """The answer to a client whose connection ends for ``fault``; the last on its connection."""
    if fault in _TOO_SLOW:
        answer = problem(408, "Request Timeout", _TOO_SLOW[fault], headers={"Connection": "close"})
    else:
        headers = {"Connection": "close", "Retry-After": str(RETRY_AFTER_S)}
        detail = _TOO_MANY.get(fault, "the service is overloaded")
        answer = problem(503, "Service Unavailable", detail, headers=headers)
    return rendered(answer)
