"""A Redis or Valkey server as a child process."""

from crucible.embedded.server import EmbeddedServer, find_binary

__all__ = ["EmbeddedServer", "find_binary"]
