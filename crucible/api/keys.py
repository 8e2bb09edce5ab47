"""The handlers of ``/api/v1/keys``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crucible.api.app_keys import SETTINGS
from crucible.api.callers import CALLERS
from crucible.errors import InputError
from crucible.evaluation.request_errors import undecodable
from crucible.http.answers import json_answer
from crucible.http.body import read_body
from crucible.identity.key_store import MAX_GRACE_S, check_scripting
from crucible.identity.keys import KeyShown, checked_request, made, shown
from crucible.validation import input_error

if TYPE_CHECKING:
    from aiohttp import web

#: Answers with a secret are kept by nobody on the way.
_UNKEPT = {"Cache-Control": "no-store"}


class KeyList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``GET /api/v1/keys``.

    Attributes:
        keys: the newest first, revoked ones included.
    """

    keys: list[KeyShown]


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of ``POST /api/v1/keys/{key_id}/rotate``; it may be left out.

    Attributes:
        grace_s: seconds for which the secret until now stays valid.
    """

    grace_s: float = 0.0


async def create(request: web.Request) -> web.Response:
    """``POST /api/v1/keys``: make a key; the answer is the only one that has its secret."""
    body = await _body_of(request)
    try:
        fields = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None
    wanted = checked_request(fields)
    check_scripting(request.app[SETTINGS])
    table = request.app[CALLERS].table
    key, secret = await table.store.create(wanted)
    await table.refresh()
    return json_answer(made(key, secret), 201, headers=_UNKEPT)


async def list_(request: web.Request) -> web.Response:
    """``GET /api/v1/keys``: all keys, without their secrets."""
    return json_answer(KeyList(keys=await request.app[CALLERS].table.store.shown()))


async def revoke(request: web.Request) -> web.Response:
    """``DELETE /api/v1/keys/{key_id}``: revoke a key; again does no harm."""
    table = request.app[CALLERS].table
    key = await table.store.revoke(request.match_info["key_id"])
    await table.refresh()
    return json_answer(shown(key))


async def rotate(request: web.Request) -> web.Response:
    """``POST /api/v1/keys/{key_id}/rotate``: give a key a new secret."""
    body = await _body_of(request)
    try:
        rotation = msgspec.json.decode(body, type=Rotation) if body else Rotation()
    except msgspec.ValidationError as error:
        raise input_error(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise undecodable(error, body) from None
    if not 0 <= rotation.grace_s <= MAX_GRACE_S:
        raise InputError("grace_s", f"must be between 0 and {MAX_GRACE_S}")
    table = request.app[CALLERS].table
    key, secret = await table.store.rotate(request.match_info["key_id"], rotation.grace_s)
    await table.refresh()
    return json_answer(made(key, secret), headers=_UNKEPT)


async def _body_of(request: web.Request) -> bytes:
    return await read_body(request, "CRUCIBLE_MAX_BODY_KB")
