"""The metadata of what is made of evaluations: an assessment, a workflow. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from crucible.errors import InputError
from crucible.evaluation.request import MAX_METADATA_BYTES


def check_kept_metadata(metadata: dict[str, Any]) -> None:
    """Refuse metadata that cannot be stored as MessagePack, or are too long.

    Raises:
        InputError: names ``metadata``.
    """
    try:
        size = len(msgspec.json.encode(metadata))
        msgspec.msgpack.encode(metadata)
    except (OverflowError, RecursionError):
        raise InputError("metadata", "has a number or a depth that cannot be kept") from None
    if size > MAX_METADATA_BYTES:
        raise InputError("metadata", f"must not exceed {MAX_METADATA_BYTES} bytes of JSON")
