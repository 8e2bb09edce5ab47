"""Exit code 0 when the Docker engine of the settings answers a ping. Standard library only."""

from __future__ import annotations

import http.client
import os
import socket
import sys
from urllib.parse import urlsplit

DEADLINE_S = 5.0


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE_S)
        connection.connect(parts.path)
        return connection
    return socket.create_connection((parts.hostname or "", parts.port or 2375), DEADLINE_S)


def answers(url: str) -> bool:
    try:
        client = http.client.HTTPConnection("localhost")
        client.sock = connect(url)
        client.request("GET", "/_ping")
        return client.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(not answers(os.environ.get("CRUCIBLE_DOCKER_URL") or "unix:///var/run/docker.sock"))
