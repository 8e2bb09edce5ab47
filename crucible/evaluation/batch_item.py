"""One program of a batch: a submission that may carry the client's own name for it."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import msgspec
from msgspec import Meta

from crucible.evaluation.request import EvalRequest, decode_as


class BatchItem(EvalRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One item of ``POST /api/eval/batch``: the body of ``POST /api/eval``, and a name for it.

    Attributes:
        custom_id: returned with the outcome of this item, and no part of its content.
    """

    custom_id: Annotated[str, Meta(max_length=256)] | None = None


class _Named(msgspec.Struct):
    custom_id: str | None = None


_decoder = msgspec.json.Decoder(BatchItem)
_name_decoder = msgspec.json.Decoder(_Named)


def decode_item(raw: bytes) -> BatchItem:
    """Parse and shape-check one item.

    Raises:
        InputError: as ``request.decode_request``.
    """
    return decode_as(raw, _decoder)


def custom_id_of(raw: bytes) -> str | None:
    """The ``custom_id`` of an item that is wrong otherwise; None where it cannot be read."""
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _name_decoder.decode(raw).custom_id
    return None
