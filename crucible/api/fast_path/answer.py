"""The answer to an accepted submission as bytes, the same that aiohttp would write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

from crucible.http.answers import SECURITY_FIELDS

if TYPE_CHECKING:
    from crucible.identity.rates import RateStatus

_SECURITY = "".join(f"{name}: {value}\r\n" for name, value in SECURITY_FIELDS.items())


def accepted(eval_id: str, queue: str, rate: RateStatus | None = None) -> bytes:
    """The 202 of a submission that is in a Celery queue.

    Args:
        eval_id: its id.
        queue: the queue it is in.
        rate: what is left to the client's key, where it has a rate.
    """
    # Neither an id (see ``ID_PATTERN``) nor the name of a queue has a character that JSON escapes.
    body = (
        f'{{"eval_id":"{eval_id}","task_id":"eval-{eval_id}","status":"queued","queue":"{queue}",'
        f'"queue_system":"celery","href":"/api/eval/{eval_id}"}}'
    )
    fields = "" if rate is None else rate.text
    return (
        f"HTTP/1.1 202 Accepted\r\nLocation: /api/eval/{eval_id}\r\n{fields}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n"
        f"{_SECURITY}\r\n{body}"
    ).encode()
