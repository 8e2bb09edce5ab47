"""``support.canvas_tasks`` in a worker that kills itself at one point of a settlement.

``CANVAS_DIES_AT`` names the point:

- ``counted``: the last part of a chord is counted, and the right to send its body taken;
- ``planned``: the settlement effects are computed, and none of them written;
- ``settled``: all of them are written, and the worker has no reply yet.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from crucible.broker.canvas.chord_parts import ChordParts
from crucible.broker.claiming.effects_writer import EffectsWriter
from support.canvas_tasks import registry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crucible.broker.canvas.chord_parts import CompleteChord, Part
    from crucible.broker.claiming.settlement import Settlement

__all__ = ["registry"]

_AT = os.environ["CANVAS_DIES_AT"]
_count, _settle = ChordParts.count, EffectsWriter.settle


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def _counted(self: ChordParts, part: Part, token: str, claim: str) -> CompleteChord | None:
    ripe = await _count(self, part, token, claim)
    if ripe is not None and _AT == "counted":
        _die()
    return ripe


async def _settled(self: EffectsWriter, settlements: Sequence[Settlement], ttl_s: int) -> int:
    causes = any(item.effects for item in settlements)
    if causes and _AT == "planned":
        _die()
    ours = await _settle(self, settlements, ttl_s)
    if causes and _AT == "settled":
        _die()
    return ours


ChordParts.count = _counted  # type: ignore[method-assign]  # the point of this module
EffectsWriter.settle = _settled  # type: ignore[method-assign]
