"""Every kind of queue server that is supported, with options of a test's own."""

from __future__ import annotations

from pathlib import Path

from crucible.embedded.server import EmbeddedServer, find_binary

_SERVERS = Path(__file__).resolve().parents[2] / ".cache" / "servers"
#: Binaries by kind; ``scripts/servers`` fetches those that are not embedded.
KINDS = {
    "embedded": find_binary(),
    **{name: _SERVERS / name / "redis-server" for name in ("redis-6.2", "redis-7.0", "redis-7.4")},
}


class KindOfServer(EmbeddedServer):
    """A server of one kind, in memory.

    Args:
        directory: its data.
        kind: a name of ``KINDS``.
        options: further arguments of the server.
        port: where it listens; 0 is any free port.
    """

    def __init__(
        self, directory: Path, kind: str = "embedded", *options: str, port: int = 0
    ) -> None:
        binary = KINDS[kind]
        assert binary.exists(), f"{binary} is missing: run scripts/servers"
        super().__init__(directory, port, binary=binary, durable=False)
        self._options = options

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), *self._options]
