"""Commands on their way to a server, and those that a full server would refuse refused."""

from __future__ import annotations

from typing import Any

import hiredis

#: What a server without memory does not run; scripts of ours all write.
_WRITING = frozenset(
    b"APPEND EVAL EVALSHA HINCRBY HSET INCR LPUSH MSET RPUSH SADD SET SETEX XADD ZADD".split()
)
#: Answered by the server itself, so that answers stay in the order of the commands.
_OOM = "OOM command not allowed when used memory > 'maxmemory'."
_EVAL: tuple[Any, ...] = ("EVAL", f'return redis.error_reply("{_OOM}")', 0)
_REFUSAL: bytes = hiredis.pack_command(_EVAL)


class Commands:
    """The commands of one connection."""

    def __init__(self) -> None:
        self._rest = b""

    def passed(self, data: bytes, *, refused: bool) -> bytes:
        """What of ``data``, and of what came before, may be sent on: whole commands.

        Args:
            data: bytes from the client.
            refused: whether commands that write are replaced by a refusal.
        """
        self._rest += data
        out = []
        while (end := _end_of_command(self._rest)) is not None:
            command, self._rest = self._rest[:end], self._rest[end:]
            out.append(_REFUSAL if refused and _name(command) in _WRITING else command)
        return b"".join(out)


def _end_of_command(data: bytes) -> int | None:
    """Where the first command ends; None while it is not all there."""
    line = data.find(b"\r\n")
    if line < 0:
        return None
    if data[:1] != b"*":
        return line + 2
    at = line + 2
    for _ in range(int(data[1:line])):
        line = data.find(b"\r\n", at)
        if line < 0:
            return None
        at = line + 2 + int(data[at + 1 : line]) + 2
    return at if at <= len(data) else None


def _name(command: bytes) -> bytes:
    """The command's name in capitals."""
    parts = command.split(b"\r\n", 3)
    return parts[2].upper() if len(parts) > 2 else b""
