"""The in-memory queue service that Crucible replaces, and its worker."""
