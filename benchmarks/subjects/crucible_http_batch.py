"""``crucible api``, one process: batches of ten thousand over one connection, one at a time."""

from __future__ import annotations

import http.client
import json
import os
import time
from typing import Any

import crucible_api

ITEMS = 10_000
BODY = b"\n".join([b'{"code":"print(6 * 7)","language":"python"}'] * ITEMS)
HEADERS = {"Content-Type": "application/x-ndjson"}
_connection: http.client.HTTPConnection


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Start the api on the processor of the subject; this client leaves it."""
    global _connection
    facts: dict[str, Any] = crucible_api.setup(job)
    others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
    if others:
        os.sched_setaffinity(0, others)
    _connection = http.client.HTTPConnection("127.0.0.1", facts["port"], timeout=60)
    _send()
    return facts


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Send for some seconds; each batch is answered before the next is sent."""
    started, sent = time.perf_counter(), 0
    while time.perf_counter() - started < job["seconds"]:
        sent += _send()
    return {"sent": sent, "elapsed_s": time.perf_counter() - started}


def _send() -> int:
    """Send a batch; how many items it had. Raises RuntimeError unless all were accepted."""
    _connection.request("POST", "/api/eval/batch", BODY, HEADERS)
    response = _connection.getresponse()
    body = response.read()
    # The counts are at the end; parsing ten thousand outcomes would be most of the measurement.
    counts = json.loads(b"{" + body[body.rindex(b'"request_counts"') :])["request_counts"]
    if response.status != 202 or counts["accepted"] != ITEMS:
        raise RuntimeError(f"{response.status}: {counts}")
    return ITEMS


def teardown(job: dict[str, Any]) -> None:
    """Hang up, and stop the api."""
    _connection.close()
    crucible_api.teardown(job)
