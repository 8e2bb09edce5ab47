"""The answer to an accepted submission as bytes, the same that aiohttp would write."""

from __future__ import annotations

from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE


def accepted(eval_id: str, queue: str) -> bytes:
    """The 202 of a submission that is in a Celery queue."""
    # Neither an id (see ``ID_PATTERN``) nor the name of a queue has a character that JSON escapes.
    body = (
        f'{{"eval_id":"{eval_id}","task_id":"eval-{eval_id}","status":"queued","queue":"{queue}",'
        f'"queue_system":"celery","href":"/api/eval/{eval_id}"}}'
    )
    return (
        f"HTTP/1.1 202 Accepted\r\nLocation: /api/eval/{eval_id}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Date: {rfc822_formatted_time()}\r\nServer: {SERVER_SOFTWARE}\r\n\r\n{body}"
    ).encode()
