"""The GPUs of a worker, and what the engine is asked for so that sandboxes get them. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from crucible.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

SETTING = "CRUCIBLE_GPUS"
#: Declared and never handed to the engine, such as in tests: ``simulated:2``.
_SIMULATED = re.compile(r"simulated:([1-9]\d?)\Z")
#: An index, or a UUID as ``nvidia-smi -L`` prints it.
_DEVICE = re.compile(r"(\d{1,3}|(GPU|MIG)-[0-9A-Za-z/-]{1,100})\Z")
ALL = "all"


def check_gpus(gpus: Sequence[str]) -> None:
    """Refuse what names no GPUs.

    Raises:
        SettingsError: an entry is neither a device, nor ``all``, nor ``simulated:N``; or one of
            the latter two is not alone.
    """
    for entry in gpus:
        alone = entry == ALL or _SIMULATED.match(entry)
        if not alone and not _DEVICE.match(entry):
            raise SettingsError(SETTING, f"{entry!r} is no index, UUID, all or simulated:N")
        if alone and len(gpus) > 1:
            raise SettingsError(SETTING, f"{entry} must be alone")


def count_of(gpus: Sequence[str]) -> int:
    """How many there are; with ``all`` at least one."""
    if len(gpus) == 1 and (match := _SIMULATED.match(gpus[0])):
        return int(match[1])
    return len(gpus)


def device_requests(gpus: Sequence[str]) -> list[dict[str, Any]]:
    """``DeviceRequests`` of a container; empty where there is nothing to ask for."""
    if not gpus or _SIMULATED.match(gpus[0]):
        return []
    request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]], "Options": {}}
    # The engine takes a count or names, not both; -1 is all.
    which = {"Count": -1} if gpus[0] == ALL else {"Count": 0, "DeviceIDs": list(gpus)}
    return [request | which]
