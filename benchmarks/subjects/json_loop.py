"""A loop of what every message costs at least: JSON out, through a socket, JSON in again.

Standard library only: the probe that budgets of processor time are multiples of.
"""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

#: As large as the message of a small evaluation.
_MESSAGE = {"body": "x" * 160, "headers": {f"h{n}": "y" * 12 for n in range(20)}, "n": 0}
_ours: socket.socket
_theirs: socket.socket


def setup(job: dict[str, Any]) -> dict[str, Any]:
    """Connect the process to itself."""
    global _ours, _theirs
    _ours, _theirs = socket.socketpair()
    return {"pid": os.getpid()}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Go round so many times; processor seconds of all."""
    began = time.process_time()
    for number in range(job["count"]):
        _MESSAGE["n"] = number
        _ours.sendall(json.dumps(_MESSAGE).encode())
        if json.loads(_theirs.recv(65536))["n"] != number:
            raise RuntimeError("another message came back")
    return {"count": job["count"], "cpu_s": time.process_time() - began}


def teardown(job: dict[str, Any]) -> None:
    """Hang up."""
    _ours.close()
    _theirs.close()
