"""Which queue system an evaluation goes to: a pure function of switches, id and circuit.

Modes, in the order of a migration:

==================  ========================================================================
``legacy_only``     everything to the legacy queue (Celery off, at 0 %, or legacy forced)
``dual_write``      legacy answers; the same evaluation also goes to Celery, to be compared
``split``           a share of the ids to Celery, the rest to legacy
``celery_primary``  everything to Celery; to legacy where Celery does not take it
``celery_only``     everything to Celery; there is no legacy queue
==================  ========================================================================
"""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass

from crucible.settings import check_switches


class Mode(enum.StrEnum):
    """Where the migration stands."""

    LEGACY_ONLY = "legacy_only"
    DUAL_WRITE = "dual_write"
    SPLIT = "split"
    CELERY_PRIMARY = "celery_primary"
    CELERY_ONLY = "celery_only"


class QueueSystem(enum.StrEnum):
    """A queue system; the value is ``queue_system`` of an evaluation."""

    CELERY = "celery"
    LEGACY = "legacy"


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What an operator sets; contradictory combinations are refused.

    Attributes:
        celery_enabled: evaluations may go to Celery.
        celery_percentage: share of the ids that do, 0.0 to 1.0.
        force_legacy_queue: everything to the legacy queue, whatever the others say.
        dual_write: everything to the legacy queue, and a copy to Celery.
        queue_service_url: the legacy queue service; empty means there is none.

    Raises:
        SettingsError: out of range, contradictory, or without the legacy queue they need.
    """

    celery_enabled: bool = True
    celery_percentage: float = 1.0
    force_legacy_queue: bool = False
    dual_write: bool = False
    queue_service_url: str = ""

    def __post_init__(self) -> None:
        check_switches(
            celery_enabled=self.celery_enabled,
            celery_percentage=self.celery_percentage,
            force_legacy_queue=self.force_legacy_queue,
            dual_write=self.dual_write,
            queue_service_url=self.queue_service_url,
        )

    @property
    def mode(self) -> Mode:
        """Where these switches put the migration."""
        if self.force_legacy_queue or not self.celery_enabled:
            return Mode.LEGACY_ONLY
        if self.dual_write:
            return Mode.DUAL_WRITE
        if self.celery_percentage == 0.0:
            return Mode.LEGACY_ONLY
        if self.celery_percentage < 1.0:
            return Mode.SPLIT
        return Mode.CELERY_PRIMARY if self.queue_service_url else Mode.CELERY_ONLY


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where one evaluation goes.

    Attributes:
        mode: the mode it was decided in.
        primary: the queue system whose acceptance the client waits for, and whose result it gets.
        shadow: the queue system that gets a copy; its success or failure never reaches the client.
        failover: the queue system to try when ``primary`` does not take the evaluation.
    """

    mode: Mode
    primary: QueueSystem
    shadow: QueueSystem | None = None
    failover: QueueSystem | None = None


def decide(
    switches: Switches, eval_id: str, *, celery_open: bool = False, graded: bool = False
) -> Decision:
    """Where the evaluation ``eval_id`` goes.

    The same id under the same switches always goes the same way. Raising the percentage moves ids
    only from legacy to Celery, lowering it only back.

    Args:
        switches: what the operator set.
        eval_id: the evaluation's id.
        celery_open: the circuit to Celery is open; it is neither waited for nor sent copies.
        graded: it has tests, which the legacy queue cannot grade: it goes to Celery wherever that
            answers clients, and is refused elsewhere.
    """
    mode = switches.mode
    if graded and mode in (Mode.SPLIT, Mode.CELERY_PRIMARY):
        return Decision(mode=mode, primary=QueueSystem.CELERY)
    match mode:
        case Mode.LEGACY_ONLY:
            return Decision(mode=mode, primary=QueueSystem.LEGACY)
        case Mode.DUAL_WRITE:
            shadow = None if celery_open else QueueSystem.CELERY
            return Decision(mode=mode, primary=QueueSystem.LEGACY, shadow=shadow)
        case Mode.SPLIT:
            chosen = share_of(eval_id) < switches.celery_percentage
            return Decision(mode=mode, primary=QueueSystem.CELERY if chosen else QueueSystem.LEGACY)
        case Mode.CELERY_PRIMARY if celery_open:
            return Decision(mode=mode, primary=QueueSystem.LEGACY)
        case Mode.CELERY_PRIMARY:
            return Decision(mode=mode, primary=QueueSystem.CELERY, failover=QueueSystem.LEGACY)
        case Mode.CELERY_ONLY:
            return Decision(mode=mode, primary=QueueSystem.CELERY)


def share_of(eval_id: str) -> float:
    """The position of an id in [0, 1): evenly spread, the same in every process and for ever.

    A digest and not ``hash``, which differs between processes; never change it, or running
    migrations would see ids change queue systems.
    """
    digest = hashlib.blake2b(eval_id.encode(), digest_size=8, person=b"crucible-split").digest()
    # 53 bits are what a float holds exactly; more could round up to 1.0.
    return (int.from_bytes(digest, "big") >> 11) / 2**53
