"""The migration from the legacy queue to Celery.

On top what needs no I/O: ``routing`` decides where an evaluation goes, ``comparison`` judges what
two runs of one program came to, ``state`` stores the switches. ``live`` is what an api process does
while there is a legacy queue, ``operations`` what the commands of an operator do.
"""

from __future__ import annotations

from crucible.migration.routing import Decision, Mode, QueueSystem, Switches, decide, share_of

__all__ = [
    "Decision",
    "Mode",
    "QueueSystem",
    "Switches",
    "decide",
    "share_of",
]
