"""The text of keys: recognised without a look-up, and shown nowhere."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crucible.errors import InputError
from crucible.identity.keys import Secret, StoredKey, checked_request, made, shown
from crucible.identity.secret import credential_in, digest_of, new_secret, start_of


def test_a_key_has_the_form_that_scanners_know() -> None:
    """The prefix, 30 characters of base 62, and 6 of their checksum."""
    secret = new_secret()
    assert re.fullmatch(r"crk_[0-9A-Za-z]{36}", secret)
    assert digest_of(secret) == hashlib.sha256(secret.encode()).digest()
    assert len({new_secret() for _ in range(1000)}) == 1000


def test_one_wrong_character_is_noticed_without_a_look_up() -> None:
    """The checksum depends on every character before it."""
    secret = new_secret()
    for place in range(4, len(secret)):
        other = "a" if secret[place] != "a" else "b"
        assert digest_of(secret[:place] + other + secret[place + 1 :]) is None


@given(st.text(max_size=60))
def test_other_texts_are_no_keys(text: str) -> None:
    """Whatever a client sends is looked at without an error."""
    assert digest_of(text) is None


@pytest.mark.parametrize("form", ["", "crk_", "{}\n", " {}", "{}{}"])
def test_nearly_a_key_is_none(form: str) -> None:
    """The form is exact."""
    secret = new_secret()
    assert digest_of(form.format(secret, secret)) is None


@pytest.mark.parametrize(
    ("authorization", "api_key", "expected"),
    [
        (None, None, None),
        ("Bearer a", None, "a"),
        ("bearer  a ", None, "a"),
        (None, "b", "b"),
        ("Bearer a", "b", "a"),
        ("Basic a", "b", "b"),
        ("Basic a", None, None),
        ("Bearer", None, ""),
        ("", "b", "b"),
    ],
)
def test_where_a_key_is_looked_for(
    authorization: str | None, api_key: str | None, expected: str | None
) -> None:
    """``Authorization: Bearer`` goes before ``X-API-Key``; other schemes are not ours."""
    assert credential_in(authorization, api_key) == expected


def test_a_secret_is_in_no_representation() -> None:
    """Logs and tracebacks show representations; what is shown of a key is its start."""
    secret = new_secret()
    digest = digest_of(secret)
    assert digest is not None
    key = StoredKey(
        id="key_0123456789ab",
        name="n",
        tenant="t",
        tier="standard",
        scopes=("read",),
        start=start_of(secret),
        secrets=(Secret(digest),),
        created_ms=1,
    )
    for value in (key, made(key, secret), shown(key)):
        assert secret not in repr(value)
    assert made(key, secret).key == secret
    assert start_of(secret) == secret[:8]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"tenant": "t"}, "name"),
        ({"name": "", "tenant": "t"}, "name"),
        ({"name": "x" * 101, "tenant": "t"}, "name"),
        ({"name": "a\nb", "tenant": "t"}, "name"),
        ({"name": "n"}, "tenant"),
        ({"name": "n", "tenant": "a:b"}, "tenant"),
        ({"name": "n", "tenant": ""}, "tenant"),
        ({"name": "n", "tenant": "t", "tier": "gold"}, "tier"),
        ({"name": "n", "tenant": "t", "scopes": []}, "scopes"),
        ({"name": "n", "tenant": "t", "scopes": ["write"]}, "scopes[0]"),
        ({"name": "n", "tenant": "t", "scopes": ["read", "read"]}, "scopes"),
        ({"name": "n", "tenant": "t", "key": "crk_mine"}, "key"),
    ],
)
def test_what_a_key_cannot_be_is_refused_by_name(fields: dict[str, object], field: str) -> None:
    """Also that a client chooses its secret."""
    with pytest.raises(InputError) as caught:
        checked_request(fields)
    assert caught.value.field == field
