"""The text of a key: ``crk_``, 30 random characters, and 6 that follow from them.

The last six are a checksum, so that what is mistyped or made up is refused without a look-up, and
so that scanners for leaked secrets recognise keys. Only a hash of the text is ever stored: it is
too random to be guessed from one, so the hash needs neither salt nor many rounds.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib

_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
PREFIX = "crk_"
_RANDOM, _CHECK = 30, 6
#: How many characters are shown of a key to tell it from others.
_SHOWN = len(PREFIX) + 4
_FORM = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_RANDOM}}})([0-9A-Za-z]{{{_CHECK}}})")


def new_secret() -> str:
    """The text of a new key."""
    body = "".join(secrets.choice(_DIGITS) for _ in range(_RANDOM))
    return f"{PREFIX}{body}{_checksum(body)}"


def digest_of(text: str) -> bytes | None:
    """The hash under which a key is known; None where the text can be no key."""
    form = _FORM.fullmatch(text)
    if form is None or _checksum(form[1]) != form[2]:
        return None
    return hashlib.sha256(text.encode()).digest()


def credential_in(authorization: str | None, api_key: str | None) -> str | None:
    """What a request gives as its key; None where it gives nothing.

    Args:
        authorization: the field ``Authorization``; only its scheme ``Bearer`` counts.
        api_key: the field ``X-API-Key``.
    """
    scheme, _, text = (authorization or "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else api_key


def start_of(secret: str) -> str:
    """The part of a key that may be shown, for people to tell keys apart."""
    return secret[:_SHOWN]


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CHECK):
        number, digit = divmod(number, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return digits
