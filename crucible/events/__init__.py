"""The event bus: every transition of every evaluation, as a bounded stream on a Redis of its own.

Processes hand events to an ``EventWriter``, which writes them in batches beside the work they are
about. ``EventReader`` reads the stream page by page and notices what was trimmed. ``EventHub``
follows it once for all clients of an api process. ``docs/events.md`` describes the format.
"""
